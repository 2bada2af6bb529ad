"""Which requests become exemplars.

A point can carry few of them: one a bucket and export interval. Which one is worth following decides whether anyone
follows it. The stock reservoirs keep the latest or a random one; this keeps, per bucket, a pinned request before one
that failed or that was answered wrongly, and that before the latest.
"""

from bisect import bisect_left
from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.baggage import get_baggage
from opentelemetry.context import Context, get_value
from opentelemetry.sdk.metrics import Exemplar, ExemplarReservoir
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.util.types import Attributes

from modeltrace.telemetry.names import BAGGAGE_PIN

LATEST, FAILED, PINNED = range(3)
# In the context of a measurement: whether what it is about turned out to be wrong.
WRONG_PREDICTION: Final = "modeltrace.wrong"


class PriorityReservoir(ExemplarReservoir):
    """One exemplar a bucket: pinned before failed before latest.

    Source: OpenTelemetry specification, metrics SDK, "ExemplarReservoir"; the bucket rule is that of its
    AlignedHistogramBucketExemplarReservoir. Without boundaries (sums) there is one bucket.
    """

    def __init__(self, boundaries: Sequence[float] = (), **_: Any) -> None:  # noqa: ANN401  set by the aggregation
        self._boundaries = boundaries
        self._kept: dict[int, tuple[int, Exemplar, Attributes]] = {}
        self._lock = Lock()

    def offer(self, value: float, time_unix_nano: int, attributes: Attributes, context: Context) -> None:
        """Keep the measurement if none of a higher rank is in its bucket."""
        rank = _rank(attributes, context)
        span = trace.get_current_span(context).get_span_context()
        bucket = bisect_left(self._boundaries, value)
        with self._lock:
            kept = self._kept.get(bucket)
            if kept is None or kept[0] <= rank:
                exemplar = Exemplar({}, value, time_unix_nano, span.span_id, span.trace_id)
                self._kept[bucket] = (rank, exemplar, attributes)

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:
        """Hand over what was kept since the last time, lowest bucket first, and start afresh."""
        with self._lock:
            kept, self._kept = self._kept, {}
        return [
            Exemplar(
                {k: v for k, v in (attributes or {}).items() if k not in (point_attributes or {})},
                exemplar.value,
                exemplar.time_unix_nano,
                exemplar.span_id,
                exemplar.trace_id,
            )
            for _, (_, exemplar, attributes) in sorted(kept.items())
        ]


def _rank(attributes: Attributes, context: Context) -> int:
    if get_baggage(BAGGAGE_PIN, context) is not None:
        return PINNED
    return FAILED if (attributes and ERROR_TYPE in attributes) or get_value(WRONG_PREDICTION, context) else LATEST


def reservoir_factory(_aggregation: type) -> type[PriorityReservoir]:
    """What a View asks: the reservoir for an aggregation."""
    return PriorityReservoir
