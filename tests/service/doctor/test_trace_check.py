"""The doctor sends a prediction, waits for its telemetry, and gives advice about missing items."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from modeltrace.app import create_app
from modeltrace.client.service import ServedModel, UnreachableError
from modeltrace.doctor.backends.backend import LogRecordRef
from modeltrace.doctor.trace_check import (
    ACCESS_RECORD,
    PredictionRejectedError,
    SentPrediction,
    count_spooled_items,
    diagnose,
    expected_items,
    send_prediction,
    wait_for_telemetry,
)
from modeltrace.inference.model import Model
from modeltrace.inference.schema import Schema
from modeltrace.settings import Settings
from modeltrace.telemetry.providers import Telemetry

PREDICTION = SentPrediction(ServedModel("m", "1", ()), "ab" * 16, answered_at=0.0, clock_offset=0.0)


def advice(missing: Callable[[str, str], bool], *, clock_offset: float = 0.0) -> list[str]:
    """Return the advice if some of the items are missing."""
    items = expected_items()
    for item in items:
        item.arrived_ms = None if missing(item.signal, item.name) else 1.0
    return diagnose(items, replace(PREDICTION, clock_offset=clock_offset), timeout=15)


def test_no_advice_if_everything_arrived() -> None:
    """Even if the clocks differ."""
    assert advice(lambda *_: False, clock_offset=99) == []


def test_endpoint_is_named_if_nothing_arrived() -> None:
    """The first line of advice names the variable of the OTLP endpoint."""
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in advice(lambda *_: True)[0]


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        (lambda signal, _: signal == "span", "OTEL_TRACES_SAMPLER"),
        (lambda _, name: name == "validate", "missing spans (validate)"),
        (lambda signal, _: signal == "log record", "OTEL_LOGS_EXPORTER"),
        (lambda _, name: name == ACCESS_RECORD, "MODELTRACE_LOG_LEVEL"),
        (lambda _, name: name == "ml.prediction", "no prediction log record"),
        (lambda signal, _: signal == "exemplar", "OTEL_METRIC_EXPORT_INTERVAL"),
    ],
)
def test_each_missing_item_has_one_line_of_advice(missing: Callable[[str, str], bool], hint: str) -> None:
    """The line names the setting to check."""
    (line,) = advice(missing)
    assert hint in line


def test_items_that_wait_on_disk_are_the_cause() -> None:
    """The advice has their number from the metrics of the service, and does not suggest a sampler or an exporter."""
    text = (
        "# TYPE modeltrace_sidecar_spooled gauge\n"
        'modeltrace_sidecar_spooled{modeltrace_signal="traces"} 1.0008410e+06\n'
        'modeltrace_sidecar_spooled{job="shop",modeltrace_signal="logs"} 0.0\n'
        'modeltrace_sidecar_restarts_total{modeltrace_signal="logs"} 4.0\n'
    )

    async def count() -> dict[str, int]:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, text=text))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await count_spooled_items(client)

    spooled = asyncio.run(count())
    items = expected_items()
    for item in items:
        item.arrived_ms = None if item.signal == "span" else 1.0
    assert spooled == {"traces": 1000841, "logs": 0}
    assert diagnose(items, PREDICTION, timeout=15, spooled=spooled) == [
        "1,000,841 spans wait on disk; the receiver is slower than the service, or was away"
    ]


def test_clock_offset_is_reported() -> None:
    """If an item is missing, the advice names the difference of the clocks in seconds."""
    assert "-3600 s" in advice(lambda signal, _: signal == "exemplar", clock_offset=-3600)[-1]


class DelayedBackend:
    """A backend in which each signal arrives at a later query than the one before."""

    def __init__(self) -> None:
        self.queries = 0

    async def check(self) -> None:
        """Succeed."""

    async def span_names(self, trace_id: str) -> list[str]:
        """Return all spans at the first query."""
        assert trace_id == PREDICTION.trace_id
        self.queries += 1
        return ["POST /predict", "validate", "features", "inference", "POST"]

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Return one record at the first query and two from the fourth query on."""
        assert trace_id == PREDICTION.trace_id
        self.queries += 1
        first = [LogRecordRef("modeltrace.prediction", "ml.prediction")]
        return first if self.queries < 4 else [*first, LogRecordRef("uvicorn.access", "")]

    async def exemplar_metrics(self, trace_id: str) -> list[str]:
        """Return a metric from the sixth query on."""
        assert trace_id == PREDICTION.trace_id
        self.queries += 1
        return ["ml.inference.duration"] if self.queries > 5 else []


def test_backend_is_polled_until_everything_has_arrived() -> None:
    """Each item gets the time of its arrival, in the order of arrival."""

    async def run() -> list[float | None]:
        prediction = replace(PREDICTION, answered_at=asyncio.get_running_loop().time())
        return [item.arrived_ms for item in await wait_for_telemetry(DelayedBackend(), prediction, seconds=30)]

    arrived = asyncio.run(run())
    assert all(value is not None for value in arrived)
    spans, prediction, access, exemplar = arrived[0], arrived[4], arrived[5], arrived[6]
    assert spans is not None
    assert prediction is not None
    assert access is not None
    assert exemplar is not None
    assert spans <= prediction < access <= exemplar


def send_in_process(settings: Settings, model: Model) -> SentPrediction:
    """Send a prediction to the real application without telemetry."""

    async def run() -> SentPrediction:
        transport = httpx.ASGITransport(create_app(settings, model, Telemetry()))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await send_prediction(client)

    return asyncio.run(run())


def test_service_without_telemetry_is_reported(settings: Settings, model: Model) -> None:
    """The error names the setting that turns telemetry off."""
    with pytest.raises(PredictionRejectedError, match="OTEL_SDK_DISABLED"):
        send_in_process(settings, model)


def test_model_that_rejects_its_own_example_is_reported(settings: Settings, model: Model) -> None:
    """The error contains the message of the service, which names the feature."""
    first, *rest = model.schema.features
    narrow = first.model_copy(update={"valid_range": (-2.0, -1.0)})
    changed = replace(model, schema=Schema(features=(narrow, *rest)))
    with pytest.raises(PredictionRejectedError, match="mean_radius: outside the valid range"):
        send_in_process(settings, changed)


def test_model_that_fails_is_reported(settings: Settings, model: Model) -> None:
    """The error contains the status and refers to the log of the service."""

    def fail(_: object) -> list[object]:
        raise ValueError("no")

    with pytest.raises(PredictionRejectedError, match=r"answers 500 .* See its log"):
        send_in_process(settings, replace(model, predict_fn=fail))


def test_service_of_another_version_is_reported() -> None:
    """A schema with an unknown feature type is an error."""

    async def run() -> None:
        response = httpx.Response(200, json={"name": "m", "version": "1", "features": [{"name": "x", "type": "image"}]})
        transport = httpx.MockTransport(lambda _: response)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await send_prediction(client)

    with pytest.raises(UnreachableError, match="another version"):
        asyncio.run(run())
