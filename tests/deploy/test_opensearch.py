"""Traces and log records in OpenSearch: Jaeger with its programs for indices, and searches for log records."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from stack.components import read_components
from tests.helpers.many import OpenSearch, running_opensearch
from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.stack import binaries, binary

pytestmark = [pytest.mark.many, pytest.mark.stack, pytest.mark.slow]

DEPLOY = Path(__file__).parents[2] / "deploy"
PREFIX = "eu"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def opensearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """Run OpenSearch."""
    with running_opensearch(tmp_path_factory.mktemp("opensearch")) as opensearch:
        yield opensearch


def run_index_program(opensearch: OpenSearch, program: str, *arguments: str) -> None:
    """Run es-rollover or es-index-cleaner with the prefix of the tests."""
    described = read_components().many["jaeger-indices"]
    path = binaries().folder("jaeger-indices", described) / program
    done = subprocess.run(
        [path, *arguments, opensearch.url, f"--index-prefix={PREFIX}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Jaeger:
    """Jaeger's collector and query service."""

    otlp: str
    query: str

    def send(self, names: list[str], service: str = "checkout") -> dict[str, str]:
        """Send a trace of one span for each name. Return the trace ID of each name."""
        tracers = TracerProvider(resource=Resource({"service.name": service}))
        exporter = OTLPSpanExporter(self.otlp, insecure=True)
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        traces = {}
        for name in names:
            span = tracers.get_tracer("test").start_span(name, attributes={"ml.model.name": "churn"})
            span.end()
            traces[name] = f"{span.get_span_context().trace_id:032x}"
        tracers.shutdown()
        return traces

    def search(self, service: str, **params: str) -> set[str]:
        """Return the IDs of the traces that a search finds."""
        answer = httpx.get(
            f"{self.query}/api/traces", params={"service": service, "lookback": "1h", "limit": "1000", **params}
        )
        return {trace["traceID"] for trace in answer.raise_for_status().json()["data"]}

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of a trace."""
        answer = httpx.get(f"{self.query}/api/v3/traces/{trace_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        resources = answer.raise_for_status().json()["result"]["resourceSpans"]
        return [span for r in resources for scope in r["scopeSpans"] for span in scope["spans"]]


@pytest.fixture(scope="module")
def jaeger(opensearch: OpenSearch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """Create the indices, and run a collector and a query service as separate processes, as on Kubernetes."""
    run_index_program(opensearch, "es-rollover", "init", "--shards=1", "--replicas=0")
    folder = tmp_path_factory.mktemp("jaeger")
    ports = {name: free_port() for name in ("OTLP", "QUERY", "QUERY_GRPC", "SAMPLING")}
    with ExitStack() as stack:
        for part in ("collector", "query"):
            health = free_port()
            variables = {
                "OPENSEARCH_URLS": f"[{opensearch.url}]",
                "OPENSEARCH_INDEX_PREFIX": PREFIX,
                "JAEGER_HEALTH_PORT": str(health),
                "JAEGER_METRICS_PORT": str(free_port()),
                "JAEGER_SAMPLING_FILE": str(DEPLOY / "jaeger" / "sampling.json"),
                **{f"JAEGER_{name}_PORT": str(port) for name, port in ports.items()},
            }
            output = folder / f"{part}.log"
            files = [f"--config={DEPLOY / 'jaeger' / 'opensearch' / name}.yaml" for name in ("storage", part)]
            with output.open("wb") as log:
                command = [str(binary("jaeger", "jaeger")), *files]
                popen = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
            process = Process(popen, output)
            stack.callback(process.stop)
            process.wait_for(f"http://127.0.0.1:{health}/status")
        yield Jaeger(f"http://127.0.0.1:{ports['OTLP']}", f"http://127.0.0.1:{ports['QUERY']}")


def test_a_trace_is_found_by_id_service_operation_and_tag(jaeger: Jaeger) -> None:
    """The query service finds what the collector stored, and nothing under another ID."""
    traces = jaeger.send(["predict", "feedback"])
    wait_until(lambda: jaeger.search("checkout") >= set(traces.values()), description="both traces")

    assert jaeger.search("checkout", operation="predict") == {traces["predict"]}
    assert jaeger.search("checkout", tags=json.dumps({"ml.model.name": "churn"})) >= set(traces.values())
    assert jaeger.search("checkout", tags=json.dumps({"ml.model.name": "other"})) == set()
    assert [span["name"] for span in jaeger.trace(traces["predict"])] == ["predict"]
    assert jaeger.trace(secrets.token_hex(16)) == []


def test_a_rollover_loses_no_trace_and_the_cleaner_deletes_old_indices(jaeger: Jaeger, opensearch: OpenSearch) -> None:
    """Spans go to the new index, both indices are searched, and the old one is deleted when it has the age."""
    (before,) = jaeger.send(["before"], "rolled").values()
    wait_until(lambda: jaeger.trace(before), description="the first trace")
    run_index_program(opensearch, "es-rollover", "rollover", '--conditions={"max_age": "0s"}')
    (after,) = jaeger.send(["after"], "rolled").values()
    wait_until(lambda: jaeger.trace(after), description="the second trace")

    assert opensearch.indices(f"{PREFIX}-jaeger-span-0*") == {
        f"{PREFIX}-jaeger-span-000001": [f"{PREFIX}-jaeger-span-read"],
        f"{PREFIX}-jaeger-span-000002": [f"{PREFIX}-jaeger-span-read", f"{PREFIX}-jaeger-span-write"],
    }
    assert jaeger.search("rolled") == {before, after}

    run_index_program(opensearch, "es-index-cleaner", "--rollover", "7")
    assert len(opensearch.indices(f"{PREFIX}-jaeger-span-0*")) == 2  # they are younger
    run_index_program(opensearch, "es-rollover", "lookback", "--unit=seconds", "--unit-count=0")
    run_index_program(opensearch, "es-index-cleaner", "--rollover", "0")

    assert list(opensearch.indices(f"{PREFIX}-jaeger-span-0*")) == [f"{PREFIX}-jaeger-span-000002"]
    assert jaeger.trace(before) == []
    assert jaeger.trace(after)


@pytest.mark.usefixtures("jaeger")
def test_creating_indices_again_leaves_the_aliases_as_they_are(opensearch: OpenSearch) -> None:
    """Each pod of Jaeger does it before it starts. If the first index was deleted, it is created again, without use."""

    def aliases() -> dict[str, list[str]]:
        return {name: found for name, found in opensearch.indices(f"{PREFIX}-jaeger-*").items() if found}

    before = aliases()
    run_index_program(opensearch, "es-rollover", "init", "--shards=1", "--replicas=0")

    assert aliases() == before
    assert before


# ── Log records ──


def document(number: int, **changes: object) -> dict[str, object]:
    """Return a log record as the Collector's exporter encodes it: the Simple Schema for Observability."""
    return {
        "@timestamp": f"2026-11-30T12:00:00.{number:09d}Z",
        "observedTimestamp": "2026-11-30T12:00:01Z",
        "traceId": TRACE,
        "spanId": "00f067aa0ba902b7",
        "body": "prediction of churn",
        "severity": {"text": "INFO", "number": 9},
        "instrumentationScope": {"name": "modeltrace.prediction"},
        "resource": {"service.name": "modeltrace", "service.instance.id": str(number)},
        "attributes": {
            "event.name": "ml.prediction",
            "ml.prediction.id": f"1.{number}",
            "ml.prediction.confidence": 0.5,
            "ml.prediction.inputs": {"age": number, "plan": "basic"},
            "data_stream": {"type": "record"},
        },
        **changes,
    }


