"""Exporters by OpenTelemetry's variables: OTLP over gRPC, the log file, and the sampler."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.backends import Backend, wait_for_records
from tests.helpers.hubs import HubProcess
from tests.helpers.processes import wait_until
from tests.helpers.services import otlp_environment, running_service

pytestmark = pytest.mark.slow

Start = Callable[..., str]
Rows = list[dict[str, float]]


def predict(url: str, row: dict[str, float]) -> dict[str, Any]:
    """Send a pinned request with one row, and return the response."""
    answer = httpx.post(f"{url}/predict", json={"features": row}, headers={"baggage": "modeltrace.pin=1"})
    answered: dict[str, Any] = answer.raise_for_status().json()
    return answered


@pytest.fixture
def start(bundle: Path) -> Iterator[Start]:
    """Return a function that starts a service with environment variables and returns its URL."""
    with ExitStack() as stack:

        def service(**env: str) -> str:
            return stack.enter_context(running_service(bundle, **env)).url

        yield service


def test_all_signals_are_exported_over_grpc(start: Start, backend: Backend, rows: Rows) -> None:
    """With OTEL_EXPORTER_OTLP_PROTOCOL=grpc, spans, log records and exemplars arrive."""
    url = start(**{**otlp_environment(backend.grpc_url), "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})

    trace_id = predict(url, rows[0])["trace_id"]

    assert len(wait_for_records(backend, trace_id, "spans", 4)) == 4
    assert len(wait_for_records(backend, trace_id, "logs", 2)) == 2
    assert len(wait_for_records(backend, trace_id, "exemplars", 4)) >= 4


def test_the_log_file_has_the_exported_records(start: Start, hub: HubProcess, rows: Rows, tmp_path: Path) -> None:
    """The lines of MODELTRACE_LOG_FILE have the IDs and attributes of the records that the hub receives."""
    file = tmp_path / "service.jsonl"
    url = start(**{**otlp_environment(hub.otlp_url), "MODELTRACE_LOG_FILE": str(file)})

    trace_id = predict(url, rows[0])["trace_id"]

    def lines() -> list[dict[str, Any]]:
        written = [json.loads(line) for line in file.read_text().splitlines()]
        return [line for line in written if line.get("trace_id") == trace_id]

    wait_until(lambda: len(lines()) == 2, description="two lines of the trace")
    sent = {log["scope_name"]: log for log in wait_for_records(hub, trace_id, "logs", 2)}
    for line in lines():
        same = sent[line["logger"]]
        assert line["span_id"] == same["span_id"]
        assert line["message"] == same["body"]
        assert {name: line[name] for name in same["attributes"]} == same["attributes"]


@pytest.mark.extended
def test_workers_share_a_log_file_and_rotate_it(start: Start, rows: Rows, tmp_path: Path) -> None:
    """Two workers write to one file that is rotated many times: each prediction is in one of the files, once."""
    env = {"MODELTRACE_LOG_FILE": str(tmp_path / "service.jsonl"), "MODELTRACE_WORKERS": "2"}
    limits = {"MODELTRACE_LOG_FILE_MAX_BYTES": "60000", "MODELTRACE_LOG_FILE_BACKUP_COUNT": "50"}
    url = start(**env, **limits, OTEL_TRACES_EXPORTER="none", OTEL_LOGS_EXPORTER="none", OTEL_METRICS_EXPORTER="none")

    answered = [predict(url, rows[number % len(rows)])["prediction_id"] for number in range(400)]

    def written() -> list[str]:
        lines = [line for file in tmp_path.glob("service.jsonl*") for line in file.read_text().splitlines()]
        return [record["ml.prediction.id"] for line in lines if "ml.prediction.id" in (record := json.loads(line))]

    wait_until(lambda: len(written()) >= 400, description="400 lines")
    assert sorted(written()) == sorted(answered)
    assert len([*tmp_path.glob("service.jsonl*")]) > 3


def test_an_unsampled_trace_has_log_records_but_no_spans(start: Start, backend: Backend, rows: Rows) -> None:
    """Its prediction log record arrives, and none of its spans."""
    url = start(**{**otlp_environment(backend.otlp_url), "OTEL_TRACES_SAMPLER": "always_off"})

    trace_id = predict(url, rows[0])["trace_id"]

    assert len(wait_for_records(backend, trace_id, "predictions")) == 1
    assert backend.trace(trace_id)["spans"] == []


def test_the_hub_says_that_a_trace_was_not_sampled(start: Start, hub: HubProcess, rows: Rows) -> None:
    """The response of the hub says why the trace has no spans."""
    url = start(**{**otlp_environment(hub.otlp_url), "OTEL_TRACES_SAMPLER": "always_off"})

    trace_id = predict(url, rows[0])["trace_id"]

    wait_for_records(hub, trace_id, "predictions")
    assert "not sampled" in hub.trace(trace_id)["empty_reasons"]["spans"]
