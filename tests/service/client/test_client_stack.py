"""What is asked of the real stack's parts, and what is said of their answers.

The answers here have the form that the real parts give; tests/contract asks the real ones.
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
AT = StackAddresses("http://jaeger", "http://loki", "http://prometheus")
LOGQL = f'{{service_name=~".+"}} | trace_id="{TRACE}"'


@dataclass
class Parts:
    """What Jaeger, Loki and Prometheus hold, and how they were built."""

    traces: set[str] = field(default_factory=lambda: {TRACE})
    exemplars: list[tuple[str, float]] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    features: str = "exemplar-storage,another"
    pages: bool = True

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One answer of one of them."""
        part = {"jaeger": self.jaeger, "loki": self.loki, "prometheus": self.prometheus}[request.url.host]
        return part(request.url.path, request.url.params) or httpx.Response(404, text="404 page not found")

    def jaeger(self, path: str, _: httpx.QueryParams) -> httpx.Response | None:
        """Services, its page, a trace."""
        if path == "/api/v3/services":
            return httpx.Response(200, json={"services": ["modeltrace"]})
        if path == "/search":
            return httpx.Response(200, text="<title>Jaeger UI</title>" if self.pages else PLACEHOLDER)
        if path.removeprefix("/api/v3/traces/") in self.traces:
            spans = [{"name": "validate"}, {"name": "inference"}]
            scopes = [{"scopeSpans": [{"spans": spans}]}, {"scopeSpans": [{"spans": [{"name": "POST"}]}]}]
            return httpx.Response(200, json={"result": {"resourceSpans": scopes}})
        return None

    def loki(self, path: str, asked: httpx.QueryParams) -> httpx.Response | None:
        """Labels, the records of the one trace."""
        if path == "/loki/api/v1/labels":
            return httpx.Response(200, json={"status": "success"})
        if path == "/loki/api/v1/query_range":
            labels = {"scope_name": "modeltrace.prediction", "event_name": "ml.prediction"}
            streams = [
                {"stream": labels, "values": [["1", "a"], ["2", "b"]]},
                {"stream": {"scope_name": "uvicorn.access"}, "values": [["3", "c"]]},
            ]
            return httpx.Response(200, json={"data": {"result": streams if asked["query"] == LOGQL else []}})
        return None

    def prometheus(self, path: str, asked: httpx.QueryParams) -> httpx.Response | None:
        """Exemplars, the Collector's queue, flags, its page."""
        if path == "/api/v1/query_exemplars":
            found = [{"labels": {"trace_id": trace, "span_id": "1"}, "timestamp": at} for trace, at in self.exemplars]
            series = {"seriesLabels": {"__name__": "ml_predictions_total"}, "exemplars": found}
            return httpx.Response(200, json={"status": "success", "data": [series]})
        if path == "/api/v1/query":
            (size,) = (self.waiting.get(part, 0) for part in ("jaeger", "loki", "prometheus") if part in asked["query"])
            return httpx.Response(200, json={"data": {"result": [{"metric": {}, "value": [1, str(size)]}]}})
        if path == "/api/v1/status/flags":
            return httpx.Response(200, json={"data": {"enable-feature": self.features}})
        return httpx.Response(200 if self.pages else 500, text="Prometheus") if path == "/query" else None


def ask(parts: Parts, question: Callable[[StackBackend], Awaitable[T]], addresses: StackAddresses = AT) -> T:
    """Put a question to a backend of these parts."""

    async def run() -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(parts.answer)) as client:
            return await question(StackBackend(client, addresses))

    return asyncio.run(run())


def test_the_addresses_are_those_of_the_parts() -> None:
    """Without options, the parts are where stack/components.toml has them listen."""
    ports = Ports.default(read_components())
    assert StackAddresses() == StackAddresses(
        ports.fill("http://{host}:{jaeger.query}"),
        ports.fill("http://{host}:{loki.http}"),
        ports.fill("http://{host}:{prometheus.http}"),
    )


def test_grafanas_data_sources_are_those_that_are_provisioned() -> None:
    """The UIDs in links are those of deploy/grafana."""
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/datasources.yaml").read_text())
    uids = {source["type"]: source["uid"] for source in sources["datasources"]}

    assert (uids["jaeger"], uids["loki"], uids["prometheus"]) == (grafana.JAEGER, grafana.LOKI, grafana.PROMETHEUS)


def test_each_part_answers_for_its_signal() -> None:
    """Spans of all resources, a log record for each line, the metrics of this trace's exemplars alone."""
    parts = Parts(exemplars=[(TRACE, 1.0), ("other", 1.0), (TRACE, 2.0)])

    assert ask(parts, lambda b: b.span_names(TRACE)) == ["validate", "inference", "POST"]
    assert ask(parts, lambda b: b.log_records(TRACE)) == [
        *([LogRecordRef("modeltrace.prediction", "ml.prediction")] * 2),
        LogRecordRef("uvicorn.access", ""),
    ]
    assert ask(parts, lambda b: b.exemplar_metrics(TRACE)) == ["ml_predictions_total"]


def test_what_has_not_arrived_is_not_an_error() -> None:
    """Jaeger's 404 is a trace that is not there yet."""
    nothing = Parts(traces=set())

    assert ask(nothing, lambda b: b.span_names(TRACE)) == []
    assert ask(nothing, lambda b: b.log_records("another")) == []
    assert ask(nothing, lambda b: b.exemplar_metrics(TRACE)) == []


