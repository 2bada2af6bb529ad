"""`GET /api/traces` of a hub that listens: the order, the filters, what is refused."""

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
    answer = hub.client.post(
        "/v1/traces", content=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
    )
    assert answer.status_code == 200, answer.text


def timed(start_ns: int = NOW, duration_ns: int = MS, **fields: Any) -> Span:
    """A span at a time."""
    return span(start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + duration_ns, **fields)


def a_service() -> str:
    """A service's name that no other test has."""
    return f"svc-{secrets.token_hex(4)}"


def ask(hub: InProcessHub, **parameters: str) -> dict[str, Any]:
    """The list."""
    answer = httpx.get(f"{hub.page}/api/traces", params=parameters, timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(hub: InProcessHub, **parameters: str) -> list[str]:
    """The trace IDs of the list."""
    return [trace["trace_id"] for trace in ask(hub, **parameters)["traces"]]


def test_the_newest_trace_is_first(hub: InProcessHub) -> None:
    """Traces are listed by their start, the latest first."""
    service = a_service()
    spans = [timed(NOW - age * MS) for age in (3, 1, 2)]
    send(hub, *spans, service=service)

    assert ids(hub, service=service) == [spans[n].trace_id.hex() for n in (1, 2, 0)]


def test_old_traces_are_listed_after_new_ones(hub: InProcessHub) -> None:
    """A trace of last year is found behind one of now."""
    service = a_service()
    old, new = timed(NOW - 365 * 86400 * 10**9), timed()
    send(hub, old, new, service=service)

    assert ids(hub, service=service) == [new.trace_id.hex(), old.trace_id.hex()]


def test_a_trace_is_summed_up(hub: InProcessHub) -> None:
    """One line says who began it, how long it took from end to end, and what was predicted."""
    client, server = a_service(), a_service()
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

    (trace,) = ask(hub, service=server)["traces"]

    assert {key: trace[key] for key in ("trace_id", "name", "service_name", "start_ns", "duration_ns")} == {
        "trace_id": root.trace_id.hex(),
        "name": "POST",
        "service_name": client,
        "start_ns": NOW,
        "duration_ns": 9 * MS,
    }
    assert trace["services"] == sorted([client, server])
    assert (trace["span_count"], trace["error_count"], trace["status_code"]) == (2, 1, 500)
    assert (trace["label"], trace["confidence"]) == ("benign", 0.75)


def test_a_batch_says_how_many_rows(hub: InProcessHub) -> None:
    """The size of a batch stands in the list."""
    service = a_service()
    rows = KeyValue(key="ml.inference.batch.size", value=AnyValue(int_value=10_000))
    send(hub, timed(kind=Span.SPAN_KIND_SERVER, attributes=[rows]), service=service)

    assert ask(hub, service=service)["traces"][0]["rows"] == 10_000


def test_a_trace_without_its_root_goes_by_its_earliest_span(hub: InProcessHub) -> None:
    """A trace whose root is elsewhere is listed all the same."""
    service = a_service()
    send(hub, timed(parent_span_id=b"12345678", name="child"), service=service)

    assert ask(hub, service=service)["traces"][0]["name"] == "child"


def test_a_span_sent_twice_counts_once(hub: InProcessHub) -> None:
    """A sender that got no answer sends again."""
    service = a_service()
    one = timed()
    send(hub, one, service=service)
    send(hub, one, service=service)

    assert ask(hub, service=service)["traces"][0]["span_count"] == 1


def test_the_list_goes_on_after_its_end(hub: InProcessHub) -> None:
    """`next` leads to older traces, each is seen once, and the last part has none."""
    service = a_service()
    spans = [timed(NOW - 5 * MS) for _ in range(3)] + [timed(NOW - n * 3600 * 10**9) for n in range(4)]
    send(hub, *spans, service=service)
    seen: list[str] = []
    more: dict[str, str] = {}
    for _ in range(4):
        found = ask(hub, service=service, limit="2", **more)
        seen += [trace["trace_id"] for trace in found["traces"]]
        if found["next"] is None:
            break
        more = {"cursor": found["next"]}

    assert len(seen) == 7
    assert set(seen) == {one.trace_id.hex() for one in spans}


def test_spans_are_found_by_part_of_their_name(hub: InProcessHub) -> None:
    """`name` is a part of a span's name, in any case of letters."""
    service = a_service()
    wanted = timed(name="POST /predict")
    send(hub, wanted, timed(name="GET /model"), service=service)

    assert ids(hub, service=service, name="Predict") == [wanted.trace_id.hex()]


def test_traces_are_found_by_an_attribute_of_a_span(hub: InProcessHub) -> None:
    """`attr.KEY=VALUE` asks for an attribute, whatever its type, dots in its name and all."""
    service = a_service()
    wanted = timed(attributes=[KeyValue(key="http.response.status_code", value=AnyValue(int_value=422))])
    send(hub, wanted, timed(attributes=[attribute("http", "422")]), service=service)

    assert ids(hub, **{"service": service, "attr.http.response.status_code": "422"}) == [wanted.trace_id.hex()]


def test_traces_are_found_by_an_attribute_of_the_resource(hub: InProcessHub) -> None:
    """Resource attributes are asked for in the same way."""
    service = a_service()
    wanted = timed()
    send(hub, wanted, service=service)

    assert ids(hub, **{"attr.service.name": service}) == [wanted.trace_id.hex()]


def test_all_attributes_asked_for_must_fit(hub: InProcessHub) -> None:
    """Two attributes are found on one span, or the trace is not listed."""
    service = a_service()
    both = timed(attributes=[attribute("a", "1"), attribute("b", "2")])
    send(hub, both, timed(attributes=[attribute("a", "1")]), service=service)

    assert ids(hub, **{"service": service, "attr.a": "1", "attr.b": "2"}) == [both.trace_id.hex()]


@settings(max_examples=25, deadline=None)
@given(
    key=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
    value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
)
def test_any_attribute_can_be_asked_for(hub: InProcessHub, key: str, value: str) -> None:
    """Quotes, slashes, tildes, dollars: what was sent is found by the same key and value."""
    service = a_service()
    wanted = timed(attributes=[attribute(key, value)])
    send(hub, wanted, timed(), service=service)

    assert ids(hub, **{"service": service, f"attr.{key}": value}) == [wanted.trace_id.hex()]


def test_the_rest_of_the_trace_is_shown_with_the_span_that_fits(hub: InProcessHub) -> None:
    """A filter chooses traces; what is said of them is about all their spans."""
    service = a_service()
    root = timed(NOW, 9 * MS)
    child = timed(NOW + MS, trace_id=root.trace_id, parent_span_id=root.span_id, attributes=[attribute("k", "v")])
    send(hub, root, child, service=service)

    (trace,) = ask(hub, **{"service": service, "attr.k": "v"})["traces"]

    assert (trace["span_count"], trace["duration_ns"]) == (2, 9 * MS)


def test_traces_are_found_by_duration(hub: InProcessHub) -> None:
    """`min_duration` and `max_duration` are about the whole trace."""
    service = a_service()
    spans = [timed(duration_ns=n * MS) for n in (100, 300, 500)]
    send(hub, *spans, service=service)

    found = ids(hub, service=service, min_duration="200ms", max_duration="0.4s")

    assert found == [spans[1].trace_id.hex()]


@pytest.mark.parametrize(("error", "index"), [("true", 0), ("false", 1)])
def test_traces_are_found_by_error(hub: InProcessHub, error: str, index: int) -> None:
    """`error` tells traces with a failed span from those without."""
    service = a_service()
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
    """`since` and `until` are RFC 3339 or unix seconds, and are about the start of the trace."""
    service = a_service()
    noon = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()) * 10**9
    wanted = timed(noon)
    send(hub, timed(noon - 3600 * 10**9), wanted, timed(noon + 3600 * 10**9), service=service)

    assert ids(hub, service=service, since=since, until=until) == [wanted.trace_id.hex()]


