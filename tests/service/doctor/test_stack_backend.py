"""The stack backend queries Jaeger, Loki and Prometheus.

The fake components answer with the structure of the real ones; tests/contract queries the real ones.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml

from modeltrace.client.service import UnreachableError
from modeltrace.doctor.backends import grafana
from modeltrace.doctor.backends.backend import Link, LogRecordRef, UnresolvedExemplars
from modeltrace.doctor.backends.jaeger import PLACEHOLDER
from modeltrace.doctor.backends.stack import MAX_TRACES_CHECKED, SETTLE_SECONDS, StackAddresses, StackBackend
from stack.components import Ports, read_components
from stack.layout import ROOT
from tests.helpers.processes import free_port

T = TypeVar("T")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ADDRESSES = StackAddresses("http://jaeger", "http://loki", "http://prometheus")
LOGQL = f'{{service_name=~".+"}} | trace_id="{TRACE}"'


@dataclass
class FakeStack:
    """Jaeger, Loki and Prometheus with given content and features."""

    traces: set[str] = field(default_factory=lambda: {TRACE})
    exemplars: list[tuple[str, float]] = field(default_factory=list)
    queued: dict[str, int] = field(default_factory=dict)
    features: str = "exemplar-storage,another"
    pages: bool = True

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request to one of the components."""
        handler = {"jaeger": self.jaeger, "loki": self.loki, "prometheus": self.prometheus}[request.url.host]
        return handler(request.url.path, request.url.params) or httpx.Response(404, text="404 page not found")

    def jaeger(self, path: str, _: httpx.QueryParams) -> httpx.Response | None:
        """Answer for the services, the web page and a trace."""
        if path == "/api/v3/services":
            return httpx.Response(200, json={"services": ["modeltrace"]})
        if path == "/search":
            return httpx.Response(200, text="<title>Jaeger UI</title>" if self.pages else PLACEHOLDER)
        if path.removeprefix("/api/v3/traces/") in self.traces:
            spans = [{"name": "validate"}, {"name": "inference"}]
            scopes = [{"scopeSpans": [{"spans": spans}]}, {"scopeSpans": [{"spans": [{"name": "POST"}]}]}]
            return httpx.Response(200, json={"result": {"resourceSpans": scopes}})
        return None

    def loki(self, path: str, parameters: httpx.QueryParams) -> httpx.Response | None:
        """Answer for the labels and the records of the trace."""
        if path == "/loki/api/v1/labels":
            return httpx.Response(200, json={"status": "success"})
        if path == "/loki/api/v1/query_range":
            labels = {"scope_name": "modeltrace.prediction", "event_name": "ml.prediction"}
            streams = [
                {"stream": labels, "values": [["1", "a"], ["2", "b"]]},
                {"stream": {"scope_name": "uvicorn.access"}, "values": [["3", "c"]]},
            ]
            result = streams if parameters["query"] == LOGQL else []
            return httpx.Response(200, json={"status": "success", "data": {"result": result}})
        return None

    def prometheus(self, path: str, parameters: httpx.QueryParams) -> httpx.Response | None:
        """Answer for exemplars, the Collector's queue, the flags and the web page."""
        if path == "/api/v1/query_exemplars":
            exemplars = [
                {"labels": {"trace_id": trace, "span_id": "1"}, "timestamp": at} for trace, at in self.exemplars
            ]
            series = {"seriesLabels": {"__name__": "ml_predictions_total"}, "exemplars": exemplars}
            return httpx.Response(200, json={"status": "success", "data": [series]})
        if path == "/api/v1/query":
            (size,) = (
                self.queued.get(part, 0) for part in ("jaeger", "loki", "prometheus") if part in parameters["query"]
            )
            return httpx.Response(200, json={"data": {"result": [{"metric": {}, "value": [1, str(size)]}]}})
        if path == "/api/v1/status/flags":
            return httpx.Response(200, json={"data": {"enable-feature": self.features}})
        return httpx.Response(200 if self.pages else 500, text="Prometheus") if path == "/query" else None