def test_each_part_that_does_not_answer_is_named() -> None:
    """With its address, the option that changes it, and what starts it; those that answer are not."""

    async def check() -> None:
        async with httpx.AsyncClient() as client:
            addresses = StackAddresses(*(f"http://127.0.0.1:{free_port()}" for _ in range(3)))
            await StackBackend(client, addresses).check()

    with pytest.raises(UnreachableError) as error:
        asyncio.run(check())
    said = str(error.value)
    for part, option in (("Jaeger", "--jaeger"), ("Loki", "--loki"), ("Prometheus", "--prometheus")):
        assert f"no {part} answers at http://127.0.0.1:" in said
        assert f"({option})" in said
    assert said.endswith("Start what is missing: ./dev stack up")


def test_one_part_is_not_taken_for_another() -> None:
    """An address that was mixed up is told before anything is sent."""
    mixed_up = StackAddresses("http://loki", "http://loki", "http://prometheus")

    with pytest.raises(UnreachableError, match=r"^what answers at http://loki is no Jaeger \(--jaeger\)\. Start"):
        ask(Parts(), lambda b: b.check(), mixed_up)
    ask(Parts(), lambda b: b.check())


def test_a_part_that_is_not_well_is_quoted() -> None:
    """Its status and its own words, in one line."""

    class Starting(Parts):
        def answer(self, request: httpx.Request) -> httpx.Response:
            if request.url.host == "loki":
                return httpx.Response(503, text="Ingester not ready:\nwaiting")
            return super().answer(request)

    with pytest.raises(UnreachableError, match=r"^Loki at http://loki answers 503: Ingester not ready: waiting "):
        ask(Starting(), lambda b: b.check())


def test_links_lead_to_pages() -> None:
    """Jaeger's of the trace and Prometheus' graph with exemplars; Loki has none, so its query comes along."""
    trace, logs, exemplars = ask(Parts(), lambda b: b.links(TRACE))

    assert trace == Link("trace", f"http://jaeger/trace/{TRACE}")
    assert logs.query == LOGQL
    assert parse_qs(urlsplit(logs.url).query)["query"] == [LOGQL]
    assert parse_qs(urlsplit(exemplars.url).query)["g0.show_exemplars"] == ["1"]


def test_links_lead_to_answers_where_there_are_no_pages() -> None:
    """A part that was built without its pages has an API all the same; no link leads to a placeholder."""
    trace, _, exemplars = ask(Parts(pages=False), lambda b: b.links(TRACE))

    assert trace.url == f"http://jaeger/api/v3/traces/{TRACE}"
    assert exemplars.url.startswith("http://prometheus/api/v1/query_exemplars?query=")


def test_links_lead_to_grafana_where_it_has_the_only_page() -> None:
    """To Explore, with data source, query and a time that holds the trace."""
    addresses = StackAddresses(AT.jaeger, AT.loki, AT.prometheus, grafana="http://grafana")
    logs = ask(Parts(), lambda b: b.links(TRACE), addresses)[1]

    address = urlsplit(logs.url)
    assert (address.netloc, address.path) == ("grafana", "/explore")
    (pane,) = json.loads(parse_qs(address.query)["panes"][0]).values()
    assert pane["datasource"] == "loki"
    assert [query["expr"] for query in pane["queries"]] == [LOGQL]
    assert int(pane["range"]["from"]) < time.time() * 1000 < int(pane["range"]["to"])
    assert logs.query == ""
    without_pages = ask(Parts(pages=False), lambda b: b.links(TRACE), addresses)
    assert [link.url.partition("?")[0] for link in without_pages] == ["http://grafana/explore"] * 3


def test_what_waits_in_the_collector_is_said() -> None:
    """Only of the parts whose signal is missing, each with how much."""
    parts = Parts(waiting={"jaeger": 1200, "loki": 3})

    (line,) = ask(parts, lambda b: b.explain_missing(["span"]))

    assert line == "1,200 wait in the Collector for Jaeger: is it healthy? ./dev stack status"


def test_a_trace_may_have_been_sampled_away() -> None:
    """Where nothing waits, the Collector has passed it on or dropped it."""
    (line,) = ask(Parts(), lambda b: b.explain_missing(["span"]))

    assert "sampled away" in line


def test_a_prometheus_without_exemplars_is_told_apart() -> None:
    """The message names the flag; with the flag, nothing is said."""
    assert ask(Parts(), lambda b: b.explain_missing(["exemplar"])) == []
    (line,) = ask(Parts(features=""), lambda b: b.explain_missing(["exemplar"]))
    assert "--enable-feature=exemplar-storage" in line


def test_exemplars_that_lead_nowhere_are_counted() -> None:
    """A trace counts once; one that may still be on its way does not count."""
    old, now = time.time() - 2 * SETTLE_SECONDS, time.time()
    parts = Parts(exemplars=[(TRACE, old), (TRACE, old - 1), ("sampled away", old), ("on its way", now)])

    assert ask(parts, lambda b: b.unresolved_exemplars()) == UnresolvedExemplars(traces_checked=2, traces_missing=1)


def test_only_the_latest_exemplars_are_looked_at() -> None:
    """However many there are, Jaeger is asked a bounded number of times."""
    old = time.time() - 2 * SETTLE_SECONDS
    exemplars = [(f"there {n}", old - n) for n in range(MAX_TRACES_CHECKED)] + [
        (f"gone {n}", old - 100 - n) for n in range(9)
    ]
    parts = Parts(traces={f"there {n}" for n in range(MAX_TRACES_CHECKED)}, exemplars=exemplars[::-1])

    assert ask(parts, lambda b: b.unresolved_exemplars()) == UnresolvedExemplars(MAX_TRACES_CHECKED, 0)
