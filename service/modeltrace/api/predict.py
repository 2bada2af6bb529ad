"""`POST /predict` and `POST /predict/batch`: from a body to what is answered.

A model that answers one row faster than a thread could be woken is asked on the event loop; any other, and every batch
of rows, on a thread, so that neither a slow model nor a large body stalls the loop. How many requests run and wait at
a time is bounded.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from modeltrace.api.body import BodyReader, get_only_key, parse_object
from modeltrace.api.errors import error_body
from modeltrace.api.openapi import batch_operation, predict_operation
from modeltrace.api.responses import encode_body, encoded_response
from modeltrace.api.thread_pool import BoundedThreadPool
from modeltrace.errors import InvalidFeaturesError, MalformedRequestError, RequestTooLargeError
from modeltrace.inference.pipeline import Prediction
from modeltrace.inference.privacy import redact_exception
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.version import Version
from modeltrace.telemetry.records.trace import RequestTrace
from modeltrace.telemetry.sdk.recorder import SDKRecorder

# A larger body takes longer to parse than a thread takes to wake.
MAX_INLINE_BODY_BYTES: Final = 64 * 1024

Payload = dict[str, Any]
# From the body of a request to the body of its answer.
Handler = Callable[[bytes, RequestTrace], Awaitable[bytes]]


class PredictionHandlers:
    """The two calls. Each request is answered by one version from beginning to end, whatever is served meanwhile."""

    def __init__(self, serving: ModelRouter, threads: BoundedThreadPool, *, max_rows: int) -> None:
        self.serving = serving
        self._threads = threads
        self._most_rows = max_rows

    async def predict(self, body: bytes, trace: RequestTrace) -> bytes:
        """Answer one row."""
        version = self.serving.select(trace)
        try:
            if version.batcher is not None:
                values = version.pipeline.validate(self._row(body, trace), trace)
                answer = await version.batcher.submit(values, trace)
                return _say_one(version, version.pipeline.record_prediction(0, values, answer, trace), trace)
            if version.runs_inline and len(body) <= MAX_INLINE_BODY_BYTES:
                return self._one(version, body, trace)
            return await self._threads.run(self._one, version, body, trace)
        except Exception as error:
            if not version.model.schema.has_private_features:
                raise
            failed = redact_exception(error)  # it may repeat values, and nobody further out looks at that
        raise failed  # here it has no context that would tell what it stands for

    async def predict_batch(self, body: bytes, trace: RequestTrace) -> bytes:
        """Answer many rows."""
        version = self.serving.select(trace)
        try:
            return await self._threads.run(self._many, version, body, trace)
        except Exception as error:
            if not version.model.schema.has_private_features:
                raise
            failed = redact_exception(error)
        raise failed  # see `predict`

    def _one(self, version: Version, body: bytes, trace: RequestTrace) -> bytes:
        return _say_one(version, version.pipeline.predict(self._row(body, trace), trace), trace)

    def _row(self, body: bytes, trace: RequestTrace) -> object:
        row = get_only_key(parse_object(body), "features")
        if self.serving.should_shadow(trace):
            trace.shadow_rows = (row,)
        return row

    def _many(self, version: Version, body: bytes, trace: RequestTrace) -> bytes:
        rows = get_only_key(parse_object(body), "rows")
        if not isinstance(rows, list):
            raise MalformedRequestError('"rows" must be an array of objects')
        if len(rows) > self._most_rows:
            limit = f"the limit is {self._most_rows} (MODELTRACE_MAX_BATCH_ROWS)"
            raise RequestTooLargeError(f"the batch has {len(rows)} rows, {limit}")
        if self.serving.should_shadow(trace):
            trace.shadow_rows = rows
        outcomes = version.pipeline.predict_batch(rows, trace)
        return encode_body(
            {"predictions": [_say(outcome) for outcome in outcomes], "model": version.identity}, trace.trace_id_hex
        )


def prediction_routes(calls: PredictionHandlers, recorder: SDKRecorder, body: BodyReader) -> APIRouter:
    """The calls as routes of FastAPI, which documents them and, with the stock instrumentation, answers them."""
    router = APIRouter(tags=["predict"])
    schema = calls.serving.primary.model.schema

    async def answer(request: Request, call: Handler) -> Response:
        with recorder.record_request(request.scope) as trace:
            answered = await call(await body.read(request.scope, request.receive), trace)
            return encoded_response(answered, trace.trace_id_hex)

    @router.post("/predict", summary="Predict one row", **predict_operation(schema))
    async def predict(request: Request) -> Response:
        return await answer(request, calls.predict)

    @router.post("/predict/batch", summary="Predict many rows", **batch_operation(schema))
    async def predict_batch(request: Request) -> Response:
        return await answer(request, calls.predict_batch)

    return router


def _say_one(version: Version, prediction: Prediction, trace: RequestTrace) -> bytes:
    return encode_body({**_say(prediction), "model": version.identity}, trace.trace_id_hex)


def _say(outcome: Prediction | InvalidFeaturesError) -> Payload:
    if isinstance(outcome, InvalidFeaturesError):
        return error_body(outcome)
    answer = outcome.output
    if answer.value is not None:
        return {"prediction_id": outcome.id, "value": answer.value}
    return {"prediction_id": outcome.id, "label": answer.label, "confidence": answer.confidence}
