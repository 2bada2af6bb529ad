"""A challenger that is another service: one trace across both services, and failures that affect no response."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from modeltrace.errors import SettingsError
from modeltrace.inference.model import Model
from modeltrace.inference.schema import Schema
from modeltrace.monitoring.reference_gauges import reference_metrics
from modeltrace.serving.remote_challenger import RemoteChallenger, parse_url
from modeltrace.settings import read_settings
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.store.rows import RowBuilder
from modeltrace.store.store import open_store
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.records.prediction import Origin
from tests.helpers.conformance import comparable_spans_of_both, counts_by_version, sdk_spans
from tests.helpers.factories import AnsweredRequest, answered_row
from tests.helpers.in_process_services import SdkService, service_with_challenger, spans_of
from tests.helpers.processes import free_port, wait_until
from tests.helpers.services import running_service

pytestmark = pytest.mark.slow

Rows = list[dict[str, float]]


@pytest.fixture(scope="module")
def remote(example: Path) -> Iterator[str]:
    """Start another service with the same bundle and return its URL."""
    env = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    with running_service(example, **env) as (_, url):
        yield url


def test_the_remote_prediction_is_recorded(model: Model, rows: Rows, remote: str) -> None:
    """The stored row has its own prediction ID, model and hash, and refers to the shadowed prediction and trace."""
    with service_with_challenger(replace(model, version="0"), None, challenger=remote) as (client, queue):
        answer = client.post("/predict", json={"features": rows[0]}).json()
        wait_until(queue.shadows, description="the shadow")
    request, shadow = queue.requests
    (row,) = RowBuilder("0.1.0").build(shadow)
    (own,) = RowBuilder("0.1.0").build(request)

    assert shadow.remote_call is not None
    assert (shadow.remote_call.status, shadow.remote_call.error_type) == (200, "")
    assert (shadow.trace_id, shadow.parent_span_id) == (request.trace_id, request.span_id)
    assert (row.shadow_of, row.model_version, row.model_hash) == (answer["prediction_id"], "1.0.0", model.hash)
    assert row.prediction_id != own.prediction_id
    assert (row.inputs, row.label) == (own.inputs, own.label)


def test_private_features_are_redacted_in_shadow_rows(model: Model, rows: Rows, remote: str) -> None:
    """The challenger receives the original rows; stored inputs are redacted by the primary's schema."""
    first, *others = model.schema.features
    reference = first.reference.model_copy(update={"mean": None, "deviation": None})
    dropped = first.model_copy(update={"privacy": "drop", "training_range": None, "reference": reference})
    schema = Schema(features=(dropped, *others))
    with service_with_challenger(replace(model, version="0", schema=schema), None, challenger=remote) as (
        client,
        queue,
    ):
        assert client.post("/predict", json={"features": rows[0]}).status_code == 200
        wait_until(queue.shadows, description="the shadow")
    (row,) = RowBuilder("0.1.0").build(queue.shadows()[0])

    assert row.inputs is not None
    assert first.name not in row.inputs
    assert others[0].name in row.inputs
    assert outcome(queue) == (200, "")


def test_only_answered_rows_of_a_batch_are_sent(model: Model, rows: Rows, remote: str) -> None:
    """They are sent in one call and keep their row indexes."""
    with service_with_challenger(model, None, challenger=remote) as (client, queue):
        body = {"rows": [{}, rows[0], rows[1]]}
        batch = client.post("/predict/batch", json=body).json()["predictions"]
        wait_until(queue.shadows, description="the shadow")
    stored = RowBuilder("0.1.0").build(queue.shadows()[0])

    assert [(row.row, row.shadow_of) for row in stored] == [
        (1, batch[1]["prediction_id"]),
        (2, batch[2]["prediction_id"]),
    ]


def test_predictions_of_another_service_are_not_counted_here(model: Model, rows: Rows, remote: str) -> None:
    """Sums over all services would count them twice."""
    with service_with_challenger(replace(model, version="0"), None, challenger=remote) as (client, queue):
        client.post("/predict", json={"features": rows[0]})
        wait_until(queue.shadows, description="the shadow")

    assert {version for _, version in counts_by_version(queue.requests)} == {"0"}
    catalog = ModelCatalog()
    remote_model = queue.shadows()[0].model
    assert remote_model is not None
    catalog.add(remote_model, reference_metrics(model))
    points = FeatureMetrics(catalog, exemplar_filter="always_off")
    points.add(queue.shadows())
    assert sum(point.value for point in points.collect()[0].data.data_points) == 0  # type: ignore[union-attr]


