"""What the project asks of Loki is checked without a Loki: its configuration, and every LogQL query.

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

# What Loki makes of a record's own fields, and of the event's name, which otel/collector.yaml makes an attribute.
OF_A_RECORD = {"trace_id", "span_id", "severity_text", "severity_number", "scope_name", "event_name"}


def underscored(name: str) -> str:
    """An attribute's name as Loki has it."""
    return name.replace(".", "_")


def known_fields() -> set[str]:
    """What a record in Loki may be filtered by."""
    attributes = {v for k, v in vars(names).items() if k.isupper() and isinstance(v, str)}
    resource = build_resource("modeltrace", "1", workers=1).attributes
    return OF_A_RECORD | {underscored(name) for name in (*attributes, *resource)}


def index_labels() -> set[str]:
    """What a stream in Loki may be selected by."""
    (action,) = LIMITS["otlp_config"]["resource_attributes"]["attributes_config"]
    assert action["action"] == "index_label"
    return {underscored(name) for name in action["attributes"]}


def strings(inside: Any) -> list[str]:
    """Every text in a document."""
    if isinstance(inside, dict):
        inside = list(inside.values())
    if isinstance(inside, list):
        return [text for one in inside for text in strings(one)]
    return [inside] if isinstance(inside, str) else []


def of_loki(inside: Any) -> list[str]:
    """Every query of a Loki data source, however deep it stands; Explore's links have theirs in the address."""
    found: list[str] = []
    if isinstance(inside, dict):
        if isinstance(source := inside.get("datasource"), dict) and source["type"] == "loki" and "expr" in inside:
            found.append(inside["expr"])
        for key, value in inside.items():
            panes = value.partition("panes=")[2] if key == "url" and isinstance(value, str) else ""
            found += of_loki(json.loads(unquote(panes)) if panes else value)
    if isinstance(inside, list):
        found += [query for one in inside for query in of_loki(one)]
    return found


def queries() -> dict[str, str]:
    """Every LogQL query that the project has, once; the value says where it stands."""
    found = {doctors_query("0" * 32): "modeltrace doctor"}
    for path in sorted(GRAFANA.glob("dashboards/*.json")):
        found |= dict.fromkeys(of_loki(json.loads(path.read_text())), path.name)
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
    (back,) = (s["jsonData"]["tracesToLogsV2"]["query"] for s in sources if s["type"] == "jaeger")
    found[back.replace("$$", "$")] = "datasources.yaml"
    # Documentation shows whole queries, and filters to be added to one.
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *GRAFANA.glob("*.md")]):
        code = [text.replace("\\|", "|") for text in re.findall(r"`([^`\n]+)`", path.read_text())]
        found |= {text: path.name for text in code if text.startswith("{service_name")}
        found |= {
            '{service_name="modeltrace"} ' + text: path.name for text in code if re.match(r"\| \w+ ?[=><!]", text)
        }
    return found


def filled(query: str) -> str:
    """A query with Grafana's variables replaced."""
    return re.sub(r"\$(?:\{[\w.]+\}|\w+)", "1m", query)


@pytest.mark.parametrize("query", queries(), ids=lambda query: f"{queries()[query]}: {query}")
def test_a_query_asks_for_what_there_is(query: str) -> None:
    """Streams are selected by indexed labels alone, records by what the service or the Collector gives them."""
    parsed = parse(filled(query))

    assert parsed.labels <= index_labels()
    inputs = f"{underscored(names.ML_PREDICTION_INPUTS)}_"  # one a feature
    assert {name for name in parsed.filters | parsed.groups if not name.startswith(inputs)} <= known_fields()


def test_the_queries_are_found() -> None:
    """Those of the dashboards, their links, the data source, the doctor and the documentation."""
    assert {place.rpartition(".")[2] for place in queries().values()} == {"json", "yaml", "md", "modeltrace doctor"}
    assert len(queries()) >= 10


