"""Show the progress of a traffic run at intervals."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields

from rich.style import Style
from rich.text import Text

from modeltrace.traffic.counts import Counts, TrafficCounts

# Seconds over which the displayed rate is measured.
RATE_WINDOW = 5.0


@dataclass(kw_only=True)
class Snapshot(Counts):
    """Counts of a run at one time. `rate` is in requests/s over the last seconds, latencies are in milliseconds."""

    rate: float
    p50_ms: float | None
    p99_ms: float | None

    def to_text(self, *, latency: bool = True, full_trace_id: bool = False, hub_url: str | None = None) -> Text:
        """Return the counts in one line. Counts of 0 are omitted, except for failures.

        Args:
            latency: whether to include percentiles.
            full_trace_id: whether to include the whole trace ID, with a hub as a URL, for copying, instead of its first
                digits.
            hub_url: the hub that the trace ID links to.
        """
        parts = [Text(f"{self.rate:.0f}/s"), Text(f"{self.sent:,} sent")]
        if self.rejected:
            parts.append(Text(f"{self.rejected:,} rejected as expected"))
        if self.labels:
            parts.append(Text(f"{self.labels:,} labels"))
        parts.append(Text(f"{self.failed:,} failed", style="red" if self.failed else ""))
        if self.dropped:
            parts.append(Text(f"{self.dropped:,} dropped (not sent: too many unanswered requests)", style="yellow"))
        if latency and self.p50_ms is not None and self.p99_ms is not None:
            parts += [Text(f"p50 {self.p50_ms:.0f} ms"), Text(f"p99 {self.p99_ms:.0f} ms")]
        if self.last_trace_id:
            shown = f"{hub_url or ''}/t/{self.last_trace_id}" if full_trace_id else f"/t/{self.last_trace_id[:8]}…"
            link = Style(link=f"{hub_url}/t/{self.last_trace_id}") if hub_url else Style()
            parts.append(Text.assemble("last trace ", (shown, link)))
        return Text(" · ").join(parts)


class RateMeter:
    """Requests per second over the last `RATE_WINDOW` seconds."""

    def __init__(self, now: float) -> None:
        self._readings = deque([(now, 0)])

    def measure(self, now: float, sent: int) -> float:
        """Add a reading of the number of requests sent so far. Return the rate."""
        self._readings.append((now, sent))
        while len(self._readings) > 2 and self._readings[1][0] <= now - RATE_WINDOW:
            self._readings.popleft()
        start, sent_before = self._readings[0]
        return (sent - sent_before) / (now - start) if now > start else 0.0


def take_snapshot(counts: TrafficCounts, rate: float) -> Snapshot:
    """Return a snapshot of the counts."""
    return Snapshot(
        **{field.name: getattr(counts, field.name) for field in fields(Counts)},
        rate=round(rate, 1),
        p50_ms=counts.latency_ms(0.5),
        p99_ms=counts.latency_ms(0.99),
    )


@dataclass(frozen=True, slots=True)
class ProgressDisplay:
    """Display of a run.

    Attributes:
        update: shows an intermediate state.
        finish: shows the final state.
        interval: seconds between updates; `None` shows only the end.
    """

    update: Callable[[Snapshot], object]
    finish: Callable[[Snapshot], object]
    interval: float | None


async def show_progress(counts: TrafficCounts, display: ProgressDisplay, ended: asyncio.Event) -> None:
    """Update the display at its interval until `ended` is set, then show the final counts."""
    meter = RateMeter(time.monotonic())
    while not ended.is_set():
        try:
            async with asyncio.timeout(display.interval):
                await ended.wait()
        except TimeoutError:
            display.update(take_snapshot(counts, meter.measure(time.monotonic(), counts.sent)))
    display.finish(take_snapshot(counts, counts.sent / counts.duration if counts.duration else 0.0))
