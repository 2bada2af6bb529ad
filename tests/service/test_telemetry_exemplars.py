"""The choice of exemplars."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.baggage import set_baggage
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from modeltrace.telemetry.metrics.exemplars import PriorityReservoir
from modeltrace.telemetry.names import BAGGAGE_PIN

BOUNDS = (0.1, 0.5, 1.0)


def context_of(trace_id: int, *, pinned: bool = False) -> Context:
    """Return the context of a request with that trace ID."""
    span = NonRecordingSpan(SpanContext(trace_id, trace_id, is_remote=False, trace_flags=TraceFlags(1)))
    context = set_span_in_context(span, Context())
    return set_baggage(BAGGAGE_PIN, "1", context) if pinned else context


offers = st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["latest", "failed", "pinned"])), min_size=1, max_size=40)


@given(offers)
def test_each_bucket_keeps_the_latest_of_the_highest_rank(sequence: list[tuple[float, str]]) -> None:
    """In every bucket a pinned request is preferred to a failed one, and that to the latest."""
    reservoir = PriorityReservoir(boundaries=BOUNDS)
    best: dict[int, tuple[int, int]] = {}
    for number, (value, kind) in enumerate(sequence, start=1):
        attributes = {"error.type": "500"} if kind == "failed" else {}
        reservoir.offer(value, number, attributes, context_of(number, pinned=kind == "pinned"))
        rank = ["latest", "failed", "pinned"].index(kind)
        bucket = bisect_left(BOUNDS, value)
        best[bucket] = max(best.get(bucket, (-1, -1)), (rank, number))

    assert [e.trace_id for e in reservoir.collect({})] == [number for _, (_, number) in sorted(best.items())]


def test_a_collection_empties_the_reservoir() -> None:
    """An exemplar is returned once."""
    reservoir = PriorityReservoir()
    reservoir.offer(1, 1, {}, context_of(7))

    assert len(reservoir.collect({})) == 1
    assert reservoir.collect({}) == []


def test_an_exemplar_repeats_no_attribute_of_its_point() -> None:
    """The exemplar keeps only attributes that the point does not have, as the specification demands."""
    reservoir = PriorityReservoir()
    reservoir.offer(1, 1, {"route": "/predict", "user": "x"}, context_of(7))

    (exemplar,) = reservoir.collect({"route": "/predict"})

    assert exemplar.filtered_attributes == {"user": "x"}
