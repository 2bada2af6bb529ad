"""`POST /predict` and `POST /predict/batch`: from the request body to the response body.

A model that predicts one row faster than a thread wakes up runs on the event loop. Slower models, large bodies and all
batches run on a thread, so that they do not block the loop. The numbers of running and waiting requests are bounded.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from modeltrace.api.batch_formats import accepts_arrow, encode_arrow, read_batch
from modeltrace.api.body import get_required, parse_object
from modeltrace.api.errors import error_body
from modeltrace.api.request_target import wants_details
from modeltrace.api.responses import TypedBody, encode_body
from modeltrace.api.thread_pool import BoundedThreadPool
from modeltrace.errors import InvalidFeaturesError, RequestTooLargeError
from modeltrace.inference.external_ids import parse_external_id, parse_external_ids
from modeltrace.inference.pipeline import Prediction
from modeltrace.inference.privacy import redact_exception
from modeltrace.inference.tags import parse_row_tags, parse_tags
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.version import Version
from modeltrace.settings import Settings
from modeltrace.telemetry.records.trace import RequestTrace

# Parsing a larger body takes longer than waking a thread.
MAX_INLINE_BODY_BYTES: Final = 64 * 1024

Payload = dict[str, Any]
# The names of the classes if the response has details: the probability of each class, or the prediction interval of a
# regressor, which has no classes.
ClassNames: TypeAlias = Sequence[str] | None
# Returns the response body for a request body: JSON, or a body with its own headers.
Handler = Callable[[bytes, RequestTrace], Awaitable[bytes | TypedBody]]


class PredictionHandlers:
    """Handles prediction requests. A request uses one model version, even if it is replaced meanwhile."""

    def __init__(self, model_router: ModelRouter, threads: BoundedThreadPool, settings: Settings) -> None:
        self._model_router = model_router
        self._threads = threads
        self._max_rows = settings.max_batch_rows
        self._max_bytes = settings.max_body_bytes
        self._probabilities = settings.probabilities
        self._tags = settings.tags

    async def predict(self, body: bytes, trace: RequestTrace) -> bytes:
        """Predict the row of a request body and return the response body."""
        version = self._model_router.select(trace)
        class_names = self._class_names(version, trace)
        try:
            if version.batcher is not None:
                values = version.pipeline.validate(self._parse_row(body, trace), trace)
                output = await version.batcher.submit(values, trace, details=class_names is not None)
                prediction = version.pipeline.record_prediction(0, values, output, trace)
                return _encode_one(version, prediction, trace, class_names)
            if version.runs_inline and len(body) <= MAX_INLINE_BODY_BYTES:
                return self._predict_one(version, body, trace, class_names)
            return await self._threads.run(self._predict_one, version, body, trace, class_names)
        except Exception as error:
            if not version.model.schema.has_private_features:
                raise
            redacted = redact_exception(error)  # the message may contain private values
        raise redacted  # outside of the except block, so that the original error is not its `__context__`

    async def predict_batch(self, body: bytes, trace: RequestTrace) -> bytes | TypedBody:
        """Predict the rows of a request body and return the response body."""
        version = self._model_router.select(trace)
        class_names = self._class_names(version, trace)
        try:
            return await self._threads.run(self._predict_many, version, body, trace, class_names)
        except Exception as error:
            if not version.model.schema.has_private_features:
                raise
            redacted = redact_exception(error)
        raise redacted  # see `predict`

    def _class_names(self, version: Version, trace: RequestTrace) -> ClassNames:
        return version.model.class_names if wants_details(self._probabilities, version.model, trace) else None

    def _predict_one(self, version: Version, body: bytes, trace: RequestTrace, class_names: ClassNames) -> bytes:
        row = self._parse_row(body, trace)
        prediction = version.pipeline.predict(row, trace, details=class_names is not None)
        return _encode_one(version, prediction, trace, class_names)

    def _parse_row(self, body: bytes, trace: RequestTrace) -> object:
        parsed = parse_object(body)
        row = get_required(parsed, "features", "id", "tags")
        if len(parsed) > 1:
            if (external_id := parsed.get("id")) is not None:
                trace.external_ids = (parse_external_id(external_id),)
            if (tags := parsed.get("tags")) is not None:
                trace.tags = parse_tags(tags, self._tags)
        if self._model_router.should_shadow(trace):
            trace.shadow_rows = (row,)
        return row

    def _predict_many(
        self, version: Version, body: bytes, trace: RequestTrace, class_names: ClassNames
    ) -> bytes | TypedBody:
        rows, members = read_batch(body, version, trace, max_rows=self._max_rows, max_bytes=self._max_bytes)
        if len(rows) > self._max_rows:
            limit = f"the limit is {self._max_rows} (MODELTRACE_MAX_BATCH_ROWS)"
            raise RequestTooLargeError(f"the batch has {len(rows)} rows, {limit}")
        if (external_ids := members.get("ids")) is not None:
            trace.external_ids = parse_external_ids(external_ids, len(rows))
        if isinstance(tags := members.get("tags"), list):
            trace.row_tags = parse_row_tags(tags, self._tags, len(rows))
        elif tags is not None:
            trace.tags = parse_tags(tags, self._tags)
        if self._model_router.should_shadow(trace):
            trace.shadow_rows = rows
        outcomes = version.pipeline.predict_batch(rows, trace, details=class_names is not None)
        if accepts_arrow(trace):
            return encode_arrow(outcomes, version, trace, details=class_names is not None)
        names = version.model.output_names
        predictions = [_prediction_body(outcome, class_names, names) for outcome in outcomes]
        for index, prediction in enumerate(predictions if trace.external_ids else ()):
            if trace.external_ids and (external_id := trace.external_ids[index]) is not None:
                prediction["id"] = external_id
        return encode_body({"predictions": predictions, "model": version.identity}, trace.trace_id_hex)


def _encode_one(version: Version, prediction: Prediction, trace: RequestTrace, class_names: ClassNames) -> bytes:
    body = _prediction_body(prediction, class_names, version.model.output_names)
    body["model"] = version.identity
    if trace.external_ids:
        body["id"] = trace.external_ids[0]
    return encode_body(body, trace.trace_id_hex)


def _prediction_body(
    outcome: Prediction | InvalidFeaturesError, class_names: ClassNames, output_names: Sequence[str]
) -> Payload:
    if isinstance(outcome, InvalidFeaturesError):
        return error_body(outcome)
    output = outcome.output
    if output.value is not None:
        value: Payload = {"prediction_id": outcome.id, "value": output.value}
        return value if class_names is None else {**value, "interval": output.interval}
    if output.label is None:
        return {"prediction_id": outcome.id, "outputs": dict(zip(output_names, output.outputs or (), strict=True))}
    body: Payload = {"prediction_id": outcome.id, "label": output.label, "confidence": output.confidence}
    if output.outputs is not None:
        body["outputs"] = dict(zip(output_names, output.outputs, strict=True))
    if class_names is not None:
        probabilities = output.probabilities
        body["probabilities"] = probabilities and dict(zip(class_names, probabilities, strict=True))
    return body