@pytest.fixture(scope="module")
def logs(opensearch: OpenSearch) -> OpenSearch:
    """Create the index template, and write records of three kinds to the index of a day."""
    template = (DEPLOY / "opensearch" / "log-records.json").read_text()
    put(opensearch, "_index_template/modeltrace-logs", json.loads(template))
    error = {"severity": {"text": "ERROR", "number": 17}, "instrumentationScope": {"name": "modeltrace.api"}}
    # An attribute with one type in one record and another one in the next.
    odd = {"traceId": "f" * 32, "attributes": {"ml.prediction.inputs": "none", "event": {"name": 1}}}
    records = [*(document(n) for n in range(3)), document(3, **error), document(4, **odd)]
    lines = [json.dumps(line) for record in records for line in ({"create": {}}, record)]
    answer = opensearch.client.post(
        f"{opensearch.url}/modeltrace-logs-2026.11.30/_bulk",
        content="".join(f"{line}\n" for line in lines),
        headers={"content-type": "application/x-ndjson"},
    )
    assert answer.raise_for_status().json()["errors"] is False, answer.text
    return opensearch


def put(opensearch: OpenSearch, path: str, body: Mapping[str, object]) -> None:
    """Send a PUT request."""
    opensearch.client.put(f"{opensearch.url}/{path}", json=body).raise_for_status()


