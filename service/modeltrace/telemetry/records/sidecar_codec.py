"""Codec of records for the pipe between a worker and its sidecar.

`marshal` supports tuples but not their subclasses, so nested records become plain tuples. Values keep the order of the
fields of their classes. `SCHEMA` names all classes and fields; worker and sidecar compare it when they connect, so that
they never use different versions of the code.
"""

import marshal
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from modeltrace.telemetry.records.feedback import FeedbackRecord, TrueLabel
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import (
    BatchRecord,
    Failure,
    Origin,
    PredictedRow,
    RemoteCall,
    RequestRecord,
    SchemaViolation,
)

_CLASSES: Final[tuple[Any, ...]] = (
    Origin, ModelInfo, RequestRecord, BatchRecord, FeedbackRecord, PredictedRow, SchemaViolation, RemoteCall, Failure,
    TrueLabel,
)  # fmt: skip
SCHEMA: Final = ";".join(f"{record.__name__}({','.join(record._fields)})" for record in _CLASSES)
# Version 2 of marshal has no references. Finding repeated objects takes longer than writing short strings again.
MARSHAL_VERSION: Final = 2

_MODEL, _VIOLATIONS, _FAILURE, _PREDICTIONS, _REMOTE_CALL = map(
    RequestRecord._fields.index, ("model", "violations", "failure", "predictions", "remote_call")
)
_BATCH_MODEL: Final = BatchRecord._fields.index("model")
_LABELS: Final = FeedbackRecord._fields.index("labels")


class RecordChunk(NamedTuple):
    """Records that are sent through the pipe together."""

    requests: Sequence[RequestRecord] = ()
    batches: Sequence[BatchRecord] = ()
    feedback: Sequence[FeedbackRecord] = ()


def encode(chunk: RecordChunk) -> bytes:
    """Encode a chunk. It contains each model once; records refer to it by a number that is valid in this chunk only.

    Raises:
        ValueError: a record contains a value that `marshal` cannot write.
    """
    models: dict[int, ModelInfo] = {}
    requests = [_request_values(record, models) for record in chunk.requests]
    batches = [_batch_values(record, models) for record in chunk.batches]
    feedback = [_feedback_values(record) for record in chunk.feedback]
    numbered = {number: tuple(model) for number, model in models.items()}
    return marshal.dumps((numbered, requests, batches, feedback), MARSHAL_VERSION)


class RecordDecoder:
    """Decodes chunks. Equal models become the same object, so that caches can compare models by identity."""

    def __init__(self) -> None:
        self._models: dict[ModelInfo, ModelInfo] = {}

    def decode(self, content: bytes) -> RecordChunk:
        """Decode what `encode` returned."""
        numbered, requests, batches, feedback = marshal.loads(content)  # noqa: S302  only the worker writes to the pipe
        decoded = {number: ModelInfo._make(values) for number, values in numbered.items()}
        models = {number: self._models.setdefault(model, model) for number, model in decoded.items()}
        return RecordChunk(
            [_request(values, models) for values in requests],
            [_batch(values, models) for values in batches],
            [_feedback(values) for values in feedback],
        )


def _request_values(record: RequestRecord, models: dict[int, ModelInfo]) -> list[Any]:
    values: list[Any] = [*record]
    if record.model is not None:
        values[_MODEL] = _number(record.model, models)
    values[_PREDICTIONS] = [*map(tuple, record.predictions)]
    if record.violations:
        values[_VIOLATIONS] = [*map(tuple, record.violations)]
    if record.failure is not None:
        values[_FAILURE] = tuple(record.failure)
    if record.remote_call is not None:
        values[_REMOTE_CALL] = tuple(record.remote_call)
    return values


def _request(values: list[Any], models: dict[int, ModelInfo]) -> RequestRecord:
    if values[_MODEL] is not None:
        values[_MODEL] = models[values[_MODEL]]
    values[_PREDICTIONS] = tuple(map(PredictedRow._make, values[_PREDICTIONS]))
    if values[_VIOLATIONS]:
        values[_VIOLATIONS] = tuple(map(SchemaViolation._make, values[_VIOLATIONS]))
    if values[_FAILURE] is not None:
        values[_FAILURE] = Failure._make(values[_FAILURE])
    if values[_REMOTE_CALL] is not None:
        values[_REMOTE_CALL] = RemoteCall._make(values[_REMOTE_CALL])
    return RequestRecord._make(values)


def _batch_values(record: BatchRecord, models: dict[int, ModelInfo]) -> list[Any]:
    values: list[Any] = [*record]
    values[_BATCH_MODEL] = _number(record.model, models)
    return values


def _batch(values: list[Any], models: dict[int, ModelInfo]) -> BatchRecord:
    values[_BATCH_MODEL] = models[values[_BATCH_MODEL]]
    return BatchRecord._make(values)


def _feedback_values(record: FeedbackRecord) -> list[Any]:
    values: list[Any] = [*record]
    values[_LABELS] = [*map(tuple, record.labels)]
    return values


def _feedback(values: list[Any]) -> FeedbackRecord:
    values[_LABELS] = tuple(map(TrueLabel._make, values[_LABELS]))
    return FeedbackRecord._make(values)


def _number(model: ModelInfo, models: dict[int, ModelInfo]) -> int:
    models[id(model)] = model
    return id(model)
