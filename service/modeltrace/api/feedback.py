"""`POST /feedback`: true labels of one or many predictions, by prediction ID or by external ID.

A thread parses, stores and records labels in chunks, so that they do not delay predictions. If a chunk cannot be
stored, the response is 503 and the client sends all labels again. Labels that were stored before are then reported as
the same, and count once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time_ns
from typing import Any, Final

from modeltrace.api.body import get_required, parse_object
from modeltrace.api.errors import error_body, find_by_class
from modeltrace.api.feedback_ids import Matches, external_id, find_matches, resolve
from modeltrace.api.responses import encode_body
from modeltrace.api.thread_pool import BoundedThreadPool
from modeltrace.errors import (
    AmbiguousIdError,
    InvalidLabelError,
    LabelConflictError,
    LabelStoreUnavailableError,
    MalformedRequestError,
    RequestError,
    RequestTooLargeError,
    UnknownPredictionError,
)
from modeltrace.monitoring.label_parser import LabelParser, ParsedLabel
from modeltrace.serving.router import ModelRouter
from modeltrace.store.label_writer import LabelWriter
from modeltrace.store.rows import StoredLabel
from modeltrace.telemetry.records.feedback import FeedbackRecord, TrueLabel
from modeltrace.telemetry.records.trace import RequestTrace

# Labels per transaction and per telemetry record. Counting a record of this size takes half a millisecond.
CHUNK_SIZE: Final = 256
REJECTION_REASONS: Final[Mapping[type[BaseException], str]] = {
    LabelConflictError: "conflict",
    AmbiguousIdError: "ambiguous_id",
    UnknownPredictionError: "unknown_prediction",
    InvalidLabelError: "invalid_label",
    MalformedRequestError: "malformed",
    LabelStoreUnavailableError: "store_unavailable",
}
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FeedbackHandler:
    """Handles feedback requests. The current primary version defines which labels are valid.

    `on_feedback` is called with the result of each chunk, on the thread that stored it.
    """

    model_router: ModelRouter
    label_writer: LabelWriter
    threads: BoundedThreadPool
    on_feedback: Callable[[FeedbackRecord], None]
    max_items: int

    async def handle(self, body: bytes, trace: RequestTrace) -> bytes:
        """Store the labels of a request body and return the response body."""
        return await self.threads.run(self._handle, body, trace)

    def _handle(self, body: bytes, trace: RequestTrace) -> bytes:
        try:
            parsed = parse_object(body)
            items = _get_items(parsed)
        except MalformedRequestError:
            self._record_rejected(trace, {"malformed": 1})
            raise
        if items is None:
            (result,) = self._store([parsed], trace)
            if isinstance(result, RequestError):
                raise result
            return encode_body(result, result["trace_id"])
        if len(items) > self.max_items:
            limit = f"the limit is {self.max_items} (MODELTRACE_MAX_BATCH_ROWS)"
            raise RequestTooLargeError(f"there are {len(items)} labels, {limit}")
        results: list[Result] = []
        for start in range(0, len(items), CHUNK_SIZE):
            try:
                chunk = self._store(items[start : start + CHUNK_SIZE], trace)
            except LabelStoreUnavailableError:
                if (remaining := len(items) - start - CHUNK_SIZE) > 0:
                    self._record_rejected(trace, {"store_unavailable": remaining})
                raise
            results += [error_body(result) if isinstance(result, RequestError) else result for result in chunk]
        return encode_body({"results": results}, trace.trace_id_hex)

    def _store(self, items: Sequence[object], trace: RequestTrace) -> list[Result | RequestError]:
        """Store labels and return a result or an error for each.

        Raises:
            LabelStoreUnavailableError: none of the labels was stored.
        """
        start = trace.now()
        parser = self.model_router.primary.label_parser
        try:
            matches = find_matches(items, self.model_router.primary.model.name, self.label_writer)
        except LabelStoreUnavailableError:
            self._record_rejected(trace, {"store_unavailable": len(items)})
            raise
        parsed = [_parse(parser, item, matches, has_store=self.label_writer.has_store) for item in items]
        valid = [label for label in parsed if isinstance(label, ParsedLabel)]
        received = time_ns()
        rejected = Counter(_reason(label) for label in parsed if isinstance(label, RequestError))
        labels = [
            StoredLabel(
                label.record.prediction_id,
                label.label,
                received,
                label.record.prediction_time,
                trace.api_key_name or None,
            )
            for label in valid
        ]
        try:
            outcomes = iter(self.label_writer.add(labels))
        except LabelStoreUnavailableError:
            self._record_rejected(trace, {**rejected, "store_unavailable": len(valid)})
            raise
        results: list[Result | RequestError] = []
        new = []
        for item, label in zip(items, parsed, strict=True):
            if isinstance(label, RequestError):
                results.append(label)
                continue
            if (outcome := next(outcomes)) == "conflict":
                rejected["conflict"] += 1
                results.append(LabelConflictError("the prediction already has another label, which is kept"))
                continue
            if outcome == "new":
                new.append(label.record)
            trace_id = label.record.trace_id.hex() if label.record.has_trace else None
            result: Result = {"prediction_id": label.record.prediction_id, "status": outcome, "trace_id": trace_id}
            if (item_id := external_id(item)) is not None:
                result["id"] = item_id
            results.append(result)
        self._record(trace, start, tuple(new), rejected)
        return results

    def _record_rejected(self, trace: RequestTrace, rejected: Mapping[str, int]) -> None:
        self._record(trace, trace.now(), (), rejected)

    def _record(self, trace: RequestTrace, start: int, new: tuple[TrueLabel, ...], counts: Mapping[str, int]) -> None:
        rejected = tuple((reason, count) for reason, count in counts.items() if count)
        if not new and not rejected:
            return
        model = self.model_router.primary.model
        ids = (trace.trace_id, trace.span_id, trace.trace_state, trace.trace_flags)
        self.on_feedback(
            FeedbackRecord(
                *ids, trace.pinned, start, trace.now(), model.name, model.version, new, rejected,
                bool(trace.synthetic_token), trace.api_key_name,
            )
        )  # fmt: skip


def _reason(error: RequestError) -> str:
    return find_by_class(REJECTION_REASONS, error, "invalid_request")


def _parse(parser: LabelParser, item: object, matches: Matches, *, has_store: bool) -> ParsedLabel | RequestError:
    try:
        return parser.parse(resolve(item, matches, has_store=has_store))
    except RequestError as error:
        return error


def _get_items(parsed: Mapping[str, object]) -> Sequence[object] | None:
    """Return the list of labels; `None` if the body is a single label."""
    if "items" not in parsed:
        return None
    items = get_required(parsed, "items")
    if not isinstance(items, list):
        raise MalformedRequestError('"items" must be an array of labels')
    return items