def test_every_record_of_a_trace_is_found_by_its_id(logs: OpenSearch) -> None:
    """The trace ID is a keyword, and the records keep all attributes."""
    found = logs.search("modeltrace-logs-*", {"term": {"traceId": TRACE}})

    assert sorted(str(record["@timestamp"]) for record in found) == [f"2026-11-30T12:00:00.{n:09d}Z" for n in range(4)]
    assert document(0) in found


def test_attributes_are_found_and_add_no_fields(logs: OpenSearch) -> None:
    """Each feature of each model would otherwise be a field of the index, and OpenSearch refuses the 1,001st one."""
    (record,) = logs.search("modeltrace-logs-*", {"term": {"attributes.ml.prediction.id": "1.2"}})
    mapping = logs.client.get(f"{logs.url}/modeltrace-logs-2026.11.30/_mapping").json()
    expected = json.loads((DEPLOY / "opensearch" / "log-records.json").read_text())["template"]["mappings"]

    assert record == document(2)
    assert mapping["modeltrace-logs-2026.11.30"]["mappings"]["properties"].keys() == expected["properties"].keys()


def saved_searches() -> dict[str, str]:
    """Return the query of each saved search by its title."""
    lines = (DEPLOY / "opensearch" / "saved-searches.ndjson").read_text().splitlines()
    found = {}
    for saved in map(json.loads, lines):
        if saved["type"] == "search":
            source = json.loads(saved["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
            found[saved["attributes"]["title"]] = source["query"]["query"]
    return found


@pytest.mark.parametrize(
    ("title", "number"), [("Log records of a trace", 4), ("Predictions", 4), ("Errors", 1)], ids=str
)
def test_saved_searches_find_records(logs: OpenSearch, title: str, number: int) -> None:
    """OpenSearch runs the query of each saved search, in which TRACE_ID is replaced."""
    query = saved_searches()[title].replace("TRACE_ID", TRACE)

    assert len(logs.search("modeltrace-logs-*", {"query_string": {"query": query}})) == number


def test_no_saved_search_is_without_a_test_and_each_has_the_index_of_the_template() -> None:
    """The index pattern of the searches is that of the template and of the Collector's file."""
    objects = [json.loads(line) for line in (DEPLOY / "opensearch" / "saved-searches.ndjson").read_text().splitlines()]
    template = json.loads((DEPLOY / "opensearch" / "log-records.json").read_text())
    (pattern,) = [o["attributes"]["title"] for o in objects if o["type"] == "index-pattern"]

    assert saved_searches().keys() == {"Log records of a trace", "Predictions", "Errors"}
    assert [pattern] == template["index_patterns"]
    assert f":-{pattern.removesuffix('-*')}}}" in (DEPLOY.parent / "otel" / "opensearch.yaml").read_text()
