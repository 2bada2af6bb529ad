"""`POST /predict` and `POST /predict/batch`.

Parsing, inference and encoding happen on one worker thread, so neither a slow model nor a large body stalls the event
loop. How many requests run and wait at a time is bounded.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response

from service.api.body import only_key, parse_object, read_body
from service.api.errors import describe
from service.api.openapi import batch_operation, predict_operation
from service.api.replies import reply
from service.errors import (
    BusyError,
    InvalidFeaturesError,
    MalformedRequestError,
    RequestTooLargeError,
)
from service.inference.pipeline import Pipeline, Prediction
from service.settings import Settings

T = TypeVar("T")


class ModelThreads:
    """Runs calls of the model on a bounded number of threads, with a bounded number waiting."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._room = threads + waiting

    async def run(self, call: Callable[[bytes], T], body: bytes) -> T:
        """Run `call(body)` in the context of this request.

        Raises:
            BusyError: too many wait already.
        """
        if self._room <= 0:
            raise BusyError("too many requests wait for the model; try again in a second")
        self._room -= 1
        try:
            return await anyio.to_thread.run_sync(call, body, limiter=self._limiter)
        finally:
            self._room += 1


def prediction_routes(pipeline: Pipeline, settings: Settings) -> APIRouter:
    """The two prediction calls, bound to a model."""
    router = APIRouter(tags=["predict"])
    threads = ModelThreads(settings.inference_threads, settings.max_waiting)
    model = {"name": pipeline.model.name, "version": pipeline.model.version}

    def one(body: bytes) -> Response:
        row = only_key(parse_object(body), "features")
        return reply({**_say(pipeline.predict(row)), "model": model})

    def many(body: bytes) -> Response:
        rows = only_key(parse_object(body), "rows")
        if not isinstance(rows, list):
            raise MalformedRequestError('"rows" must be an array of objects')
        if len(rows) > settings.max_batch_rows:
            limit = f"the limit is {settings.max_batch_rows} (MODELTRACE_MAX_BATCH_ROWS)"
            raise RequestTooLargeError(f"the batch has {len(rows)} rows, {limit}")
        outcomes = pipeline.predict_batch(rows)
        return reply({"predictions": [_say(outcome) for outcome in outcomes], "model": model})

    @router.post("/predict", summary="Predict one row", **predict_operation(pipeline.model.schema))
    async def predict(request: Request) -> Response:
        return await threads.run(one, await read_body(request, settings.max_body_bytes))

    @router.post("/predict/batch", summary="Predict many rows", **batch_operation(pipeline.model.schema))
    async def predict_batch(request: Request) -> Response:
        return await threads.run(many, await read_body(request, settings.max_body_bytes))

    return router


def _say(outcome: Prediction | InvalidFeaturesError) -> dict[str, Any]:
    if isinstance(outcome, InvalidFeaturesError):
        return describe(outcome)
    answer = outcome.answer
    if answer.value is not None:
        return {"prediction_id": outcome.id, "value": answer.value}
    return {"prediction_id": outcome.id, "label": answer.label, "confidence": answer.confidence}
