"""A challenger that is another service: one trace across both, and whatever becomes of it harms nobody."""

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
from modeltrace.monitoring.reference_metrics import reference_metrics
from modeltrace.serving.remote_challenger import parse_url
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
    """Another service with the same bundle: where it is."""
    env = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    with running_service(example, **env) as (_, url):
        yield url


def test_its_answer_is_recorded(model: Model, rows: Rows, remote: str) -> None:
    """The row has its prediction ID, model and hash, and says of what it is a shadow; it sees the trace."""
    with service_with_challenger(replace(model, version="0"), None, challenger=remote) as (client, kept):
        answer = client.post("/predict", json={"features": rows[0]}).json()
        wait_until(kept.shadows, description="the shadow")
    request, shadow = kept.requests
    (row,) = RowBuilder("0.1.0").build(shadow)
    (own,) = RowBuilder("0.1.0").build(request)

    assert shadow.remote_call is not None
    assert (shadow.remote_call.status, shadow.remote_call.error_type) == (200, "")
    assert (shadow.trace_id, shadow.parent_span_id) == (request.trace_id, request.span_id)
    assert (row.shadow_of, row.model_version, row.model_hash) == (answer["prediction_id"], "1.0.0", model.hash)
    assert row.prediction_id != own.prediction_id
    assert (row.inputs, row.label) == (own.inputs, own.label)


def test_what_is_private_here_is_private_in_its_shadow(model: Model, rows: Rows, remote: str) -> None:
    """It is asked with the rows as they were sent, and kept with inputs as this service's schema tells them."""
    first, *others = model.schema.features
    reference = first.reference.model_copy(update={"mean": None, "deviation": None})
    dropped = first.model_copy(update={"privacy": "drop", "training_range": None, "reference": reference})
    schema = Schema(features=(dropped, *others))
    with service_with_challenger(replace(model, version="0", schema=schema), None, challenger=remote) as (client, kept):
        assert client.post("/predict", json={"features": rows[0]}).status_code == 200
        wait_until(kept.shadows, description="the shadow")
    (row,) = RowBuilder("0.1.0").build(kept.shadows()[0])

    assert row.inputs is not None
    assert first.name not in row.inputs
    assert others[0].name in row.inputs
    assert outcome(kept) == (200, "")


def test_of_a_batch_the_answered_rows_are_put_to_it(model: Model, rows: Rows, remote: str) -> None:
    """In one call, each with its place."""
    with service_with_challenger(model, None, challenger=remote) as (client, kept):
        body = {"rows": [{}, rows[0], rows[1]]}
        batch = client.post("/predict/batch", json=body).json()["predictions"]
        wait_until(kept.shadows, description="the shadow")
    made = RowBuilder("0.1.0").build(kept.shadows()[0])

    assert [(one.row, one.shadow_of) for one in made] == [
        (1, batch[1]["prediction_id"]),
        (2, batch[2]["prediction_id"]),
    ]


def test_what_it_counts_itself_is_not_counted_here(model: Model, rows: Rows, remote: str) -> None:
    """Sums over all services would have it twice."""
    with service_with_challenger(replace(model, version="0"), None, challenger=remote) as (client, kept):
        client.post("/predict", json={"features": rows[0]})
        wait_until(kept.shadows, description="the shadow")

    assert {version for _, version in counts_by_version(kept.requests)} == {"0"}
    watched = ModelCatalog()
    about = kept.shadows()[0].model
    assert about is not None
    watched.add(about, reference_metrics(model))
    points = FeatureMetrics(watched, exemplar_filter="always_off")
    points.add(kept.shadows())
    assert sum(point.value for point in points.collect()[0].data.data_points) == 0  # type: ignore[union-attr]