def test_a_time_may_be_an_age(hub: InProcessHub) -> None:
    """`since=15m` is a quarter of an hour ago."""
    service = a_service()
    wanted = timed(time.time_ns())
    send(hub, wanted, timed(time.time_ns() - 3600 * 10**9), service=service)

    assert ids(hub, service=service, since="15m") == [wanted.trace_id.hex()]


def test_an_empty_parameter_is_none(hub: InProcessHub) -> None:
    """Forms send all their fields."""
    service = a_service()
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
def test_a_bad_parameter_is_422(hub: InProcessHub, name: str, value: str) -> None:
    """The answer names the parameter."""
    answer = httpx.get(f"{hub.page}/api/traces", params={name: value})

    assert answer.status_code == 422
    assert answer.json()["error"]["type"] == "invalid_parameter"
    assert name in answer.json()["error"]["message"]


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(
        ["limit", "since", "until", "min_duration", "max_duration", "error", "cursor", "service", "name", "attr.a"]
    ),
    value=st.text(max_size=30) | st.from_regex(r"\A-?[0-9]{1,25}(\.[0-9]{1,12})?(ns|s|m|d)?\Z"),
)
def test_no_parameter_breaks_it(hub: InProcessHub, name: str, value: str) -> None:
    """Whatever is asked, the answer is a list or says what is wrong."""
    assert httpx.get(f"{hub.page}/api/traces", params={name: value}).status_code in {200, 422}
