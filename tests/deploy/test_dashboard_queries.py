"""Every query of every dashboard, link and variable returns data from the real stack."""

import json
import math
import mmap
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import yaml

from tests.helpers.backends import RealStack
from tests.helpers.fake_nvml import build_fake_nvml
from tests.helpers.load import LoadClients
from tests.helpers.log_stores import LokiLogs
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service
from tests.helpers.stack import binary, has_loki
from tests.helpers.toy import CONFIDENT, FAILING, LOW_CONFIDENCE, SLOW, pack_toy, row

pytestmark = pytest.mark.stack

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))}
SOURCES = {
    source["uid"]: source
    for source in yaml.safe_load((GRAFANA / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
}
# A unique service name, because other services export to the shared stack.
SERVICE = "dashboards"
# The values of the variables in Grafana: the service, all of the others, and the windows of a time range of an hour.
VARIABLES = {
    "service": SERVICE,
    "instance": ".*",
    "route": ".*",
    "model": ".*",
    "version": ".*",
    "feature": ".*",
    "bin": ".*",
    "__rate_interval": "4m",
    "__auto": "1m",
    "__from": "now-1h",
    "__to": "now",
}
# Figures that need a regressor, or labels over a longer time than these tests take. test_grafana.py checks their names.
OTHER_DATA = re.compile(r"ml_evaluation_(interval|expected)_|:mean7d")
# Components are scraped every 15 s, and a rate needs two samples. Drift rules depend on each other and run each minute.
DATA_TIMEOUT = 300.0
LOOK_BACK = 600


def fill(text: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """Replace the variables of a text, as Grafana does."""
    return re.sub(r"\$(?:\{([\w.]+)\}|(\w+))", lambda match: variables[match[1] or match[2]], text)


@dataclass(frozen=True)
class Stores:
    """The three stores, queried as the data sources of Grafana do."""

    prometheus: str
    loki: str
    jaeger: str

    def run(self, source: str, query: Mapping[str, Any]) -> list[Any]:
        """Run a query. Return series with a number, streams, or traces."""
        if source == "prometheus":
            return self.promql(fill(query["expr"]), instant=query.get("instant", False))
        if source == "loki":
            return self.logql(fill(query["expr"]))
        return self.search({name: fill(value) for name, value in query.items() if isinstance(value, str)})

    def promql(self, expression: str, *, instant: bool = False) -> list[dict[str, Any]]:
        """Return the series that contain a number."""
        now = time.time()
        span = {"time": now} if instant else {"start": now - LOOK_BACK, "end": now, "step": 15}
        series = self._get(
            f"{self.prometheus}/api/v1/query{'' if instant else '_range'}", {"query": expression, **span}
        )["result"]
        values = [[s["value"]] if instant else s["values"] for s in series]
        return [s for s, of in zip(series, values, strict=True) if any(math.isfinite(float(v)) for _, v in of)]

    def logql(self, expression: str) -> list[dict[str, Any]]:
        """Return the streams or series of a query."""
        now = int(time.time())
        parameters = {"query": expression, "start": now - LOOK_BACK, "end": now + 5, "limit": 100}
        streams: list[dict[str, Any]] = self._get(f"{self.loki}/loki/api/v1/query_range", parameters)["result"]
        return streams

    def search(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the traces of a search. Grafana writes tags as `key=value`."""
        now = time.time()
        parameters = {name: query[name] for name in ("service", "operation", "minDuration") if query.get(name)}
        if tags := query.get("tags"):
            parameters["tags"] = json.dumps(dict(tag.split("=") for tag in tags.split()))
        microseconds = {"start": str(int((now - LOOK_BACK) * 1e6)), "end": str(int(now * 1e6))}
        traces: list[dict[str, Any]] = self._get(
            f"{self.jaeger}/api/traces", {**parameters, "limit": "20", **microseconds}
        )
        return traces

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """Return one trace."""
        answer = httpx.get(f"{self.jaeger}/api/traces/{trace_id}", timeout=30)
        return None if answer.status_code == 404 else answer.raise_for_status().json()["data"][0]

    def exemplars(self, expression: str) -> list[dict[str, str]]:
        """Return the labels of the exemplars of an expression."""
        now = time.time()
        parameters = {"query": expression, "start": now - LOOK_BACK, "end": now}
        series = self._get(f"{self.prometheus}/api/v1/query_exemplars", parameters)
        return [exemplar["labels"] for s in series for exemplar in s["exemplars"]]

    def label_values(self, label: str, selector: str) -> list[str]:
        """Return the values of `label_values(selector, label)`."""
        values: list[str] = self._get(f"{self.prometheus}/api/v1/label/{label}/values", {"match[]": selector})
        return values

    def selectors(self, expression: str) -> list[str]:
        """Return the metric names or patterns in an expression, as Prometheus parses it."""

        def walk(node: Any) -> Iterator[str]:
            if isinstance(node, dict):
                if node.get("type") == "vectorSelector":
                    yield next(m["value"] for m in node["matchers"] if m["name"] == "__name__")
                node = list(node.values())
            if isinstance(node, list):
                for inner in node:
                    yield from walk(inner)

        return list(walk(self._get(f"{self.prometheus}/api/v1/parse_query", {"query": expression})))

    def _get(self, url: str, params: Mapping[str, Any]) -> Any:
        answer = httpx.get(url, params=dict(params), timeout=30)
        assert answer.status_code == 200, f"{params}: {answer.text}"
        return answer.json()["data"]


@contextmanager
def labels(url: str) -> Iterator[None]:
    """Send a label for a prediction, right or wrong, every second."""
    over = Event()

    def label() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not over.wait(1):
                answered = client.post("/predict", json={"features": row(LOW_CONFIDENCE)}).json()
                client.post("/feedback", json={"prediction_id": answered["prediction_id"], "label": True})

    thread = Thread(target=label, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, real_stack: RealStack) -> Iterator[Stores]:
    """Run the stack with a service of two workers, after successful, rejected, failed and slow requests."""
    bundle, needs = pack_toy(tmp_path_factory.mktemp("toy"))
    env = {
        **needs,
        "OTEL_EXPORTER_OTLP_ENDPOINT": real_stack.otlp_url,
        "OTEL_SERVICE_NAME": SERVICE,
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "MODELTRACE_EVALUATION_INTERVAL": "2",
        "MODELTRACE_GPU_METRICS": "true",
        "LD_LIBRARY_PATH": str(build_fake_nvml(tmp_path_factory.mktemp("nvml"))),
    }
    # Two workers on a busy machine need more time.
    with running_service(bundle, None, "--workers", "2", seconds=240, **env) as (_, url):
        for number in (*range(60), FAILING, SLOW):
            answer = httpx.post(f"{url}/predict", json={"features": row(number)}, timeout=60)
            if answer.status_code == 200:
                label = {"prediction_id": answer.json()["prediction_id"], "label": number % 9 > 4}
                httpx.post(f"{url}/feedback", json=label, timeout=60).raise_for_status()
            httpx.post(f"{url}/predict", json={"features": {"a": "wide"}}, timeout=60)
            httpx.get(f"{url}/nowhere", timeout=60)
        # Counts before the first scrape have no rate, so requests must continue.
        with (
            LoadClients(url, [row(CONFIDENT)], clients=1, pause=0.5),
            labels(url),
        ):
            yield Stores(
                prometheus=real_stack.prometheus,
                loki=real_stack.log_store.url if isinstance(real_stack.log_store, LokiLogs) else "",
                jaeger=real_stack.jaeger,
            )


def marks(query: Mapping[str, Any]) -> list[pytest.MarkDecorator]:
    """Return the marker `loki` if a query needs Loki or its metrics."""
    return [pytest.mark.loki] if query["datasource"]["type"] == "loki" or "loki" in query.get("expr", "") else []


def targets() -> list[Any]:
    """Return every query of every panel."""
    return [
        pytest.param(target, id=f"{name}: {panel['title']}, {target['refId']}", marks=marks(target))
        for name, dashboard in DASHBOARDS.items()
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        if not OTHER_DATA.search(target.get("expr", ""))
    ]


def links() -> list[Any]:
    """Return every distinct link into Explore."""
    names = {
        link["url"]: f"{name}: {link['title']}"
        for name, dashboard in DASHBOARDS.items()
        for element in (dashboard, *(panel.get("fieldConfig", {}).get("defaults", {}) for panel in dashboard["panels"]))
        for link in element.get("links", [])
        if link["url"].startswith("/explore")
    }
    return [pytest.param(url, id=name, marks=marks(query_behind(url))) for url, name in names.items()]


def query_behind(url: str) -> dict[str, Any]:
    """Return the only query of a link into Explore."""
    (pane,) = json.loads(fill(unquote(url.partition("panes=")[2]))).values()
    assert pane["range"] == {"from": "now-1h", "to": "now"}
    (query,) = pane["queries"]
    result: dict[str, Any] = query
    return result


@pytest.mark.parametrize("target", targets())
def test_a_panel_has_data(stores: Stores, target: dict[str, Any]) -> None:
    """Every query of a panel returns data; counters of errors return 0 without an error."""
    wait_until(
        lambda: stores.run(target["datasource"]["type"], target),
        seconds=DATA_TIMEOUT,
        description=f"data of {json.dumps(target, indent=1)}",
    )


@pytest.mark.parametrize("target", [p for p in targets() if p.values[0].get("exemplar")])
def test_an_exemplar_leads_to_its_trace(stores: Stores, target: dict[str, Any]) -> None:
    """The exemplar label that the data source names contains the ID of a trace in Jaeger."""
    (destination,) = SOURCES["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert SOURCES[destination["datasourceUid"]]["type"] == "jaeger"

    exemplars = wait_until(
        lambda: stores.exemplars(fill(target["expr"])), seconds=DATA_TIMEOUT, description="exemplars"
    )

    wait_until(lambda: stores.trace(exemplars[-1][destination["name"]]), description="the trace of an exemplar")


@pytest.mark.parametrize("url", links())
def test_a_link_into_explore_returns_data(stores: Stores, url: str) -> None:
    """The query of a link above the panels or at a data point finds traces or records."""
    query = query_behind(url)

    wait_until(lambda: stores.run(query["datasource"]["type"], query), description=f"data of {query}")


@pytest.mark.parametrize(
    "variable",
    [
        pytest.param(variable, id=f"{name}: {variable['name']}")
        for name, dashboard in DASHBOARDS.items()
        for variable in dashboard["templating"]["list"]
    ],
)
def test_a_variable_lists_existing_values(stores: Stores, variable: dict[str, Any]) -> None:
    """It lists the service name of Jaeger and Loki, all workers, routes, models, features and bins."""
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
    minimum = {"service": 1, "instance": 2, "feature": 3, "bin": 10}.get(variable["name"], 1)

    def offered() -> list[str]:
        values = stores.label_values(label, fill(selector))
        return values if len(values) >= minimum else []

    values = wait_until(offered, seconds=DATA_TIMEOUT, description=f"values of {variable['name']}")
    if variable["name"] == "service":
        pattern = re.compile(variable["regex"].strip("/").replace("\\/", "/"))
        assert pattern.match("shop/modeltrace")[1] == "modeltrace"  # type: ignore[index]
        assert SERVICE in {pattern.match(job)[1] for job in values}  # type: ignore[index]


@pytest.mark.loki
def test_a_log_record_leads_to_its_trace_and_back(stores: Stores) -> None:
    """The derived field extracts the trace ID, and the link of the trace finds only its records."""
    (field,) = SOURCES["loki"]["jsonData"]["derivedFields"]
    back = SOURCES["jaeger"]["jsonData"]["tracesToLogsV2"]
    assert (SOURCES[field["datasourceUid"]]["type"], SOURCES[back["datasourceUid"]]["type"]) == ("jaeger", "loki")
    refused = f'{{service_name="{SERVICE}"}} | severity_number >= 13'

    record = wait_until(lambda: stores.logql(refused), description="a warning")[0]["stream"]
    matcher = re.compile(field["matcherRegex"].replace("$$", "$"))
    (trace_id,) = (value for label, value in record.items() if matcher.search(label))
    trace = wait_until(lambda: stores.trace(trace_id), description="its trace")
    records = stores.logql(fill(back["query"].replace("$$", "$"), {"__trace.traceId": trace["traceID"]}))

    assert records
    assert {stream["stream"]["trace_id"] for stream in records} == {trace_id}


def test_a_span_leads_to_metrics(stores: Stores) -> None:
    """Each query of the link finds metrics of the worker or the operation of the span."""
    settings = SOURCES["jaeger"]["jsonData"]["tracesToMetrics"]
    assert SOURCES[settings["datasourceUid"]]["type"] == "prometheus"
    trace = wait_until(
        lambda: stores.search({"service": SERVICE, "operation": "POST /predict"}), description="a trace"
    )[0]
    span = next(span for span in trace["spans"] if span["operationName"] == "POST /predict")
    known = {tag["key"]: tag["value"] for tag in (*trace["processes"][span["processID"]]["tags"], *span["tags"])}
    # Grafana uses the tags that the span or its process has. Without any the query would select everything.
    tags = ", ".join(f'{tag["value"]}="{known[tag["key"]]}"' for tag in settings["tags"])

    for query in settings["queries"]:
        variables = {"__tags": f"{{{tags}}}", "__span.name": span["operationName"]}
        expression = query["query"].replace("{$$__tags}", "$__tags").replace("$$", "$")
        has_data = partial(stores.promql, fill(expression, variables))
        wait_until(has_data, seconds=DATA_TIMEOUT, description=query["name"])


def test_every_metric_exists(stores: Stores) -> None:
    """Each metric in a query is emitted, or its name is in the binary of the component that emits it on errors."""
    names = {
        (name, target["expr"])
        for param in targets()
        if (target := param.values[0])["datasource"]["type"] == "prometheus"
        for name in stores.selectors(fill(target["expr"]))
    }
    absent = {}
    for name, expression in names:
        if not stores.label_values("__name__", f'{{__name__=~"{name}"}}'):
            absent[name.removesuffix("(_total)?").removeprefix("otelcol_").removeprefix("loki_")] = expression

    if not has_loki():
        absent = {name: where for name, where in absent.items() if "loki" not in where}
    for component, program in (("otelcol", "otelcol"), *([("loki", "loki")] if has_loki() else [])):
        with (
            binary(component, program).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            absent = {name: where for name, where in absent.items() if content.find(name.encode()) < 0}
    assert not absent