def test_sidecar_and_sdk_record_the_same_client_span(
    record: Callable[..., SdkService], model: Model, rows: Rows, remote: str
) -> None:
    """A CLIENT span with the attributes of the HTTP conventions, also for an unreachable challenger."""
    for url in (remote, f"http://127.0.0.1:{free_port()}"):
        service = record(model, challenger=url)
        with service_with_challenger(model, None, challenger=url) as (client, queue):
            for caller in (service.client, client):
                assert caller.post("/predict", json={"features": rows[0]}).status_code == 200
            wait_until(queue.shadows, description="the shadow")
            wait_until(lambda: "shadow" in service.spans(), description="the shadow of the SDK")  # noqa: B023  called in this iteration
        ((encoded, _),) = SpanEncoder(Origin(b"", "modeltrace")).encode(queue.requests)

        spans = comparable_spans_of_both(spans_of(ExportTraceServiceRequest.FromString(encoded)))
        assert spans == comparable_spans_of_both(sdk_spans(service))
        assert spans[1]["shadow"]["kind"] == 3


def outcome(queue: Any) -> tuple[int, str]:
    """Return the status and `error.type` of the first call."""
    call = queue.shadows()[0].remote_call
    return call.status, call.error_type


def test_an_unreachable_challenger_does_not_affect_responses(
    model: Model, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """Every request is answered; each span has the error, and it is logged once."""
    with service_with_challenger(model, None, challenger=f"http://127.0.0.1:{free_port()}") as (client, queue):
        for row in rows[:5]:
            assert client.post("/predict", json={"features": row}).status_code == 200
        wait_until(lambda: len(queue.shadows()) == 5, description="the shadows")

    assert outcome(queue) == (0, "ConnectError")
    assert caplog.text.count("does not answer for now") == 1


def test_a_hanging_challenger_does_not_affect_responses(model: Model, rows: Rows) -> None:
    """It accepts the connection and never responds. Requests are answered meanwhile, and the call times out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with service_with_challenger(model, None, challenger=url) as (client, queue):
            for row in rows[:20]:
                assert client.post("/predict", json={"features": row}).status_code == 200
            wait_until(queue.shadows, description="the first shadow")

    assert outcome(queue) == (0, "ReadTimeout")


def test_model_metadata_contains_the_challenger(model: Model, remote: str) -> None:
    """`GET /model` returns mode, share and address."""
    with service_with_challenger(model, None, challenger=remote) as (client, _):
        described = client.get("/model").json()["challenger"]

    assert described == {"mode": "shadow", "share": 1.0, "url": remote}


@pytest.mark.parametrize("text", ["http://", "ftp://x", "http://x/path", "http://user:secret@x", "models/1"])
def test_an_invalid_address_is_rejected(text: str) -> None:
    """The message does not contain a password of the URL."""
    with pytest.raises(SettingsError, match="MODELTRACE_CHALLENGER") as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_not_in_the_error() -> None:
    """The error names the variable."""
    unused: Any = None
    with pytest.raises(SettingsError, match="MODELTRACE_CHALLENGER_API_KEY has a key with characters") as caught:
        RemoteChallenger("http://127.0.0.1:9", unused, unused, api_key="sekret\n0123456789")
    assert "sekret" not in str(caught.value)


def test_another_service_cannot_answer_a_share() -> None:
    """The error message says what to do instead."""
    with pytest.raises(SettingsError, match="load balancer"):
        read_settings(challenger="http://x:1", challenger_mode="split").remote_challenger_url()


@pytest.mark.parametrize("first", ["service", "challenger"])
def test_services_that_share_a_store_write_one_row(store_url: str, first: str) -> None:
    """In either order, the row has the reference of the shadow; all other columns are those of the first write."""
    own = RowBuilder("1").build(AnsweredRequest([answered_row("remote")]))
    shadow = RowBuilder("2").build(AnsweredRequest([answered_row("remote")], shadow_of=("p",)))
    with open_store(store_url) as store:
        for stored in (shadow, own) if first == "service" else (own, shadow):
            store.add_predictions(stored)
        store.add_predictions(RowBuilder("3").build(AnsweredRequest([answered_row("remote")], shadow_of=("other",))))
        row = store.find("remote")

    assert row is not None
    assert (row.shadow_of, row.code_version) == ("p", "2" if first == "service" else "1")


def test_a_trailing_slash_of_the_address_is_ignored(remote: str) -> None:
    """Both forms name the same service."""
    assert parse_url(f"{remote}/") == httpx.URL(remote)
