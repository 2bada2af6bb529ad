"""The configuration of Loki and every LogQL query, checked without a Loki.

Tests with the marker `loki` run the queries against a real one.
"""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from modeltrace.doctor.backends.loki import trace_query as doctors_query
from modeltrace.monitoring.model_event import MAX_BODY_BYTES
from modeltrace.telemetry import names
from modeltrace.telemetry.resource import build_resource
from stack.components import read_components
from tests.helpers.logql import LogqlError, Query, parse

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "loki" / "loki.yaml").read_text())
COLLECTOR: dict[str, Any] = yaml.safe_load((ROOT / "otel" / "collector.yaml").read_text())
LIMITS: dict[str, Any] = CONFIG["limits_config"]
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")

# The names in Loki of the fields of a record, and of the event name, which otel/collector.yaml makes an attribute.
OF_A_RECORD = {"trace_id", "span_id", "severity_text", "severity_number", "scope_name", "event_name"}


def underscored(name: str) -> str:
    """Return the name of an attribute in Loki."""
    return name.replace(".", "_")


def known_fields() -> set[str]:
    """Return the fields by which records in Loki can be filtered."""
    attributes = {v for k, v in vars(names).items() if k.isupper() and isinstance(v, str)}
    resource = build_resource("modeltrace", "1", workers=1).attributes
    return OF_A_RECORD | {underscored(name) for name in (*attributes, *resource)}


def index_labels() -> set[str]:
    """Return the labels by which streams in Loki can be selected."""
    (action,) = LIMITS["otlp_config"]["resource_attributes"]["attributes_config"]
    assert action["action"] == "index_label"
    return {underscored(name) for name in action["attributes"]}


def strings(inside: Any) -> list[str]:
    """Return every text in a document."""
    if isinstance(inside, dict):
        inside = list(inside.values())
    if isinstance(inside, list):
        return [text for value in inside for text in strings(value)]
    return [inside] if isinstance(inside, str) else []


def of_loki(inside: Any) -> list[str]:
    """Return every query of a Loki data source at any depth, including those in links to Explore."""
    expressions: list[str] = []
    if isinstance(inside, dict):
        if isinstance(source := inside.get("datasource"), dict) and source["type"] == "loki" and "expr" in inside:
            expressions.append(inside["expr"])
        for key, value in inside.items():
            panes = value.partition("panes=")[2] if key == "url" and isinstance(value, str) else ""
            expressions += of_loki(json.loads(unquote(panes)) if panes else value)
    if isinstance(inside, list):
        expressions += [query for value in inside for query in of_loki(value)]
    return expressions


def queries() -> dict[str, str]:
    """Return every LogQL query of the project with its location."""
    locations = {doctors_query("0" * 32): "modeltrace doctor"}
    for path in sorted(GRAFANA.glob("dashboards/*.json")):
        locations |= dict.fromkeys(of_loki(json.loads(path.read_text())), path.name)
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
    (back,) = (s["jsonData"]["tracesToLogsV2"]["query"] for s in sources if s["type"] == "jaeger")
    locations[back.replace("$$", "$")] = "datasources.yaml"
    # The documentation contains complete queries, and filters that extend one.
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *GRAFANA.glob("*.md")]):
        code = [text.replace("\\|", "|") for text in re.findall(r"`([^`\n]+)`", path.read_text())]
        locations |= {text: path.name for text in code if text.startswith("{service_name")}
        locations |= {
            '{service_name="modeltrace"} ' + text: path.name for text in code if re.match(r"\| \w+ ?[=><!]", text)
        }
    return locations


def filled(query: str) -> str:
    """Replace the Grafana variables of a query."""
    return re.sub(r"\$(?:\{[\w.]+\}|\w+)", "1m", query)


@pytest.mark.parametrize("query", queries(), ids=lambda query: f"{queries()[query]}: {query}")
def test_queries_use_existing_labels_and_fields(query: str) -> None:
    """Streams are selected only by index labels, records by fields that the service or the Collector sets."""
    parsed = parse(filled(query))

    assert parsed.labels <= index_labels()
    inputs = f"{underscored(names.ML_PREDICTION_INPUTS)}_"  # one per feature
    assert {name for name in parsed.filters | parsed.groups if not name.startswith(inputs)} <= known_fields()


