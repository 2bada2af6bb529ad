"""An exemplar reservoir that prefers pinned and failed requests.

A data point has one exemplar per bucket and export interval. The SDK's reservoirs select the latest measurement or a
random one. This reservoir selects by rank: first a pinned request, then a failed request or a wrong prediction, then
any other request. Of several measurements with the same rank, it selects the latest.
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
# Key in the context of a measurement: whether the prediction is wrong.
WRONG_PREDICTION: Final = "modeltrace.wrong"


class PriorityReservoir(ExemplarReservoir):
    """Selects one exemplar per bucket, in the order pinned, failed, latest.

    Source: OpenTelemetry specification, metrics SDK, "ExemplarReservoir"; the buckets are
    defined as in AlignedHistogramBucketExemplarReservoir. Without boundaries (sums) there is one bucket.
    """

    def __init__(self, boundaries: Sequence[float] = (), **_: Any) -> None:  # noqa: ANN401  set by the aggregation
        self._boundaries = boundaries
        self._candidates: dict[int, tuple[int, Exemplar, Attributes]] = {}
        self._lock = Lock()

    def offer(self, value: float, time_unix_nano: int, attributes: Attributes, context: Context) -> None:
        """Store the measurement unless its bucket has one of a higher rank."""
        rank = _rank(attributes, context)
        span = trace.get_current_span(context).get_span_context()
        bucket = bisect_left(self._boundaries, value)
        with self._lock:
            candidate = self._candidates.get(bucket)
            if candidate is None or candidate[0] <= rank:
                exemplar = Exemplar({}, value, time_unix_nano, span.span_id, span.trace_id)
                self._candidates[bucket] = (rank, exemplar, attributes)

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:
        """Return the exemplars since the last collection, lowest bucket first, and remove them."""
        with self._lock:
            candidates, self._candidates = self._candidates, {}
        return [
            Exemplar(
                {k: v for k, v in (attributes or {}).items() if k not in (point_attributes or {})},
                exemplar.value,
                exemplar.time_unix_nano,
                exemplar.span_id,
                exemplar.trace_id,
            )
            for _, (_, exemplar, attributes) in sorted(candidates.items())
        ]


def _rank(attributes: Attributes, context: Context) -> int:
    if get_baggage(BAGGAGE_PIN, context) is not None:
        return PINNED
    failed = (attributes and ERROR_TYPE in attributes) or get_value(WRONG_PREDICTION, context)
    return FAILED if failed else LATEST


def reservoir_factory(_aggregation: type) -> type[PriorityReservoir]:
    """Return the reservoir for any aggregation, as the parameter of a View."""
    return PriorityReservoir
