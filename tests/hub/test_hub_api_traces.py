"""`GET /api/traces` of a running hub: order, filters and invalid parameters."""

import secrets
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_messages import attribute, resource, span

MS = 10**6
NOW = time.time_ns()
ERROR = Status(code=Status.STATUS_CODE_ERROR)


def send(hub: InProcessHub, *spans: Span, service: str) -> None:
    """Store spans of one service."""
    request = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource(service), scope_spans=[ScopeSpans(spans=spans)])]
    )
    response = hub.client.post(
        "/v1/traces", content=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
    )
    assert response.status_code == 200, response.text


def timed(start_ns: int = NOW, duration_ns: int = MS, **fields: Any) -> Span:
    """Return a span with a start and a duration."""
    return span(start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + duration_ns, **fields)


def unique_service() -> str:
    """Return a unique service name."""
    return f"svc-{secrets.token_hex(4)}"


def get(hub: InProcessHub, **parameters: str) -> dict[str, Any]:
    """Return the JSON of the list."""
    response = httpx.get(f"{hub.page_url}/api/traces", params=parameters, timeout=20)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    return result


def ids(hub: InProcessHub, **parameters: str) -> list[str]:
    """Return the trace IDs of the list."""
    return [trace["trace_id"] for trace in get(hub, **parameters)["traces"]]


def test_the_newest_trace_is_first(hub: InProcessHub) -> None:
    """Traces are listed by start, the latest first."""
    service = unique_service()
    spans = [timed(NOW - age * MS) for age in (3, 1, 2)]
    send(hub, *spans, service=service)

    assert ids(hub, service=service) == [spans[n].trace_id.hex() for n in (1, 2, 0)]


def test_old_traces_are_listed_after_new_ones(hub: InProcessHub) -> None:
    """A trace of last year is listed after a trace of now."""
    service = unique_service()
    old, new = timed(NOW - 365 * 86400 * 10**9), timed()
    send(hub, old, new, service=service)

    assert ids(hub, service=service) == [new.trace_id.hex(), old.trace_id.hex()]


def test_a_trace_is_summarized(hub: InProcessHub) -> None:
    """A row has the root span, the duration from end to end, and the prediction."""
    client, server = unique_service(), unique_service()
    root = timed(NOW, 9 * MS, name="POST", kind=Span.SPAN_KIND_CLIENT)
    child = timed(
        NOW + MS,
        7 * MS,
        trace_id=root.trace_id,
        parent_span_id=root.span_id,
        name="POST /predict",
        kind=Span.SPAN_KIND_SERVER,
        status=ERROR,
        attributes=[
            attribute("ml.prediction.id", "p"),
            attribute("ml.prediction.label", "benign"),
            KeyValue(key="ml.prediction.confidence", value=AnyValue(double_value=0.75)),
        ],
    )
    root.attributes.append(KeyValue(key="http.response.status_code", value=AnyValue(int_value=500)))
    send(hub, child, service=server)
    send(hub, root, service=client)

    (trace,) = get(hub, service=server)["traces"]

    assert {key: trace[key] for key in ("trace_id", "name", "service_name", "start_ns", "duration_ns")} == {
        "trace_id": root.trace_id.hex(),
        "name": "POST",
        "service_name": client,
        "start_ns": NOW,
        "duration_ns": 9 * MS,
    }
    assert trace["services"] == [client, server]  # that of the root is the first
    assert (trace["span_count"], trace["error_count"], trace["status_code"]) == (2, 1, 500)
    assert (trace["output"], trace["confidence"]) == ("benign", 0.75)


def test_a_batch_has_its_size(hub: InProcessHub) -> None:
    """The list has the size of a batch."""
    service = unique_service()
    rows = KeyValue(key="ml.inference.batch.size", value=AnyValue(int_value=10_000))
    send(hub, timed(kind=Span.SPAN_KIND_SERVER, attributes=[rows]), service=service)

    assert get(hub, service=service)["traces"][0]["batch_size"] == 10_000


def test_a_trace_without_root_is_named_by_its_earliest_span(hub: InProcessHub) -> None:
    """A trace whose root span is not stored is listed, too."""
    service = unique_service()
    send(hub, timed(parent_span_id=b"12345678", name="child"), service=service)

    assert get(hub, service=service)["traces"][0]["name"] == "child"


def test_a_span_sent_twice_counts_once(hub: InProcessHub) -> None:
    """A sender that gets no response sends again."""
    service = unique_service()
    sent_span = timed()
    send(hub, sent_span, service=service)
    send(hub, sent_span, service=service)

    assert get(hub, service=service)["traces"][0]["span_count"] == 1


def test_the_list_has_pages(hub: InProcessHub) -> None:
    """`next` leads to older traces; each trace is listed once, and the last page has no `next`."""
    service = unique_service()
    spans = [timed(NOW - 5 * MS) for _ in range(3)] + [timed(NOW - n * 3600 * 10**9) for n in range(4)]
    send(hub, *spans, service=service)
    seen: list[str] = []
    more: dict[str, str] = {}
    for _ in range(4):
        result = get(hub, service=service, limit="2", **more)
        seen += [trace["trace_id"] for trace in result["traces"]]
        if result["next"] is None:
            break
        more = {"cursor": result["next"]}

    assert len(seen) == 7
    assert set(seen) == {item.trace_id.hex() for item in spans}


def test_spans_are_found_by_part_of_their_name(hub: InProcessHub) -> None:
    """`name` is a part of a span name; case is ignored."""
    service = unique_service()
    expected = timed(name="POST /predict")
    send(hub, expected, timed(name="GET /model"), service=service)

    assert ids(hub, service=service, name="Predict") == [expected.trace_id.hex()]