def test_the_queries_are_found() -> None:
    """They come from dashboards, links, the data source, the doctor and the documentation."""
    assert {location.rpartition(".")[2] for location in queries().values()} == {
        "json",
        "yaml",
        "md",
        "modeltrace doctor",
    }
    assert len(queries()) >= 10


def test_the_query_parser_accepts_and_rejects() -> None:
    """It parses valid queries, and an invalid query is an error instead of an empty result."""
    assert parse('{a="1", b=~".+"} | c="x" | d >= 1.5') == Query(frozenset("ab"), frozenset("cd"))
    assert parse('sum by (e) (rate({a="1"} | c!="x" [5m]))') == Query(frozenset("a"), frozenset("c"), frozenset("e"))
    for wrong in ("", "{}", '{a="1"', '{a="1"} | c', '{a="1"} |= "x"', '{a="1"} c="x"', 'rate({a="1"})', '{a.b="1"}'):
        with pytest.raises(LogqlError):
            parse(wrong)


def test_trace_ids_and_attributes_are_structured_metadata() -> None:
    """Structured metadata needs this schema; only names of a service are index labels."""
    (schema,) = CONFIG["schema_config"]["configs"]

    assert LIMITS["allow_structured_metadata"] is True
    assert (schema["store"], schema["schema"]) == ("tsdb", "v13")
    assert LIMITS["otlp_config"]["resource_attributes"]["ignore_defaults"] is True
    assert index_labels() == {"service_name", "service_namespace", "deployment_environment_name"}


def test_no_record_of_the_service_is_too_large() -> None:
    """A wide prediction log record has one attribute per feature; `ml.model` lines fit the default limit of 256 KB."""
    assert LIMITS["max_structured_metadata_entries_count"] >= 10 * 300  # tests/contract sends 300 to a real stack
    assert LIMITS["max_structured_metadata_size"] == "1MB"
    assert LIMITS.get("max_line_size", "256KB") == "256KB"
    assert MAX_BODY_BYTES < 256_000
    largest = COLLECTOR["receivers"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"] * 2**20
    assert CONFIG["server"]["grpc_server_max_recv_msg_size"] >= largest


def test_records_queued_during_an_outage_are_accepted() -> None:
    """Records may be as old as the retention, and arrive faster than the default of 4 MB/s."""
    assert LIMITS["reject_old_samples_max_age"] == LIMITS["retention_period"]
    assert LIMITS["ingestion_rate_mb"] >= 64
    assert LIMITS["ingestion_burst_size_mb"] >= LIMITS["ingestion_rate_mb"]
    assert LIMITS["per_stream_rate_limit_burst"] == f"{LIMITS['ingestion_burst_size_mb']}MB"


def test_old_records_are_deleted() -> None:
    """The compactor deletes only if both settings are present."""
    assert CONFIG["compactor"]["retention_enabled"] is True
    assert CONFIG["compactor"]["delete_request_store"] == "filesystem"


def test_data_is_in_one_folder_and_usage_reporting_is_off() -> None:
    """The root file system of the container can be read-only."""
    folders = [text for text in strings(CONFIG) if "/" in text]

    assert len(folders) == 5
    assert [folder for folder in folders if not folder.startswith("${LOKI_DATA:-/var/lib/loki}")] == []
    assert CONFIG["analytics"]["reporting_enabled"] is False


def test_addresses_have_defaults_of_the_component_table() -> None:
    """The default of each variable is the port in stack/components.toml on loopback."""
    component = read_components().components["loki"]
    variables = dict(VARIABLE.findall((ROOT / "deploy" / "loki" / "loki.yaml").read_text()))

    assert set(variables) == set(component.environment)
    assert variables["LOKI_HOST"] == "127.0.0.1"
    assert (int(variables["LOKI_HTTP_PORT"]), int(variables["LOKI_GRPC_PORT"])) == (
        component.ports["http"],
        component.ports["grpc"],
    )
    assert "-config.expand-env=true" in component.command


def test_the_collector_sends_to_lokis_otlp_receiver() -> None:
    """It sends over HTTP to the OTLP path of Loki and retries without end, from a queue on disk."""
    exporter = COLLECTOR["exporters"]["otlp_http/loki"]

    assert exporter["endpoint"] == "${env:LOKI_OTLP_ENDPOINT:-http://127.0.0.1:3100/otlp}"
    assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
    assert exporter["sending_queue"]["storage"] == "file_storage"
    assert COLLECTOR["service"]["pipelines"]["logs/out"]["exporters"] == ["otlp_http/loki"]
