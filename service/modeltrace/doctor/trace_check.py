"""One prediction followed from the answer to the backend: what arrived, when, and what to look at if it did not."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from modeltrace.client.service import ServedModel, UnreachableError, describe_error, fetch_model
from modeltrace.doctor.backends.backend import Backend, LogRecordRef, Signal
from modeltrace.errors import ModeltraceError
from modeltrace.telemetry.names import BAGGAGE_PIN, EVENT_PREDICTION, SPAN_FEATURES, SPAN_INFERENCE, SPAN_VALIDATE
from modeltrace.telemetry.records.prediction import ACCESS_LOGGER

SERVER_SPAN = "POST /predict"
ACCESS_RECORD = "access line"
PREDICTION_RECORD = f"{EVENT_PREDICTION} (audit)"
ANY_METRIC = "any metric"

# Seconds between two looks, and the difference between two clocks that is worth a word.
POLL_INTERVAL = 0.1
MAX_CLOCK_OFFSET = 30.0


class PredictionRejectedError(ModeltraceError):
    """The service does not answer the prediction that it was asked for."""


@dataclass(frozen=True, slots=True)
class SentPrediction:
    """An answered prediction: when it was answered (monotonic), and the service's clock minus ours, in seconds."""

    model: ServedModel
    trace_id: str
    answered_at: float
    clock_offset: float


@dataclass(slots=True)
class ExpectedItem:
    """One thing that must arrive, and after how many milliseconds it was seen (`None`: not yet)."""

    signal: Signal
    name: str
    arrived_ms: float | None = None


async def send_prediction(client: httpx.AsyncClient) -> SentPrediction:
    """Send one prediction, marked so that its exemplars are kept.

    The row is made of the examples that the model's schema gives.

    Raises:
        UnreachableError: no service answers.
        RefusedError: it does not answer with a prediction, or without a trace ID.
    """
    model = await fetch_model(client)
    row = {feature.name: feature.example for feature in model.features}
    try:
        response = await client.post("/predict", json={"features": row}, headers={"baggage": f"{BAGGAGE_PIN}=1"})
    except httpx.HTTPError as error:
        raise UnreachableError(f"the service took the prediction and did not answer: {describe_error(error)}") from None
    at = time.monotonic()
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise PredictionRejectedError(
            f"the model refuses the example row of its own schema: {_message(response)}. Pack it again with data that "
            "it accepts, or with wider --range limits"
        )
    if response.status_code != HTTPStatus.OK:
        raise PredictionRejectedError(
            f"the service answers {response.status_code} to a prediction: {_message(response)}. Its log says why"
        )
    if not (trace_id := response.json().get("trace_id")):
        raise PredictionRejectedError(
            "the service answers without a trace ID: its telemetry is off. Start it without OTEL_SDK_DISABLED"
        )
    return SentPrediction(model, trace_id, at, _clock_offset(response))


async def wait_for_telemetry(backend: Backend, prediction: SentPrediction, *, seconds: float) -> list[ExpectedItem]:
    """Look for everything that belongs to the prediction until all of it was seen or the time is over.

    Raises:
        UnreachableError: the backend cannot be asked.
    """
    items = expected_items()
    finders: dict[Signal, Callable[[], Awaitable[set[str]]]] = {
        "span": lambda: _span_names(backend, prediction.trace_id),
        "log record": lambda: _log_names(backend, prediction.trace_id),
        "exemplar": lambda: _exemplar_names(backend, prediction.trace_id),
    }
    deadline = prediction.answered_at + seconds
    while True:
        for signal, find in finders.items():
            waiting = [item for item in items if item.signal == signal and item.arrived_ms is None]
            if waiting:
                seen = await find()
                elapsed = (time.monotonic() - prediction.answered_at) * 1000
                for item in waiting:
                    if item.name in seen:
                        item.arrived_ms = round(elapsed, 1)
        if all(item.arrived_ms is not None for item in items) or time.monotonic() > deadline:
            return items
        await asyncio.sleep(POLL_INTERVAL)


