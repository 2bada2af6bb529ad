"""Compare the traces that simulated services sent with the spans that arrived in the backend."""

from collections import Counter
from dataclasses import asdict, dataclass

from bench.span_sink import SpanSink
from bench.trace_load import SPANS_PER_TRACE, Sent

# Seconds after the sampling decision from which a span is late.
LATE_SECONDS = 10.0


@dataclass(frozen=True)
class Arrival:
    """What arrived of the traces that were sent."""

    traces: int
    kept: int  # traces that had to arrive
    complete: int
    partial: int
    absent: int
    unexpected: int  # traces without an error that arrived in spite of the sampling
    divided: int  # traces with spans from more than one gateway
    duplicates: int  # spans that arrived again
    late: int

    @property
    def lost_spans(self) -> int:
        """An upper bound of the spans that did not arrive."""
        return SPANS_PER_TRACE * (self.partial + self.absent)

    def to_json(self) -> dict[str, int]:
        """Return all numbers."""
        return {**asdict(self), "lost_spans": self.lost_spans}


def compare(sent: Sent, sinks: list[SpanSink], *, sampling: bool, wait_seconds: float) -> Arrival:
    """Compare the traces that were sent with the spans that arrived."""
    counts: Counter[str] = Counter()
    for trace, (sent_at, failed) in sent.traces.items():
        parts = [sink.spans[trace] for sink in sinks if trace in sink.spans]
        arrivals: dict[bytes, list[float]] = {}
        for part in parts:
            for span, times in part.items():
                arrivals.setdefault(span, []).extend(times)
        counts["divided"] += len(parts) > 1
        counts["duplicates"] += sum(len(times) - 1 for times in arrivals.values())
        due = sent_at + (wait_seconds if sampling else 0.0) + LATE_SECONDS
        counts["late"] += sum(min(times) > due for times in arrivals.values())
        if sampling and not failed:
            counts["unexpected"] += bool(arrivals)
            continue
        counts["kept"] += 1
        state = "complete" if len(arrivals) == SPANS_PER_TRACE else "partial" if arrivals else "absent"
        counts[state] += 1
    names = ("kept", "complete", "partial", "absent", "unexpected", "divided", "duplicates", "late")
    return Arrival(len(sent.traces), *(counts[name] for name in names))