def query(stack: FakeStack, method: Callable[[StackBackend], Awaitable[T]], addresses: StackAddresses = ADDRESSES) -> T:
    """Call a method of a backend with these components."""

    async def run() -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(stack.answer)) as client:
            return await method(StackBackend(client, addresses))

    return asyncio.run(run())


def test_default_addresses() -> None:
    """The default addresses are the ports in stack/components.toml."""
    ports = Ports.default(read_components())
    assert StackAddresses() == StackAddresses(
        ports.fill("http://{host}:{jaeger.query}"),
        ports.fill("http://{host}:{loki.http}"),
        ports.fill("http://{host}:{prometheus.http}"),
    )


def test_data_sources_of_grafana() -> None:
    """The UIDs in links are the provisioned ones of deploy/grafana."""
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/datasources.yaml").read_text())
    uids = {source["type"]: source["uid"] for source in sources["datasources"]}

    assert (uids["jaeger"], uids["loki"], uids["prometheus"]) == (grafana.JAEGER, grafana.LOKI, grafana.PROMETHEUS)


def test_each_component_is_queried_for_its_signal() -> None:
    """The spans of all resources, a log record per line, and the metrics with an exemplar of this trace."""
    stack = FakeStack(exemplars=[(TRACE, 1.0), ("other", 1.0), (TRACE, 2.0)])

    assert query(stack, lambda b: b.span_names(TRACE)) == ["validate", "inference", "POST"]
    assert query(stack, lambda b: b.log_records(TRACE)) == [
        *([LogRecordRef("modeltrace.prediction", "ml.prediction")] * 2),
        LogRecordRef("uvicorn.access", ""),
    ]
    assert query(stack, lambda b: b.exemplar_metrics(TRACE)) == ["ml_predictions_total"]


def test_missing_telemetry_is_not_an_error() -> None:
    """Status 404 of Jaeger means that the trace does not exist yet."""
    empty = FakeStack(traces=set())

    assert query(empty, lambda b: b.span_names(TRACE)) == []
    assert query(empty, lambda b: b.log_records("another")) == []
    assert query(empty, lambda b: b.exemplar_metrics(TRACE)) == []


def test_components_that_do_not_answer_are_named() -> None:
    """The error names their addresses, their options, and the command that starts them."""

    async def check() -> None:
        async with httpx.AsyncClient() as client:
            addresses = StackAddresses(*(f"http://127.0.0.1:{free_port()}" for _ in range(3)))
            await StackBackend(client, addresses).check()

    with pytest.raises(UnreachableError) as error:
        asyncio.run(check())
    message = str(error.value)
    for part, option in (("Jaeger", "--jaeger"), ("Loki", "--loki"), ("Prometheus", "--prometheus")):
        assert f"no {part} answers at http://127.0.0.1:" in message
        assert f"({option})" in message
    assert message.endswith("Start what is missing: ./dev stack up")


def test_swapped_addresses_are_detected() -> None:
    """The check fails if another component answers at an address."""
    swapped = StackAddresses("http://loki", "http://loki", "http://prometheus")

    with pytest.raises(UnreachableError, match=r"^the server at http://loki is not Jaeger \(--jaeger\)\. Start"):
        query(FakeStack(), lambda b: b.check(), swapped)
    query(FakeStack(), lambda b: b.check())


def test_error_of_a_component_is_quoted() -> None:
    """The error contains status and text of the response in one line."""

    class StartingStack(FakeStack):
        def answer(self, request: httpx.Request) -> httpx.Response:
            if request.url.host == "loki":
                return httpx.Response(503, text="Ingester not ready:\nwaiting")
            return super().answer(request)

    with pytest.raises(UnreachableError, match=r"^Loki at http://loki answers 503: Ingester not ready: waiting "):
        query(StartingStack(), lambda b: b.check())


