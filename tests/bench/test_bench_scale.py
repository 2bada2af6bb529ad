"""The scale bench: what was sent and what arrived is compared trace by trace."""

from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console

from bench.scale import print_result, run
from bench.span_sink import SpanSink
from bench.trace_arrival import LATE_SECONDS, compare
from bench.trace_load import SPANS_PER_TRACE, Sent, encode_caller, encode_model

TRACES = [bytes([number]) * 8 + bytes([number + 100]) * 8 for number in range(4)]


def spans_of(*bodies: bytes) -> dict[bytes, list[bytes]]:
    """Return the IDs of the spans in encoded requests, by trace ID."""
    spans: dict[bytes, list[bytes]] = {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for span in resource.scope_spans[0].spans:
                spans.setdefault(span.trace_id, []).append(span.span_id)
    return spans


def sink_of(arrivals: Mapping[bytes, Sequence[tuple[bytes, float]]]) -> SpanSink:
    """Return a sink in which these spans arrived at these times."""
    sink = SpanSink()
    for trace, spans in arrivals.items():
        for span, time in spans:
            sink.spans[trace][span].append(time)
    return sink


def test_a_trace_has_four_spans_of_two_services() -> None:
    """All IDs differ, and only the server span of a failed trace has an error."""
    caller, model = encode_caller(0, TRACES), encode_model(0, TRACES, {TRACES[0]})
    spans = spans_of(caller, model)

    assert spans.keys() == set(TRACES)
    assert {len(set(identities)) for identities in spans.values()} == {SPANS_PER_TRACE}
    sent = ExportTraceServiceRequest.FromString(model).resource_spans[0].scope_spans[0].spans
    assert [span.trace_id for span in sent if span.status.code] == [TRACES[0]]


def test_every_difference_is_counted() -> None:
    """Complete, incomplete, absent and unexpected traces; traces of two gateways; repeated and late spans."""
    complete, partial, absent, fine = TRACES
    ids = spans_of(encode_caller(0, TRACES), encode_model(0, TRACES, set()))
    sent = Sent({trace: (100.0, trace != fine) for trace in TRACES})
    first = sink_of({complete: [(span, 101.0) for span in ids[complete]], fine: [(ids[fine][0], 101.0)]})
    second = sink_of({complete: [(ids[complete][0], 102.0)], partial: [(ids[partial][0], 103.1 + LATE_SECONDS)]})

    arrival = compare(sent, [first, second], sampling=True, wait_seconds=3.0)

    assert absent not in {**first.spans, **second.spans}
    assert (arrival.traces, arrival.kept) == (4, 3)
    assert (arrival.complete, arrival.partial, arrival.absent, arrival.unexpected) == (1, 1, 1, 1)
    assert (arrival.divided, arrival.duplicates, arrival.late, arrival.lost_spans) == (1, 1, 1, 8)


def test_without_sampling_every_trace_must_arrive() -> None:
    """A trace without an error is then neither unexpected nor left out."""
    arrival = compare(Sent({TRACES[0]: (0.0, False)}), [SpanSink()], sampling=False, wait_seconds=3.0)

    assert (arrival.kept, arrival.absent, arrival.unexpected) == (1, 1, 0)


@pytest.mark.stack
@pytest.mark.extended
@pytest.mark.slow
def test_a_short_run_loses_nothing_unless_a_gateway_that_samples_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Two services, then a gateway that is stopped or killed: the result is printed, and no trace is divided."""
    result = run(seconds=2, services=(2,), kafka=False, console=Console(stderr=True))
    print_result(result)

    assert result["spans_per_gateway_core_second"] > 0
    steps = [*result["throughput"], *(step for step in result["outages"] if not step["sampling"])]
    assert {(step["partial"], step["absent"], step["unexpected"], step["divided"]) for step in steps} == {(0, 0, 0, 0)}
    assert {(step["unexpected"], step["divided"]) for step in result["outages"]} == {(0, 0)}
    absent = {(step["outage"], step["absent"]) for step in result["outages"][:2]}
    assert absent == {("an agent is killed", 0), ("a gateway is stopped", 0)}
    printed = {word.replace(",", "") for word in capsys.readouterr().out.split()}
    assert {str(result["throughput"][0]["spans"]), str(result["outages"][0]["traces"])} <= printed
