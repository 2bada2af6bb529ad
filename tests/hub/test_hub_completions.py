"""`GET /api/completions`: the names and values of the filter lines come from the stored records."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from modeltrace_hub.queries.completions import CACHE_SECONDS, MAX_VALUES, CompletionRequest, Completions
from modeltrace_hub.queries.list_fields import (
    LABEL_FIELDS,
    LOG_FIELDS,
    PREDICTION_FIELDS,
    TRACE_FIELDS,
    VIOLATION_FIELDS,
)
from modeltrace_hub.queries.reader import Queries
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import attribute, log_request, span, trace_request

NOW = time.time_ns()
LISTS = {
    "traces": TRACE_FIELDS,
    "logs": LOG_FIELDS,
    "predictions": PREDICTION_FIELDS,
    "labels": LABEL_FIELDS,
    "violations": VIOLATION_FIELDS,
}


@pytest.fixture(scope="module")
def pages() -> Iterator[HubPages]:
    """Yield the pages of a hub with spans, log records and a prediction."""
    with hub_pages() as pages:
        routes = ["/basket", "/basket", 'say "hi"']
        pages.add(
            trace_request(
                *(
                    span(
                        name=f"GET {route}",
                        kind=Span.SPAN_KIND_SERVER,
                        start_time_unix_nano=NOW,
                        end_time_unix_nano=NOW + 1,
                        attributes=[
                            attribute("http.route", route),
                            attribute("name", "x"),
                            attribute("long", "y" * 300),
                        ],
                    )
                    for route in routes
                )
            )
        )
        inputs = KeyValueList(values=[KeyValue(key="age", value=AnyValue(int_value=31))])
        prediction = [
            attribute("ml.model.name", "churn"),
            attribute("ml.prediction.label", "yes"),
            attribute("ml.tag.country", "DE"),
            KeyValue(key="ml.prediction.inputs", value=AnyValue(kvlist_value=inputs)),
        ]
        for event, attributes in (("ml.prediction", prediction), ("", [attribute("logger", "shop")])):
            record = LogRecord(time_unix_nano=NOW, severity_number=9, event_name=event, attributes=attributes)
            request = log_request(record)
            request.resource_logs[0].scope_logs[0].scope.name = "shop.basket"
            pages.add(request)
        yield pages


def complete(pages: HubPages, **parameters: str) -> Any:
    """Return the names or the values of an answer."""
    response = pages.client.get("/api/completions", params=parameters)
    assert response.status_code == 200, response.text
    (answer,) = response.json().values()
    return answer


@pytest.mark.parametrize("name", LISTS)
def test_every_field_is_offered_and_every_offered_name_is_valid(pages: HubPages, name: str) -> None:
    """Fields come first. Each offered name can be used in the filter line of the list."""
    names = [item["name"] for item in complete(pages, list=name)]
    fields = LISTS[name]
    assert names[: len(fields.fields)] == [*fields.fields]
    assert len(set(names)) == len(names)
    extra = {"labels": {"outcome": "labelled"}, "violations": {"violation": "any"}}.get(name, {})
    path = {"traces": "traces", "logs": "logs"}.get(name, "predictions")
    for offered in names:
        response = pages.client.get(f"/api/{path}", params={"filter": f"{offered} exists", **extra})
        assert response.status_code == 200, offered
        complete(pages, list=name, name=offered)


def test_attributes_are_named_as_the_line_reads_them(pages: HubPages) -> None:
    """An attribute with the name of a field has a prefix; inputs and tags have theirs."""
    traces = {item["name"] for item in complete(pages, list="traces")}
    assert {"http.route", "attr.name", "service.name"} <= traces
    assert "logger" not in traces
    predictions = {item["name"] for item in complete(pages, list="predictions")}
    assert {"input.age", "tag.country", "ml.model.name"} <= predictions
    assert not predictions & {"logger", "ml.prediction.inputs", "ml.tag.country"}


@pytest.mark.parametrize(
    ("list_", "name", "expected"),
    [
        ("traces", "http.route", ["/basket", 'say "hi"']),
        ("traces", "service", ["svc"]),
        ("traces", "service.name", ["svc"]),
        ("traces", "kind", ["SERVER"]),
        ("traces", "attr.name", ["x"]),
        ("traces", "error", ["true", "false"]),
        ("traces", "duration", []),
        ("traces", "spans", ["1"]),
        ("traces", "long", []),
        ("traces", "no such attribute", []),
        ("logs", "severity", ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]),
        ("logs", "scope", ["shop.basket"]),
        ("logs", "event", ["ml.prediction"]),
        ("logs", "logger", ["shop"]),
        ("logs", "text", []),
        ("predictions", "model", ["churn"]),
        ("predictions", "input.age", ["31"]),
        ("predictions", "tag.country", ["DE"]),
        ("predictions", "logger", []),
    ],
)
def test_values_are_the_most_frequent_ones(pages: HubPages, list_: str, name: str, expected: list[str]) -> None:
    """The values of a field or attribute are offered, the most frequent first; long ones are not."""
    assert complete(pages, list=list_, name=name) == expected


def test_values_are_bounded_and_cached() -> None:
    """At most 100 values are offered. An answer is read again only after some seconds."""
    now = 0.0
    with hub_pages() as pages:
        completions = Completions(Queries(pages.store), clock=lambda: now)
        request = CompletionRequest(list="traces", name="n")
        assert completions.complete(request) == {"values": []}
        pages.add(trace_request(*(span(attributes=[attribute("n", f"{n}")]) for n in range(MAX_VALUES + 50))))
        assert completions.complete(request) == {"values": []}
        now = CACHE_SECONDS
        assert len(completions.complete(request)["values"]) == MAX_VALUES


def test_an_unknown_list_is_refused(pages: HubPages) -> None:
    """The answer names the parameter."""
    response = pages.client.get("/api/completions?list=users")
    assert (response.status_code, response.json()["error"]["parameter"]) == (422, "list")
