"""Send one prediction, wait for its telemetry in the backend, and suggest what to check for missing signals."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from modeltrace.client.service import ServedModel, UnreachableError, describe_error, error_message, fetch_model
from modeltrace.doctor.backends.backend import Backend, Signal
from modeltrace.errors import ModeltraceError
from modeltrace.telemetry.names import (
    BAGGAGE_PIN,
    EVENT_PREDICTION,
    ITEM_NAMES,
    METRIC_SPOOLED,
    SPAN_FEATURES,
    SPAN_INFERENCE,
    SPAN_VALIDATE,
)
from modeltrace.telemetry.records.prediction import ACCESS_LOGGER

SERVER_SPAN = "POST /predict"
ACCESS_RECORD = "access log"
ANY_METRIC = "any metric"
_SIGNALS: tuple[Signal, ...] = ("span", "log record", "exemplar")

# The number of items of each signal that wait on disk, in the Prometheus text of the service.
_SPOOLED = re.compile(
    rf'^{METRIC_SPOOLED.replace(".", "_")}\{{(?:[^}}\n]*,)?modeltrace_signal="(\w+)"[^}}\n]*\}} (\S+)', re.MULTILINE
)

_SPOOLED_SIGNALS: dict[str, Signal] = {"traces": "span", "logs": "log record", "metrics": "exemplar"}

# Seconds between two polls of the backend.
POLL_INTERVAL = 0.1
# Seconds between the clocks of service and client above which the difference is reported.
MAX_CLOCK_OFFSET = 30.0


class PredictionRejectedError(ModeltraceError):
    """The service does not answer a request with a prediction."""


@dataclass(frozen=True, slots=True)
class SentPrediction:
    """An answered prediction: the monotonic time of the answer, and the service's clock minus ours, in seconds."""

    model: ServedModel
    trace_id: str
    answered_at: float
    clock_offset: float


@dataclass(slots=True)
class ExpectedItem:
    """A telemetry item that must arrive, and the milliseconds until it was found; `None` if it was not found yet."""

    signal: Signal
    name: str
    arrived_ms: float | None = None


async def send_prediction(client: httpx.AsyncClient) -> SentPrediction:
    """Send one prediction request made of the examples in the model's schema.

    The request is pinned: its exemplars take precedence over others.

    Raises:
        UnreachableError: no service answers.
        PredictionRejectedError: the service answers without a prediction or without a trace ID.
    """
    model = await fetch_model(client)
    row = {feature.name: feature.example for feature in model.features}
    try:
        response = await client.post("/predict", json={"features": row}, headers={"baggage": f"{BAGGAGE_PIN}=1"})
    except httpx.HTTPError as error:
        raise UnreachableError(f"the service does not answer a prediction: {describe_error(error)}") from None
    answered_at = time.monotonic()
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise PredictionRejectedError(
            f"the model rejects the example row of its own schema: {error_message(response)}. Pack it again with data "
            "that it accepts, or with wider --range limits"
        )
    if response.status_code != HTTPStatus.OK:
        raise PredictionRejectedError(
            f"the service answers {response.status_code} to a prediction: {error_message(response)}. See its log"
        )
    if not (trace_id := response.json().get("trace_id")):
        raise PredictionRejectedError(
            "the service answers without a trace ID: its telemetry is off. Start it without OTEL_SDK_DISABLED"
        )
    return SentPrediction(model, trace_id, answered_at, _clock_offset(response))


async def wait_for_telemetry(backend: Backend, prediction: SentPrediction, *, seconds: float) -> list[ExpectedItem]:
    """Poll the backend until all items of the prediction have arrived, or for `seconds` after its answer.

    Raises:
        UnreachableError: the backend cannot be queried.
    """
    items = expected_items()
    deadline = prediction.answered_at + seconds
    while True:
        for signal in _SIGNALS:
            missing = [item for item in items if item.signal == signal and item.arrived_ms is None]
            if missing:
                names = await _arrived_names(backend, signal, prediction.trace_id)
                elapsed_ms = round((time.monotonic() - prediction.answered_at) * 1000, 1)
                for item in missing:
                    if item.name in names:
                        item.arrived_ms = elapsed_ms
        if all(item.arrived_ms is not None for item in items) or time.monotonic() > deadline:
            return items
        await asyncio.sleep(POLL_INTERVAL)


def expected_items() -> list[ExpectedItem]:
    """Return the items that one prediction emits, in the order of their creation."""
    return [
        *(ExpectedItem("span", name) for name in (SERVER_SPAN, SPAN_VALIDATE, SPAN_FEATURES, SPAN_INFERENCE)),
        ExpectedItem("log record", EVENT_PREDICTION),
        ExpectedItem("log record", ACCESS_RECORD),
        ExpectedItem("exemplar", ANY_METRIC),
    ]