def expected_items() -> list[ExpectedItem]:
    """What one prediction leaves behind, in the order in which it is made."""
    spans = (SERVER_SPAN, SPAN_VALIDATE, SPAN_FEATURES, SPAN_INFERENCE)
    return [
        *(ExpectedItem("span", name) for name in spans),
        ExpectedItem("log record", PREDICTION_RECORD),
        ExpectedItem("log record", ACCESS_RECORD),
        ExpectedItem("exemplar", ANY_METRIC),
    ]


def diagnose(
    items: Sequence[ExpectedItem], prediction: SentPrediction, *, timeout: float, receiver: str = "this backend"
) -> list[str]:
    """What to look at first, a line for each thing that is missing; nothing when nothing is.

    `entry` is what ought to take the service's OTLP.
    """
    absent = {signal: [i.name for i in items if i.signal == signal and i.arrived_ms is None] for signal in _SIGNALS}
    if not any(absent.values()):
        return []
    lines = []
    if all(item.arrived_ms is None for item in items):
        lines.append(
            f"nothing arrived: does the service's OTEL_EXPORTER_OTLP_ENDPOINT lead to {receiver}? It is read when "
            "the service starts; its log says what could not be delivered"
        )
    elif len(absent["span"]) == len([item for item in items if item.signal == "span"]):
        lines.append(
            "no spans, but other signals: is the trace sampled (OTEL_TRACES_SAMPLER)? Is OTEL_TRACES_EXPORTER none?"
        )
    elif absent["span"]:
        lines.append(f"spans missing ({', '.join(absent['span'])}): the service's log says whether its queue was full")
    lines += _diagnose_logs(items, absent["log record"])
    if absent["exemplar"]:
        lines.append(
            f"no exemplar after {timeout:g} s: metrics go out every 60 s by default. Wait longer (--timeout 70) or "
            "start the service with OTEL_METRIC_EXPORT_INTERVAL=5000. Are OTEL_METRICS_EXPORTER (otlp) and "
            "OTEL_METRICS_EXEMPLAR_FILTER (trace_based) as they are by default? A trace that is not sampled has none"
        )
    if abs(prediction.clock_offset) > MAX_CLOCK_OFFSET:
        lines.append(
            f"the service's clock is {prediction.clock_offset:+.0f} s off this machine's: what it sends may count as "
            "too old or as not yet happened"
        )
    return lines


def partly_missing_signals(items: Sequence[ExpectedItem]) -> list[Signal]:
    """The signals of which something is missing; none when all of it arrived, or nothing at all."""
    missing = [item for item in items if item.arrived_ms is None]
    return [] if len(missing) == len(items) else [s for s in _SIGNALS if s in {item.signal for item in missing}]


_SIGNALS: tuple[Signal, ...] = ("span", "log record", "exemplar")


def _diagnose_logs(items: Sequence[ExpectedItem], absent: Sequence[str]) -> list[str]:
    if len(absent) == len([item for item in items if item.signal == "log record"]):
        return ["no log records: is the service's OTEL_LOGS_EXPORTER none?"]
    if ACCESS_RECORD in absent:
        return ["no access line: is the service's MODELTRACE_LOG_LEVEL above INFO?"]
    if PREDICTION_RECORD in absent:
        return ["no audit record: the service's log says whether its queue was full"]
    return []


async def _span_names(backend: Backend, trace_id: str) -> set[str]:
    return set(await backend.span_names(trace_id))


async def _log_names(backend: Backend, trace_id: str) -> set[str]:
    return {name for record in await backend.log_records(trace_id) if (name := _log_name(record))}


def _log_name(record: LogRecordRef) -> str | None:
    if record.event_name == EVENT_PREDICTION:
        return PREDICTION_RECORD
    return ACCESS_RECORD if record.logger == ACCESS_LOGGER else None


async def _exemplar_names(backend: Backend, trace_id: str) -> set[str]:
    return {ANY_METRIC} if await backend.exemplar_metrics(trace_id) else set()


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _clock_offset(response: httpx.Response) -> float:
    try:
        there = parsedate_to_datetime(response.headers["date"])
        return (there - datetime.now(UTC)).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0