def test_traces_are_found_by_an_attribute_of_a_span(hub: InProcessHub) -> None:
    """`attr.KEY=VALUE` selects by an attribute of any type, with dots in its name."""
    service = unique_service()
    expected = timed(attributes=[KeyValue(key="http.response.status_code", value=AnyValue(int_value=422))])
    send(hub, expected, timed(attributes=[attribute("http", "422")]), service=service)

    assert ids(hub, **{"service": service, "attr.http.response.status_code": "422"}) == [expected.trace_id.hex()]


def test_traces_are_found_by_an_attribute_of_the_resource(hub: InProcessHub) -> None:
    """Resource attributes are selected in the same way."""
    service = unique_service()
    expected = timed()
    send(hub, expected, service=service)

    assert ids(hub, **{"attr.service.name": service}) == [expected.trace_id.hex()]


def test_all_attribute_filters_must_match(hub: InProcessHub) -> None:
    """Two attributes must be on the same span."""
    service = unique_service()
    both = timed(attributes=[attribute("a", "1"), attribute("b", "2")])
    send(hub, both, timed(attributes=[attribute("a", "1")]), service=service)

    assert ids(hub, **{"service": service, "attr.a": "1", "attr.b": "2"}) == [both.trace_id.hex()]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    key=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
    value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
)
def test_any_attribute_can_be_selected(hub: InProcessHub, key: str, value: str) -> None:
    """Keys and values with quotes, slashes, tildes and dollars select what was sent."""
    service = unique_service()
    expected = timed(attributes=[attribute(key, value)])
    send(hub, expected, timed(), service=service)

    assert ids(hub, **{"service": service, f"attr.{key}": value}) == [expected.trace_id.hex()]


def test_the_summary_covers_all_spans(hub: InProcessHub) -> None:
    """A filter selects traces; the summary is of all their spans."""
    service = unique_service()
    root = timed(NOW, 9 * MS)
    child = timed(NOW + MS, trace_id=root.trace_id, parent_span_id=root.span_id, attributes=[attribute("k", "v")])
    send(hub, root, child, service=service)

    (trace,) = get(hub, **{"service": service, "attr.k": "v"})["traces"]

    assert (trace["span_count"], trace["duration_ns"]) == (2, 9 * MS)


def test_traces_are_found_by_duration(hub: InProcessHub) -> None:
    """`min_duration` and `max_duration` apply to the whole trace."""
    service = unique_service()
    spans = [timed(duration_ns=n * MS) for n in (100, 300, 500)]
    send(hub, *spans, service=service)

    result = ids(hub, service=service, min_duration="200ms", max_duration="0.4s")

    assert result == [spans[1].trace_id.hex()]


@pytest.mark.parametrize(("error", "index"), [("true", 0), ("false", 1)])
def test_traces_are_found_by_error(hub: InProcessHub, error: str, index: int) -> None:
    """`error` separates traces with a failed span from those without."""
    service = unique_service()
    bad, good = timed(status=ERROR), timed()
    send(hub, bad, timed(trace_id=bad.trace_id), good, service=service)

    assert ids(hub, service=service, error=error) == [(bad, good)[index].trace_id.hex()]


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-01-31T11:59:00Z", "2026-01-31T13:01:00+01:00"),
        ("1769860740", "1769860860.5"),
    ],
)
def test_traces_are_found_by_time(hub: InProcessHub, since: str, until: str) -> None:
    """`since` and `until` are RFC 3339 or unix seconds, and apply to the start of the trace."""
    service = unique_service()
    noon = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()) * 10**9
    expected = timed(noon)
    send(hub, timed(noon - 3600 * 10**9), expected, timed(noon + 3600 * 10**9), service=service)

    assert ids(hub, service=service, since=since, until=until) == [expected.trace_id.hex()]


def test_a_time_may_be_an_age(hub: InProcessHub) -> None:
    """`since=15m` is fifteen minutes ago."""
    service = unique_service()
    expected = timed(time.time_ns())
    send(hub, expected, timed(time.time_ns() - 3600 * 10**9), service=service)

    assert ids(hub, service=service, since="15m") == [expected.trace_id.hex()]


def test_an_empty_parameter_is_ignored(hub: InProcessHub) -> None:
    """HTML forms send all their fields."""
    service = unique_service()
    send(hub, timed(), service=service)

    assert len(ids(hub, service=service, name="", since="", error="", min_duration="")) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "many"),
        ("since", "yesterday"),
        ("until", "99999-01-01T00:00:00Z"),
        ("min_duration", "300"),
        ("max_duration", "-1s"),
        ("error", "perhaps"),
        ("cursor", "x"),
        ("nonsense", "1"),
    ],
)
def test_an_invalid_parameter_is_422(hub: InProcessHub, name: str, value: str) -> None:
    """The error names the parameter."""
    response = httpx.get(f"{hub.page_url}/api/traces", params={name: value})

    assert response.status_code == 422
    assert response.json()["error"]["type"] == "invalid_parameter"
    assert name in response.json()["error"]["message"]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(
        ["limit", "since", "until", "min_duration", "max_duration", "error", "cursor", "service", "name", "attr.a"]
    ),
    value=st.text(max_size=30) | st.from_regex(r"\A-?[0-9]{1,25}(\.[0-9]{1,12})?(ns|s|m|d)?\Z"),
)
def test_any_parameter_is_handled(hub: InProcessHub, name: str, value: str) -> None:
    """Any query gives a list or an error message."""
    assert httpx.get(f"{hub.page_url}/api/traces", params={name: value}).status_code in {200, 422}
