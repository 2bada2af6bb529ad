"""The API calls for series of metrics and for services return what the pages `/metrics` and `/services` draw."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import metric_request, span, trace_request
from tests.helpers.otlp_values import key_values

S = 10**9
END = time.time_ns() // (60 * S) * 60 * S
START = END - 600 * S
BOUNDS = (0.1, 0.2, 0.5)


@pytest.fixture(scope="module")
def pages() -> Iterator[HubPages]:
    """Yield a hub with a counter of two routes, a gauge that is not finite, a histogram, and two services."""
    with hub_pages() as pages:
        points = [
            NumberDataPoint(
                start_time_unix_nano=START,
                time_unix_nano=START + minute * 60 * S,
                as_double=minute * rate * 60.0,
                attributes=key_values({"route": route}),
            )
            for route, rate in (("/a", 2), ("/b", 3))
            for minute in range(1, 11)
        ]
        cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        requests = Sum(data_points=points, aggregation_temporality=cumulative, is_monotonic=True)
        gauge = Gauge(data_points=[NumberDataPoint(time_unix_nano=END, as_double=float("inf"))])
        histogram = Histogram(
            aggregation_temporality=AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA,
            data_points=[
                HistogramDataPoint(
                    start_time_unix_nano=END - 60 * S,
                    time_unix_nano=END,
                    count=10,
                    sum=2.0,
                    explicit_bounds=BOUNDS,
                    bucket_counts=[4, 4, 0, 2],
                )
            ],
        )
        pages.add(
            metric_request(
                Metric(name="requests", unit="{request}", sum=requests),
                Metric(name="level", gauge=gauge),
                Metric(name="seconds", unit="s", histogram=histogram),
            )
        )
        root = span(kind=Span.SPAN_KIND_SERVER, start_time_unix_nano=END - S, end_time_unix_nano=END)
        called = span(
            trace_id=root.trace_id,
            parent_span_id=root.span_id,
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=END - S,
            end_time_unix_nano=END - S // 2,
            status=Status(code=Status.STATUS_CODE_ERROR),
        )
        pages.add(trace_request(root))
        request = trace_request(called)
        request.resource_spans[0].resource.attributes[0].value.string_value = "cart"
        pages.add(request)
        yield pages


def get(pages: HubPages, path: str, **parameters: str) -> Any:
    """Return the answer of a call."""
    response = pages.client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def test_rates_of_a_counter(pages: HubPages) -> None:
    """Each group has one rate for each step; the rates add up to the increase."""
    answer = get(pages, "/api/metrics/series", name="requests", by="route", since=str(START // S))
    assert (answer["name"], answer["type"], answer["unit"], answer["kind"]) == ("requests", "sum", "{request}", "rate")
    assert [group["name"] for group in answer["groups"]] == ["/a", "/b"]
    for group, rate in zip(answer["groups"], (2, 3), strict=True):
        assert len(group["values"]) == answer["steps"]
        increase = sum(value or 0 for value in group["values"]) * answer["step_ns"] / S
        np.testing.assert_allclose(increase, rate * 600, rtol=1e-9)
    only = get(pages, "/api/metrics/series", name="requests", filter="route = /b", since=str(START // S))
    assert [group["values"] for group in only["groups"]] == [answer["groups"][1]["values"]]


def test_buckets_and_quantiles_of_a_histogram(pages: HubPages) -> None:
    """The counts add up to the measurements, and the quantiles are interpolated in their buckets."""
    answer = get(pages, "/api/metrics/series", name="seconds")
    assert [(bucket["low"], bucket["high"]) for bucket in answer["buckets"]] == [
        (None, 0.1),
        (0.1, 0.2),
        (0.2, 0.5),
        (0.5, None),
    ]
    np.testing.assert_allclose([sum(bucket["counts"]) for bucket in answer["buckets"]], [4, 4, 0, 2], rtol=1e-9)
    (median,) = {round(value, 12) for value in answer["quantiles"]["p50"] if value is not None}
    assert median == 0.125  # the fifth of ten, the first of four in the bucket from 0.1 to 0.2
    assert {value for value in answer["quantiles"]["p99"] if value is not None} == {0.5}


def test_numbers_that_json_lacks_are_texts(pages: HubPages) -> None:
    """An infinite value of a gauge is returned as in all other calls."""
    answer = get(pages, "/api/metrics/series", name="level")
    assert [value for value in answer["groups"][0]["values"] if value is not None] == ["Infinity"]


def test_errors_name_the_parameter(pages: HubPages) -> None:
    """An unknown metric is 404; a missing name and an unknown parameter are 422."""
    assert pages.client.get("/api/metrics/series?name=nothing").status_code == 404
    for query, name in (("", "name"), ("name=requests&bye=x", "bye"), ("name=requests&filter=a", "filter")):
        response = pages.client.get(f"/api/metrics/series?{query}")
        assert response.status_code == 422
        assert name in response.json()["error"]["message"]
    assert pages.client.get("/api/services?since=yesterday").status_code == 422


def test_services_and_their_calls(pages: HubPages) -> None:
    """Each service has its figures in total and by step; the call between them has its share of errors."""
    answer = get(pages, "/api/services")
    cart, web = answer["services"]
    assert [(row["service_name"], row["request_count"], row["error_share"]) for row in (cart, web)] == [
        ("cart", 1, 1.0),
        ("svc", 1, 0.0),
    ]
    assert (cart["p50_ns"], web["p50_ns"]) == (S // 2, S)
    assert len(web["steps"]) == answer["steps"]
    assert sum(step["request_count"] for step in web["steps"]) == 1
    calls = get(pages, "/api/services/calls")
    assert calls["examined"] == 1
    ((caller, called, count, share),) = [
        (call["caller"], call["called"], call["call_count"], call["error_share"]) for call in calls["calls"]
    ]
    assert (caller, called, count, share) == ("svc", "cart", 1, 1.0)


def test_without_spans_the_lists_are_empty(pages: HubPages) -> None:
    """A range of time without spans has no steps."""
    empty = {"since_ns": None, "until_ns": None, "step_ns": None, "steps": None}
    assert get(pages, "/api/services", until="1") == {**empty, "services": []}
    assert get(pages, "/api/services/calls", until="1") == {**empty, "calls": [], "examined": 1.0}


def test_the_openapi_page_describes_the_calls(pages: HubPages) -> None:
    """Each call has a description, and its parameters are listed."""
    paths = get(pages, "/api/openapi.json")["paths"]
    names = {
        path: {parameter["name"] for parameter in paths[path]["get"]["parameters"]}
        for path in ("/api/metrics/series", "/api/services", "/api/services/calls", "/api/llm-calls")
    }
    assert {"name", "by", "type", "unit", "filter", "since", "until", "service"} <= names["/api/metrics/series"]
    assert names["/api/services"] == names["/api/services/calls"] == {"since", "until"}
    assert {"model", "operation", "trace_id", "cursor", "filter"} <= names["/api/llm-calls"]
    assert all(paths[path]["get"]["description"] for path in names)
