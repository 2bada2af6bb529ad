"""`/services`: requests, errors and durations of each service, instances and versions, and the map of calls."""

import re
import time
from collections.abc import Iterator, Sequence
from html import unescape
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.queries.services import (
    ServiceFilter,
    layer_services,
    list_service_calls,
    list_service_requests,
    read_range,
)
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import span, trace_request
from tests.helpers.otlp_values import key_values

MS = 10**6
S = 10**9
START = time.time_ns() // (3600 * S) * 3600 * S - 3600 * S


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def send(pages: HubPages, service: str, *spans: Span, instance: str = "1", version: str = "2.0") -> None:
    """Store spans of an instance of a service."""
    request = trace_request(*spans)
    attributes = request.resource_spans[0].resource.attributes
    del attributes[:]
    attributes.extend(
        key_values(
            {"service.name": service, "service.instance.id": f"{service}-{instance}", "service.version": version}
        )
    )
    pages.add(request, received_ns=START + 600 * S)


def call(parent: Span | None, start_ms: int, duration_ms: int, *, failed: bool = False, internal: bool = False) -> Span:
    """Return a span, below another one if there is a parent."""
    start = START + start_ms * MS
    below = {} if parent is None else {"trace_id": parent.trace_id, "parent_span_id": parent.span_id}
    return span(
        **below,
        kind=Span.SPAN_KIND_INTERNAL if internal else Span.SPAN_KIND_SERVER,
        start_time_unix_nano=start,
        end_time_unix_nano=start + duration_ms * MS,
        status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET),
    )


def store_shop(pages: HubPages) -> list[int]:
    """Store 100 requests to `web`, which calls `cart` (a tenth fails) and a library `rules`; return their durations."""
    durations = [10 + 3 * number for number in range(100)]
    roots = [call(None, 1000 * number, duration) for number, duration in enumerate(durations)]
    send(pages, "web", *roots[:60], instance="1")
    send(pages, "web", *roots[60:], instance="2", version="2.1")
    # A span inside a service that has requests is not a request.
    send(pages, "web", *(call(root, 1000 * number, 1, internal=True) for number, root in enumerate(roots)))
    carts = [call(root, 1000 * number, 5, failed=number % 10 == 0) for number, root in enumerate(roots)]
    send(pages, "cart", *carts)
    send(pages, "rules", *(call(cart, 1000 * number, 2, internal=True) for number, cart in enumerate(carts)))
    return durations


def read(pages: HubPages) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Return the services by name, and the calls."""
    with Queries(pages.store).open_reader() as reader:
        time_range = read_range(reader, ServiceFilter())
        assert time_range is not None
        services = {row["service_name"]: row for row in list_service_requests(reader, time_range)}
        calls, examined = list_service_calls(reader, time_range)
        assert examined == 1
    return services, calls


def test_requests_errors_and_durations(pages: HubPages) -> None:
    """Figures are those of server spans; a service without them is measured by all its spans."""
    durations = store_shop(pages)
    services, _ = read(pages)
    web, cart, rules = services["web"], services["cart"], services["rules"]
    assert [row["request_count"] for row in (web, cart, rules)] == [100, 100, 100]
    assert [row["error_share"] for row in (web, cart, rules)] == [0, 0.1, 0]
    # The rate is that since the first request, not that of the hour.
    assert all(0.5 < row["per_second"] < 1.1 for row in (web, cart, rules))
    for name, share in (("p50_ns", 0.5), ("p95_ns", 0.95), ("p99_ns", 0.99)):
        assert web[name] == pytest.approx(float(np.quantile(durations, share)) * MS)
    assert sum(step["request_count"] for step in cart["steps"]) == 100
    assert sum(step["error_count"] for step in cart["steps"]) == 10


def test_a_rate_counts_from_the_first_span_of_its_service(pages: HubPages) -> None:
    """A new service has the rate since its own first span; one with earlier spans, that since the range's start."""
    roots = [call(None, 10_000 * number, 20) for number in range(60)]
    send(pages, "old", *roots)
    send(pages, "new", *(call(root, 10_000 * number, 5) for number, root in enumerate(roots) if number >= 48))
    services, calls = read(pages)
    assert services["old"]["per_second"] == pytest.approx(0.1, rel=0.2)
    assert services["new"]["per_second"] == pytest.approx(0.1, rel=0.5)
    assert calls[0]["per_second"] == services["new"]["per_second"]

    since = ServiceFilter(since=(START + 300 * S) // S)
    with Queries(pages.store).open_reader() as reader:
        time_range = read_range(reader, since)
        assert time_range is not None
        rates = {row["service_name"]: row["per_second"] for row in list_service_requests(reader, time_range)}
        length = (time_range.until_ns - time_range.since_ns) / 1e9
    # A single request shortly before the end would otherwise look like a high rate.
    in_range = sum(root.start_time_unix_nano >= time_range.since_ns for root in roots)
    assert rates["old"] == pytest.approx(in_range / length)
    assert rates["new"] == pytest.approx(12 / ((time_range.until_ns - roots[48].start_time_unix_nano) / 1e9))


def test_instances_and_versions(pages: HubPages) -> None:
    """Each instance has its version and its requests."""
    store_shop(pages)
    services, _ = read(pages)
    found = {(row["service_instance_id"], row["version"], row["request_count"]) for row in services["web"]["instances"]}
    assert found == {("web-1", "2.0", 60), ("web-2", "2.1", 40)}
    html = pages.client.get("/services").text
    assert re.search(r"web-2 <strong>2\.1</strong>", html)
    assert "why failed" in html


def test_calls_lead_from_the_caller_to_the_called_service(pages: HubPages) -> None:
    """A call is a span whose parent is of another service; the map shows it, and its boxes lead to the traces."""
    store_shop(pages)
    _, calls = read(pages)
    found = {(row["caller"], row["called"]): (row["call_count"], row["error_share"]) for row in calls}
    assert found == {("web", "cart"): (100, 0.1), ("cart", "rules"): (100, 0)}
    html = unescape(pages.client.get("/services?view=map").text)
    assert "web calls cart: 100\u202fcalls" in html
    names = re.findall(r'<text class="box-name"[^>]*>([^<]+)<', html)
    assert names[:3] == ["web", "cart", "rules"]
    assert "/traces?service=cart" in pages.links("/services?view=map", html)


@pytest.mark.slow
def test_an_empty_hub_and_an_empty_range(pages: HubPages) -> None:
    """The page says that there are no spans, and how to get some."""
    for query in ("", "?view=map"):
        assert "No spans" in pages.client.get(f"/services{query}").text
    store_shop(pages)
    assert "No spans in this range" in pages.client.get("/services?until=1").text
    assert pages.client.get("/services?view=globe").status_code == 422


names = st.sampled_from("abcdef")


@given(st.lists(st.tuples(names, names), max_size=20))
def test_layers_are_complete_and_lead_downward(pairs: Sequence[tuple[str, str]]) -> None:
    """Each service is in one layer; without circles, every caller is above what it calls."""
    pairs = [(caller, called) for caller, called in pairs if caller != called]
    layers = layer_services("abcdef", [{"caller": caller, "called": called} for caller, called in pairs])
    assert sorted(name for layer in layers for name in layer) == list("abcdef")
    depth = {name: number for number, layer in enumerate(layers) for name in layer}
    if all(caller < called for caller, called in pairs):
        assert all(depth[caller] < depth[called] for caller, called in pairs)
