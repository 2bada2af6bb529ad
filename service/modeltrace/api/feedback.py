"""`POST /feedback`: the true label of a prediction, or of many, when they are known.

Labels are read, stored and told in parts, on a thread: nothing of it holds up predictions. A part that cannot be stored
ends the call with 503, and the client sends everything again: what was stored by then is the same label, and counts
once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from modeltrace.api.body import BodyReader, get_only_key, parse_object
from modeltrace.api.errors import error_body
from modeltrace.api.openapi import feedback_operation
from modeltrace.api.responses import encode_body, encoded_response
from modeltrace.api.thread_pool import BoundedThreadPool
from modeltrace.errors import (
    InvalidLabelError,
    LabelConflictError,
    LabelStoreUnavailableError,
    MalformedRequestError,
    ModeltraceError,
    RequestError,
    RequestTooLargeError,
    UnknownPredictionError,
)
from modeltrace.monitoring.feedback import LabelParser, ParsedLabel
from modeltrace.serving.router import ModelRouter
from modeltrace.store.label_writer import LabelWriter
from modeltrace.store.rows import StoredLabel
from modeltrace.telemetry.records.feedback import FeedbackRecord, TrueLabel
from modeltrace.telemetry.records.trace import RequestTrace
from modeltrace.telemetry.sdk.recorder import SDKRecorder

# Labels of a transaction, and of a record: half a millisecond of counting.
CHUNK_SIZE: Final = 256
REJECTION_REASONS: Final[dict[type[ModeltraceError], str]] = {
    LabelConflictError: "conflict",
    UnknownPredictionError: "unknown_prediction",
    InvalidLabelError: "invalid_label",
    MalformedRequestError: "malformed",
    LabelStoreUnavailableError: "store_unavailable",
}
Result = dict[str, Any]


class FeedbackHandler:
    """The call, bound to a store. What may be the label of a prediction the version says that is served now."""

    def __init__(
        self,
        serving: ModelRouter,
        label_writer: LabelWriter,
        threads: BoundedThreadPool,
        on_feedback: Callable[[FeedbackRecord], None],
        *,
        max_items: int,
    ) -> None:
        """`tell` takes what was stored, on the thread that stored it."""
        self.serving = serving
        self._desk = label_writer
        self._threads = threads
        self._tell = on_feedback
        self._most_items = max_items

    async def handle(self, body: bytes, trace: RequestTrace) -> bytes:
        """Take one label or many."""
        return await self._threads.run(self._feedback, body, trace)

    def _feedback(self, body: bytes, trace: RequestTrace) -> bytes:
        try:
            parsed = parse_object(body)
            items = _items(parsed)
        except MalformedRequestError:
            self._refuse(trace, {"malformed": 1})
            raise
        if items is None:
            (result,) = self._part([parsed], trace)
            if isinstance(result, RequestError):
                raise result
            return encode_body(result, result["trace_id"])
        if len(items) > self._most_items:
            limit = f"the limit is {self._most_items} (MODELTRACE_MAX_BATCH_ROWS)"
            raise RequestTooLargeError(f"there are {len(items)} labels, {limit}")
        results: list[Result] = []
        for start in range(0, len(items), CHUNK_SIZE):
            try:
                part = self._part(items[start : start + CHUNK_SIZE], trace)
            except LabelStoreUnavailableError:
                if (rest := len(items) - start - CHUNK_SIZE) > 0:
                    self._refuse(trace, {"store_unavailable": rest})
                raise
            results += [error_body(one) if isinstance(one, RequestError) else one for one in part]
        return encode_body({"results": results}, trace.trace_id_hex)

    def _part(self, items: Sequence[object], trace: RequestTrace) -> list[Result | RequestError]:
        """What became of each.

        Raises:
            LabelsAwayError: none of those that could be taken was.
        """
        start = trace.now()
        labels_of = self.serving.primary.label_reader
        read = [_read(labels_of, item) for item in items]
        given = [one for one in read if isinstance(one, ParsedLabel)]
        received = time_ns()
        refused = Counter(REJECTION_REASONS[type(one)] for one in read if isinstance(one, RequestError))
        labels = [
            StoredLabel(one.record.prediction_id, one.label, received, one.record.prediction_time) for one in given
        ]
        try:
            outcomes = iter(self._desk.add(labels))
        except LabelStoreUnavailableError:
            self._refuse(trace, {**refused, "store_unavailable": len(given)})
            raise
        results: list[Result | RequestError] = []
        new = []
        for one in read:
            if isinstance(one, RequestError):
                results.append(one)
                continue
            if (outcome := next(outcomes)) == "conflict":
                refused["conflict"] += 1
                results.append(LabelConflictError("the prediction has another label already, and the first one stays"))
                continue
            if outcome == "new":
                new.append(one.record)
            told = one.record
            trace_id = told.trace_id.hex() if told.has_trace else None
            results.append({"prediction_id": told.prediction_id, "status": outcome, "trace_id": trace_id})
        self._tell_of(trace, start, tuple(new), refused)
        return results

    def _refuse(self, trace: RequestTrace, refused: Mapping[str, int]) -> None:
        self._tell_of(trace, trace.now(), (), refused)

    def _tell_of(self, trace: RequestTrace, start: int, new: tuple[TrueLabel, ...], refused: Mapping[str, int]) -> None:
        rejected = tuple((reason, number) for reason, number in refused.items() if number)
        if not new and not rejected:
            return
        model = self.serving.primary.model
        ids = (trace.trace_id, trace.span_id, trace.trace_state, trace.trace_flags)
        synthetic = bool(trace.synthetic_token)
        self._tell(
            FeedbackRecord(*ids, trace.pinned, start, trace.now(), model.name, model.version, new, rejected, synthetic)
        )


def feedback_routes(calls: FeedbackHandler, recorder: SDKRecorder, reader: BodyReader) -> APIRouter:
    """The call as a route of FastAPI, which documents it and, with the stock instrumentation, answers it."""
    router = APIRouter(tags=["feedback"])

    @router.post("/feedback", summary="Say what was right", **feedback_operation(calls.serving.primary.model.classes))
    async def feedback(request: Request) -> Response:
        with recorder.record_request(request.scope) as trace:
            body = await reader.read(request.scope, request.receive)
            return encoded_response(await calls.handle(body, trace), trace.trace_id_hex)

    return router


def _read(labels_of: LabelParser, item: object) -> ParsedLabel | RequestError:
    try:
        return labels_of.parse(item)
    except RequestError as error:
        return error


def _items(parsed: Mapping[str, object]) -> Sequence[object] | None:
    """The labels of a list; `None` when it is one label by itself."""
    if "items" not in parsed:
        return None
    items = get_only_key(parsed, "items")
    if not isinstance(items, list):
        raise MalformedRequestError('"items" must be an array of labels')
    return items