def test_it_is_told_as_the_stock_instrumentation_tells_it(
    record: Callable[..., SdkService], model: Model, rows: Rows, remote: str
) -> None:
    """A CLIENT span by the HTTP conventions, whoever tells it; of one that is dead, too."""
    for url in (remote, f"http://127.0.0.1:{free_port()}"):
        service = record(model, challenger=url)
        with service_with_challenger(model, None, challenger=url) as (client, kept):
            for one in (service.client, client):
                assert one.post("/predict", json={"features": rows[0]}).status_code == 200
            wait_until(kept.shadows, description="the shadow")
            wait_until(lambda: "shadow" in service.spans(), description="the stock shadow")  # noqa: B023  asked in this turn
        encoded, _ = SpanEncoder(Origin(b"", "modeltrace")).encode(kept.requests)

        ours = comparable_spans_of_both(spans_of(ExportTraceServiceRequest.FromString(encoded)))
        assert ours == comparable_spans_of_both(sdk_spans(service))
        assert ours[1]["shadow"]["kind"] == 3


def outcome(kept: Any) -> tuple[int, str]:
    """Status and kind of error of the first call."""
    called = kept.shadows()[0].remote_call
    return called.status, called.error_type


def test_a_dead_challenger_harms_nobody(model: Model, rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    """Every request is answered; the span says what was wrong, and the log once."""
    with service_with_challenger(model, None, challenger=f"http://127.0.0.1:{free_port()}") as (client, kept):
        for row in rows[:5]:
            assert client.post("/predict", json={"features": row}).status_code == 200
        wait_until(lambda: len(kept.shadows()) == 5, description="the shadows")

    assert outcome(kept) == (0, "ConnectError")
    assert caplog.text.count("does not answer for now") == 1


def test_a_challenger_that_hangs_harms_nobody(model: Model, rows: Rows) -> None:
    """Its connection is taken and never answered; requests are answered meanwhile, and it counts as away in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with service_with_challenger(model, None, challenger=url) as (client, kept):
            for row in rows[:20]:
                assert client.post("/predict", json={"features": row}).status_code == 200
            wait_until(kept.shadows, description="the first shadow")

    assert outcome(kept) == (0, "ReadTimeout")


def test_the_service_says_what_is_beside_it(model: Model, remote: str) -> None:
    """`GET /model` has the address."""
    with service_with_challenger(model, None, challenger=remote) as (client, _):
        described = client.get("/model").json()["challenger"]

    assert described == {"mode": "shadow", "share": 1.0, "url": remote}


@pytest.mark.parametrize("said", ["http://", "ftp://x", "http://x/path", "http://user:secret@x", "models/1"])
def test_what_is_no_address_is_refused(said: str) -> None:
    """At the start; a password in it is not repeated."""
    with pytest.raises(SettingsError, match="MODELTRACE_CHALLENGER") as caught:
        parse_url(said)
    assert "secret" not in str(caught.value)


def test_another_service_answers_no_share() -> None:
    """The start ends with what to do instead."""
    with pytest.raises(SettingsError, match="load balancer"):
        read_settings(challenger="http://x:1", challenger_mode="split").remote_challenger_url()


@pytest.mark.parametrize("first", ["service", "challenger"])
def test_services_that_share_a_store_have_one_row(store_url: str, first: str) -> None:
    """Whoever is first: it says of what it is a shadow, and is otherwise as the first one wrote it."""
    own = RowBuilder("1").build(AnsweredRequest([answered_row("remote")]))
    of = RowBuilder("2").build(AnsweredRequest([answered_row("remote")], shadow_of=("p",)))
    with open_store(store_url) as store:
        for made in (of, own) if first == "service" else (own, of):
            store.add_predictions(made)
        store.add_predictions(RowBuilder("3").build(AnsweredRequest([answered_row("remote")], shadow_of=("other",))))
        kept = store.find("remote")

    assert kept is not None
    assert (kept.shadow_of, kept.code_version) == ("p", "2" if first == "service" else "1")


def test_it_is_reached_by_its_address_alone(remote: str) -> None:
    """A slash at its end says nothing."""
    assert parse_url(f"{remote}/") == httpx.URL(remote)