def test_links_to_pages() -> None:
    """Links lead to the trace in Jaeger and the graph with exemplars in Prometheus; Loki's link has the query."""
    trace, logs, exemplars = query(FakeStack(), lambda b: b.links(TRACE))

    assert trace == Link("trace", f"http://jaeger/trace/{TRACE}")
    assert logs.query == LOGQL
    assert parse_qs(urlsplit(logs.url).query)["query"] == [LOGQL]
    assert parse_qs(urlsplit(exemplars.url).query)["g0.show_exemplars"] == ["1"]


def test_links_without_pages() -> None:
    """Links lead to the JSON API of components that were built without web pages."""
    trace, _, exemplars = query(FakeStack(pages=False), lambda b: b.links(TRACE))

    assert trace.url == f"http://jaeger/api/v3/traces/{TRACE}"
    assert exemplars.url.startswith("http://prometheus/api/v1/query_exemplars?query=")


def test_links_to_grafana() -> None:
    """Without pages of the component, links lead to Grafana Explore with data source, query and time range."""
    addresses = StackAddresses(ADDRESSES.jaeger, ADDRESSES.loki, ADDRESSES.prometheus, grafana="http://grafana")
    logs = query(FakeStack(), lambda b: b.links(TRACE), addresses)[1]

    url = urlsplit(logs.url)
    assert (url.netloc, url.path) == ("grafana", "/explore")
    (pane,) = json.loads(parse_qs(url.query)["panes"][0]).values()
    assert pane["datasource"] == "loki"
    assert [query["expr"] for query in pane["queries"]] == [LOGQL]
    assert int(pane["range"]["from"]) < time.time() * 1000 < int(pane["range"]["to"])
    assert logs.query == ""
    without_pages = query(FakeStack(pages=False), lambda b: b.links(TRACE), addresses)
    assert [link.url.partition("?")[0] for link in without_pages] == ["http://grafana/explore"] * 3


def test_queue_of_the_collector_is_reported() -> None:
    """The advice contains the queue size, only for components whose signal is missing."""
    stack = FakeStack(queued={"jaeger": 1200, "loki": 3})

    (line,) = query(stack, lambda b: b.explain_missing(["span"]))

    assert line == "1,200 queued in the Collector for Jaeger: is it healthy? ./dev stack status"


def test_sampling_is_suggested_if_the_queue_is_empty() -> None:
    """If nothing is queued, the Collector may not have sampled the trace."""
    (line,) = query(FakeStack(), lambda b: b.explain_missing(["span"]))

    assert "not sampled" in line


def test_prometheus_without_exemplar_storage_is_reported() -> None:
    """The advice names the flag; with the flag there is no advice."""
    assert query(FakeStack(), lambda b: b.explain_missing(["exemplar"])) == []
    (line,) = query(FakeStack(features=""), lambda b: b.explain_missing(["exemplar"]))
    assert "--enable-feature=exemplar-storage" in line


def test_unresolved_exemplars_are_counted() -> None:
    """Each trace counts once; recent ones, which may not be stored yet, do not count."""
    old, now = time.time() - 2 * SETTLE_SECONDS, time.time()
    stack = FakeStack(exemplars=[(TRACE, old), (TRACE, old - 1), ("not sampled", old), ("recent", now)])

    assert query(stack, lambda b: b.unresolved_exemplars()) == UnresolvedExemplars(traces_checked=2, traces_missing=1)


def test_only_the_latest_exemplars_are_checked() -> None:
    """The number of queries to Jaeger is bounded."""
    old = time.time() - 2 * SETTLE_SECONDS
    exemplars = [(f"stored {n}", old - n) for n in range(MAX_TRACES_CHECKED)] + [
        (f"missing {n}", old - 100 - n) for n in range(9)
    ]
    stack = FakeStack(traces={f"stored {n}" for n in range(MAX_TRACES_CHECKED)}, exemplars=exemplars[::-1])

    assert query(stack, lambda b: b.unresolved_exemplars()) == UnresolvedExemplars(MAX_TRACES_CHECKED, 0)
