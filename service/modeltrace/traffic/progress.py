"""How a run of traffic looks while it goes on: one live line, plain lines, or JSON."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Protocol, Self

import orjson
from rich.console import Console
from rich.live import Live
from rich.style import Style
from rich.text import Text

from modeltrace.traffic.tally import TrafficCounts

# Seconds over which the shown rate is taken.
RATE_WINDOW = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment. Rate in requests/s over the last seconds, latencies in milliseconds."""

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
        """The run in one line; a count that ought to be zero and is, is left out (but for failures).

        Args:
            latency: whether to show percentiles.
            full_trace_id: whether the trace ID is shown in full, to be copied, rather than its start.
            hub_url: the hub's address, when the trace ID is to be a link.
        """
        parts = [Text(f"{self.rate:.0f}/s"), Text(f"{self.sent:,} sent")]
        if self.rejected:
            parts.append(Text(f"{self.rejected:,} refused as asked"))
        if self.labels:
            parts.append(Text(f"{self.labels:,} labels"))
        parts.append(Text(f"{self.failed:,} failed", style="red" if self.failed else ""))
        if self.dropped:
            parts.append(Text(f"{self.dropped:,} behind", style="yellow"))
        if latency and self.p50_ms is not None and self.p99_ms is not None:
            parts += [Text(f"p50 {self.p50_ms:.0f} ms"), Text(f"p99 {self.p99_ms:.0f} ms")]
        if self.last_trace_id:
            shown = f"/t/{self.last_trace_id}" if full_trace_id else f"/t/{self.last_trace_id[:8]}…"
            link = Style(link=f"{hub_url}/t/{self.last_trace_id}") if hub_url else Style()
            parts.append(Text.assemble("last trace ", (shown, link)))
        return Text(" · ").join(parts)


class RateMeter:
    """Requests a second over the last `RATE_WINDOW`."""

    def __init__(self, now: float) -> None:
        self._readings = deque([(now, 0)])

    def measure(self, now: float, sent: int) -> float:
        """Note how many were sent until now."""
        self._readings.append((now, sent))
        while len(self._readings) > 2 and self._readings[1][0] <= now - RATE_WINDOW:
            self._readings.popleft()
        then, before = self._readings[0]
        return (sent - before) / (now - then) if now > then else 0.0


def take_snapshot(tally: TrafficCounts, rate: float) -> Snapshot:
    """Read the tally."""
    p50, p99 = tally.percentile(0.5), tally.percentile(0.99)
    return Snapshot(
        rate=round(rate, 1),
        sent=tally.sent,
        answered=tally.answered,
        rejected=tally.rejected,
        failed=tally.failed,
        dropped=tally.dropped,
        rows=tally.rows,
        labelled=tally.labelled,
        correct=tally.correct,
        labels=tally.labels,
        p50_ms=None if p50 is None else round(p50 * 1000, 1),
        p99_ms=None if p99 is None else round(p99 * 1000, 1),
        last_trace_id=tally.last_trace_id,
        last_failure=tally.last_failure,
    )


class ProgressDisplay(Protocol):
    """Shows a run. `interval` is the time between two looks, in seconds; `None`: only the end is shown."""

    interval: float | None

    def update(self, now: Snapshot) -> None:
        """Show how the run stands."""

    def finish(self, end: Snapshot) -> None:
        """Show how it ended."""


class LiveDisplay:
    """One line that is rewritten in place: for a terminal."""

    interval: float | None = 0.25

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, where)

    def update(self, now: Snapshot) -> None:
        """Rewrite the line."""
        self._live.update(now.to_text(), refresh=True)

    def finish(self, end: Snapshot) -> None:
        """Leave the last line standing."""
        self._live.console.print(end.to_text(full_trace_id=True))


class PlainDisplay:
    """A line now and then: for a file or a pipe."""

    def __init__(self, console: Console, interval: float | None) -> None:
        self.interval = interval
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, now: Snapshot) -> None:
        """Print a line."""
        self._console.print(now.to_text(full_trace_id=True), soft_wrap=True)

    finish = update


class JsonDisplay:
    """A JSON object a line: for programs. The last one is the end."""

    def __init__(self, write: Callable[[str], None], interval: float | None) -> None:
        self.interval = interval
        self._write = write

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, now: Snapshot) -> None:
        """Write one object."""
        self._write(orjson.dumps(asdict(now)).decode())

    finish = update


async def show_progress(counts: TrafficCounts, display: ProgressDisplay, ended: asyncio.Event) -> None:
    """Show the tally at every interval, and once more at the end, when `ended` is set."""
    meter = RateMeter(time.monotonic())
    while not ended.is_set():
        try:
            async with asyncio.timeout(display.interval):
                await ended.wait()
        except TimeoutError:
            display.update(take_snapshot(counts, meter.measure(time.monotonic(), counts.sent)))
    display.finish(take_snapshot(counts, counts.sent / counts.duration if counts.duration else 0.0))
