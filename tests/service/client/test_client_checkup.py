"""What the doctor asks, and what it says of what is missing."""

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
    PREDICTION_RECORD,
    PredictionRejectedError,
    SentPrediction,
    diagnose,
    expected_items,
    send_prediction,
    wait_for_telemetry,
)
from modeltrace.inference.model import Model
from modeltrace.inference.schema import Schema
from modeltrace.settings import Settings
from modeltrace.telemetry.provider import Telemetry

ASKED = SentPrediction(ServedModel("m", "1", ()), "ab" * 16, answered_at=0.0, clock_offset=0.0)


def advice(missing: Callable[[str, str], bool], *, clock_off: float = 0.0) -> list[str]:
    """What is said when some of the items did not arrive."""
    items = expected_items()
    for item in items:
        item.arrived_ms = None if missing(item.signal, item.name) else 1.0
    return diagnose(items, replace(ASKED, clock_off=clock_off), timeout=15)


def test_nothing_is_said_when_everything_arrived() -> None:
    """Whatever the clock says."""
    assert advice(lambda *_: False, clock_off=99) == []


def test_nothing_arrived_points_at_the_endpoint() -> None:
    """The first line is about where telemetry goes."""
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in advice(lambda *_: True)[0]


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        (lambda signal, _: signal == "span", "OTEL_TRACES_SAMPLER"),
        (lambda _, what: what == "validate", "spans missing (validate)"),
        (lambda signal, _: signal == "log record", "OTEL_LOGS_EXPORTER"),
        (lambda _, what: what == ACCESS_RECORD, "MODELTRACE_LOG_LEVEL"),
        (lambda _, what: what == PREDICTION_RECORD, "no audit record"),
        (lambda signal, _: signal == "exemplar", "OTEL_METRIC_EXPORT_INTERVAL"),
    ],
)
def test_each_missing_thing_has_one_line_of_its_own(missing: Callable[[str, str], bool], hint: str) -> None:
    """The line names the setting to look at, or where else to look."""
    (line,) = advice(missing)
    assert hint in line


def test_a_clock_that_is_off_is_mentioned() -> None:
    """Only together with something missing, and with by how much."""
    assert "-3600 s" in advice(lambda signal, _: signal == "exemplar", clock_off=-3600)[-1]


class Arriving:
    """A backend where each signal arrives at a later look than the one before."""

    def __init__(self) -> None:
        self.looks = 0

    async def check(self) -> None:
        """It can."""

    async def spans(self, trace_id: str) -> list[str]:
        """All at once."""
        assert trace_id == ASKED.trace_id
        self.looks += 1
        return ["POST /predict", "validate", "features", "inference", "POST"]

    async def logs(self, trace_id: str) -> list[LogRecordRef]:
        """One now, the other at the second look."""
        assert trace_id == ASKED.trace_id
        self.looks += 1
        first = [LogRecordRef("modeltrace.prediction", "ml.prediction")]
        return first if self.looks < 4 else [*first, LogRecordRef("uvicorn.access", "")]

    async def exemplars(self, trace_id: str) -> list[str]:
        """None before the third look."""
        assert trace_id == ASKED.trace_id
        self.looks += 1
        return ["ml.inference.duration"] if self.looks > 5 else []

    def link(self, trace_id: str) -> str:
        """Nowhere."""
        return trace_id


def test_it_looks_until_everything_has_arrived() -> None:
    """What arrives later is found later, and what was found is not asked for again."""

    async def run() -> list[float | None]:
        asked = replace(ASKED, at=asyncio.get_running_loop().time())
        return [item.arrived_ms for item in await wait_for_telemetry(Arriving(), asked, seconds=30)]

    arrived = asyncio.run(run())
    assert all(value is not None for value in arrived)
    spans, audit, access, exemplar = arrived[0], arrived[4], arrived[5], arrived[6]
    assert spans is not None
    assert audit is not None
    assert access is not None
    assert exemplar is not None
    assert spans <= audit < access <= exemplar


def ask_in_process(settings: Settings, model: Model) -> SentPrediction:
    """Ask the real application, without telemetry."""

    async def run() -> SentPrediction:
        transport = httpx.ASGITransport(create_app(settings, model, Telemetry()))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await send_prediction(client)

    return asyncio.run(run())


def test_a_service_without_telemetry_is_told_apart(settings: Settings, model: Model) -> None:
    """There is nothing to look for, and the message names the setting."""
    with pytest.raises(PredictionRejectedError, match="OTEL_SDK_DISABLED"):
        ask_in_process(settings, model)


def test_a_model_that_refuses_its_own_example_is_told_apart(settings: Settings, model: Model) -> None:
    """The message names the feature and repeats what the service says of it."""
    first, *rest = model.schema.features
    narrow = first.model_copy(update={"valid_range": (-2.0, -1.0)})
    changed = replace(model, schema=Schema(features=(narrow, *rest)))
    with pytest.raises(PredictionRejectedError, match="mean_radius: outside the valid range"):
        ask_in_process(settings, changed)


def test_a_model_that_fails_is_told_apart(settings: Settings, model: Model) -> None:
    """The status is named, and where to look."""

    def fail(_: object) -> list[object]:
        raise ValueError("no")

    with pytest.raises(PredictionRejectedError, match=r"answers 500 .* Its log says why"):
        ask_in_process(settings, replace(model, predict_fn=fail))


def test_a_service_of_another_version_is_told_apart() -> None:
    """A schema that is not understood is not half understood."""

    async def run() -> None:
        answer = httpx.Response(200, json={"name": "m", "version": "1", "features": [{"name": "x", "type": "image"}]})
        transport = httpx.MockTransport(lambda _: answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await send_prediction(client)

    with pytest.raises(UnreachableError, match="another version"):
        asyncio.run(run())