async def count_spooled_items(client: httpx.AsyncClient) -> Counter[str]:
    """Return how many items of each signal wait on the disk of the service, from its `GET /metrics`.

    The result is empty if the service does not return its metrics, because it is only a hint.
    """
    counts: Counter[str] = Counter()
    try:
        response = await client.get("/metrics")
    except httpx.HTTPError:
        return counts
    if response.status_code == HTTPStatus.OK:
        for signal, count in _SPOOLED.findall(response.text):
            counts[signal] += int(float(count))
    return counts


def diagnose(
    items: Sequence[ExpectedItem],
    prediction: SentPrediction,
    *,
    timeout: float,
    receiver: str = "this backend",
    spooled: Mapping[str, int] | None = None,
) -> list[str]:
    """Return what to check first, one line per problem; an empty list if all items arrived.

    Args:
        items: the items of the prediction.
        prediction: the prediction.
        timeout: seconds that `wait_for_telemetry` waited.
        receiver: the name of the receiver of the service's OTLP.
        spooled: the result of `count_spooled_items`.
    """
    spooled = spooled or {}
    missing = {
        signal: [item.name for item in items if item.signal == signal and item.arrived_ms is None]
        for signal in _SIGNALS
    }
    if not any(missing.values()):
        return []
    lines = []
    if all(item.arrived_ms is None for item in items):
        lines.append(
            f"nothing arrived: does OTEL_EXPORTER_OTLP_ENDPOINT of the service name {receiver}? The variable is read "
            "when the service starts. The log of the service says what was not delivered"
        )
    lines += [
        f"{count:,} {name} wait on disk; the receiver is slower than the service, or was away"
        for signal, name in ITEM_NAMES.items()
        if (count := spooled.get(signal, 0)) and missing[_SPOOLED_SIGNALS[signal]]
    ]
    # Items that wait on disk explain the missing ones, so no setting is named.
    if not spooled.get("traces") and not all(item.arrived_ms is None for item in items):
        lines += _diagnose_spans(items, missing["span"])
    if not spooled.get("logs"):
        lines += _diagnose_logs(items, missing["log record"])
    if missing["exemplar"]:
        lines.append(
            f"no exemplar after {timeout:g} s: metrics are exported every 60 s by default. Wait longer (--timeout 70) "
            "or start the service with OTEL_METRIC_EXPORT_INTERVAL=5000. Do OTEL_METRICS_EXPORTER (otlp) and "
            "OTEL_METRICS_EXEMPLAR_FILTER (trace_based) have their defaults? Traces that are not sampled have no "
            "exemplars"
        )
    if abs(prediction.clock_offset) > MAX_CLOCK_OFFSET:
        lines.append(
            f"the clock of the service differs from the clock here by {prediction.clock_offset:+.0f} s: backends may "
            "discard its telemetry as too old or in the future"
        )
    return lines


def partly_missing_signals(items: Sequence[ExpectedItem]) -> list[Signal]:
    """Return the signals with missing items. The list is empty if all items or no items arrived."""
    missing = [item for item in items if item.arrived_ms is None]
    return [] if len(missing) == len(items) else [s for s in _SIGNALS if s in {item.signal for item in missing}]


def _diagnose_spans(items: Sequence[ExpectedItem], missing: Sequence[str]) -> list[str]:
    if len(missing) == len([item for item in items if item.signal == "span"]):
        return [
            "no spans, but other signals: is the trace sampled (OTEL_TRACES_SAMPLER)? Is OTEL_TRACES_EXPORTER none?"
        ]
    if missing:
        return [f"missing spans ({', '.join(missing)}): the log of the service says whether its export queue was full"]
    return []


def _diagnose_logs(items: Sequence[ExpectedItem], missing: Sequence[str]) -> list[str]:
    if len(missing) == len([item for item in items if item.signal == "log record"]):
        return ["no log records: is OTEL_LOGS_EXPORTER of the service none?"]
    if ACCESS_RECORD in missing:
        return ["no access log record: is MODELTRACE_LOG_LEVEL of the service above INFO?"]
    if EVENT_PREDICTION in missing:
        return ["no prediction log record: the log of the service says whether its export queue was full"]
    return []


async def _arrived_names(backend: Backend, signal: Signal, trace_id: str) -> set[str]:
    """Return the names of the expected items of a signal that the backend has; other names may be included."""
    if signal == "span":
        return set(await backend.span_names(trace_id))
    if signal == "log record":
        records = await backend.log_records(trace_id)
        return {ACCESS_RECORD if record.logger == ACCESS_LOGGER else record.event_name for record in records}
    return {ANY_METRIC} if await backend.exemplar_metrics(trace_id) else set()


def _clock_offset(response: httpx.Response) -> float:
    try:
        service_time = parsedate_to_datetime(response.headers["date"])
        return (service_time - datetime.now(UTC)).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0