def test_the_reader_understands_and_refuses() -> None:
    """What is read is what the query says; what is no query is an error, not an empty answer."""
    assert parse('{a="1", b=~".+"} | c="x" | d >= 1.5') == Query(frozenset("ab"), frozenset("cd"))
    assert parse('sum by (e) (rate({a="1"} | c!="x" [5m]))') == Query(frozenset("a"), frozenset("c"), frozenset("e"))
    for wrong in ("", "{}", '{a="1"', '{a="1"} | c', '{a="1"} |= "x"', '{a="1"} c="x"', 'rate({a="1"})', '{a.b="1"}'):
        with pytest.raises(LogqlError):
            parse(wrong)


def test_trace_ids_and_attributes_are_stored_beside_the_line() -> None:
    """Structured metadata needs this schema; only what names a service is an index label."""
    (schema,) = CONFIG["schema_config"]["configs"]

    assert LIMITS["allow_structured_metadata"] is True
    assert (schema["store"], schema["schema"]) == ("tsdb", "v13")
    assert LIMITS["otlp_config"]["resource_attributes"]["ignore_defaults"] is True
    assert index_labels() == {"service_name", "service_namespace", "deployment_environment_name"}


def test_no_record_of_the_service_is_too_large() -> None:
    """A wide model's audit record has an attribute a feature; the lines of `ml.model` fit Loki's default of 256 KB."""
    assert LIMITS["max_structured_metadata_entries_count"] >= 10 * 300  # tests/contract puts 300 to a real stack
    assert LIMITS["max_structured_metadata_size"] == "1MB"
    assert LIMITS.get("max_line_size", "256KB") == "256KB"
    assert MAX_BODY_BYTES < 256_000
    largest = COLLECTOR["receivers"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"] * 2**20
    assert CONFIG["server"]["grpc_server_max_recv_msg_size"] >= largest


def test_what_waited_through_an_outage_is_taken() -> None:
    """Records may be as old as retention allows, and arrive faster than the default of 4 MB a second."""
    assert LIMITS["reject_old_samples_max_age"] == LIMITS["retention_period"]
    assert LIMITS["ingestion_rate_mb"] >= 64
    assert LIMITS["ingestion_burst_size_mb"] >= LIMITS["ingestion_rate_mb"]
    assert LIMITS["per_stream_rate_limit_burst"] == f"{LIMITS['ingestion_burst_size_mb']}MB"


def test_old_records_are_deleted() -> None:
    """The compactor deletes only where both are set."""
    assert CONFIG["compactor"]["retention_enabled"] is True
    assert CONFIG["compactor"]["delete_request_store"] == "filesystem"


def test_everything_is_written_below_one_folder_and_nothing_is_reported() -> None:
    """A container's root can then be read-only; usage statistics are off."""
    folders = [text for text in strings(CONFIG) if "/" in text]

    assert len(folders) == 5
    assert [folder for folder in folders if not folder.startswith("${LOKI_DATA:-/var/lib/loki}")] == []
    assert CONFIG["analytics"]["reporting_enabled"] is False


def test_addresses_come_from_the_table_of_parts() -> None:
    """Each variable has a default, which is the port of stack/components.toml, on loopback."""
    part = read_components().components["loki"]
    variables = dict(VARIABLE.findall((ROOT / "deploy" / "loki" / "loki.yaml").read_text()))

    assert set(variables) == set(part.environment)
    assert variables["LOKI_HOST"] == "127.0.0.1"
    assert (int(variables["LOKI_HTTP_PORT"]), int(variables["LOKI_GRPC_PORT"])) == (
        part.ports["http"],
        part.ports["grpc"],
    )
    assert "-config.expand-env=true" in part.command


def test_the_collector_sends_to_lokis_otlp_receiver() -> None:
    """Over HTTP, to the path that Loki serves, without end, from a queue on disk."""
    exporter = COLLECTOR["exporters"]["otlp_http/loki"]

    assert exporter["endpoint"] == "${env:LOKI_OTLP_ENDPOINT:-http://127.0.0.1:3100/otlp}"
    assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
    assert exporter["sending_queue"]["storage"] == "file_storage"
    assert COLLECTOR["service"]["pipelines"]["logs/out"]["exporters"] == ["otlp_http/loki"]
