"""Show the progress of a traffic run: a live line in a terminal, or a new line of text or JSON at each interval."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.style import Style
from rich.text import Text

from modeltrace.traffic.counts import TrafficCounts

# Seconds over which the displayed rate is measured.
RATE_WINDOW = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts of a run at one time. `rate` is in requests/s over the last seconds, latencies are in milliseconds."""

    rate: float
    sent: int
    answered: int
    rejected: int
    failed: int
    dropped: int
    rows: int
    labelled: int
    correct: int
    labels: int
    p50_ms: float | None
    p99_ms: float | None
    last_trace_id: str | None
    last_failure: str | None

    def to_text(self, *, latency: bool = True, full_trace_id: bool = False, hub_url: str | None = None) -> Text:
        """Return the counts in one line. Counts of 0 are omitted, except for failures.

        Args:
            latency: whether to include percentiles.
            full_trace_id: whether to include the whole trace ID, for copying, instead of its first digits.
            hub_url: the hub that the trace ID links to.
        """
        parts = [Text(f"{self.rate:.0f}/s"), Text(f"{self.sent:,} sent")]
        if self.rejected:
            parts.append(Text(f"{self.rejected:,} rejected as expected"))
        if self.labels:
            parts.append(Text(f"{self.labels:,} labels"))
        parts.append(Text(f"{self.failed:,} failed", style="red" if self.failed else ""))
        if self.dropped:
            parts.append(Text(f"{self.dropped:,} dropped", style="yellow"))
        if latency and self.p50_ms is not None and self.p99_ms is not None:
            parts += [Text(f"p50 {self.p50_ms:.0f} ms"), Text(f"p99 {self.p99_ms:.0f} ms")]
        if self.last_trace_id:
            shown = f"/t/{self.last_trace_id}" if full_trace_id else f"/t/{self.last_trace_id[:8]}…"
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
    p50, p99 = counts.percentile(0.5), counts.percentile(0.99)
    return Snapshot(
        rate=round(rate, 1),
        sent=counts.sent,
        answered=counts.answered,
        rejected=counts.rejected,
        failed=counts.failed,
        dropped=counts.dropped,
        rows=counts.rows,
        labelled=counts.labelled,
        correct=counts.correct,
        labels=counts.labels,
        p50_ms=None if p50 is None else round(p50 * 1000, 1),
        p99_ms=None if p99 is None else round(p99 * 1000, 1),
        last_trace_id=counts.last_trace_id,
        last_failure=counts.last_failure,
    )


class ProgressDisplay(Protocol):
    """Display of a run. `interval` is the number of seconds between updates; `None` shows only the end."""

    interval: float | None

    def update(self, snapshot: Snapshot) -> None:
        """Show an intermediate state."""

    def finish(self, snapshot: Snapshot) -> None:
        """Show the final state."""


class LiveDisplay:
    """One line that is rewritten in place, for a terminal."""

    interval: float | None = 0.25

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def update(self, snapshot: Snapshot) -> None:
        """Rewrite the line."""
        self._live.update(snapshot.to_text(), refresh=True)

    def finish(self, snapshot: Snapshot) -> None:
        """Print the final line, which stays."""
        self._live.console.print(snapshot.to_text(full_trace_id=True))


class LineDisplay:
    """One line per snapshot, for a file, a pipe or a program."""

    def __init__(self, write: Callable[[Snapshot], object], interval: float | None) -> None:
        """Create a display. `write` prints one snapshot."""
        self.interval = interval
        self._write = write

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, snapshot: Snapshot) -> None:
        """Print a line."""
        self._write(snapshot)

    finish = update


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
