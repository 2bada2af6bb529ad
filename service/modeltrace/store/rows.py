"""Rows of the prediction store, built from telemetry records. This module has no database code."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import orjson

from modeltrace.telemetry.records.prediction import RequestRecord, Tags, Value
from modeltrace.true_labels import StoredTrueLabel

if TYPE_CHECKING:  # the sidecar uses this module and imports no sampler
    from modeltrace.telemetry.records.trace import RequestTrace

# A request from which rows are built: the sidecar's record, or the trace of the service's own process.
PredictionSource: TypeAlias = "RequestRecord | RequestTrace"

_NO_TRACE: Final = bytes(16)


class Row(NamedTuple):
    """A row of the table `predictions`, in the order of its columns.

    `inputs`, `label`, `tags`, `probabilities` and `outputs` are JSON.
    """

    prediction_id: str
    time: int
    trace_id: str | None
    span_id: str | None
    row: int
    sampled: bool
    model_name: str
    model_version: str
    model_hash: str
    code_version: str
    inputs: str | None
    label: str | None
    value: float | None
    confidence: float | None
    erased: int | None = None
    schema_hash: str | None = None
    shadow_of: str | None = None
    synthetic: bool | None = False
    external_id: str | None = None
    tags: str | None = None
    probabilities: str | None = None
    api_key_name: str | None = None
    outputs: str | None = None
    interval_low: float | None = None
    interval_high: float | None = None
    interval_level: float | None = None


class StoredPrediction(NamedTuple):
    """A prediction read from the store: a `Row` with values instead of JSON, and its true label if one has arrived.

    A true label may be null. If `received` is `None`, no label has arrived.
    """

    prediction_id: str
    time: int
    trace_id: str | None
    span_id: str | None
    row: int
    sampled: bool
    model_name: str
    model_version: str
    model_hash: str
    code_version: str
    inputs: dict[str, Value] | None
    label: Value
    value: float | None
    confidence: float | None
    erased: int | None
    schema_hash: str | None
    shadow_of: str | None
    synthetic: bool
    external_id: str | None
    tags: dict[str, str] | None
    probabilities: list[list[Value]] | None
    api_key_name: str | None
    outputs: dict[str, Value] | None
    interval_low: float | None
    interval_high: float | None
    interval_level: float | None
    true_label: StoredTrueLabel
    received: int | None
    label_api_key_name: str | None


class StoredLabel(NamedTuple):
    """The true label of a prediction. Times are nanoseconds since the epoch."""

    prediction_id: str
    label: StoredTrueLabel  # a `Value`, or an object: see `modeltrace.true_labels`
    received: int
    prediction_time: int
    api_key_name: str | None = None


class RowBuilder:
    """Builds rows for predictions of one version of the code."""

    def __init__(self, code_version: str) -> None:
        self._code_version = code_version

    def build(self, request: PredictionSource) -> list[Row]:
        """Return a row for each prediction of a request."""
        traced = request.trace_id != _NO_TRACE
        trace_id, span_id = (request.trace_id.hex(), request.span_id.hex()) if traced else (None, None)
        sampled = bool(request.trace_flags & 1)
        if request.model is None:
            return []
        name, version, digest, features, schema_hash = request.model[:5]
        classes = request.model.classes
        shadow_of, external_ids, synthetic = request.shadow_of, request.external_ids, bool(request.synthetic)
        tags, row_tags = _tags_json(request.tags) if request.tags else None, request.row_tags
        api_key_name = request.api_key_name or None
        names, level = request.model.outputs, request.model.interval_level
        return [
            Row(
                prediction.prediction_id, prediction.time, trace_id, span_id, prediction.row_index, sampled,
                name, version, digest, self._code_version,
                to_json(dict(zip(features, prediction.inputs, strict=True))),
                None if prediction.label is None or prediction.value is not None else to_json(prediction.label),
                _without_negative_zero(prediction.value), prediction.confidence,
                None, schema_hash or None, shadow_of[prediction.row_index] if shadow_of else None, synthetic,
                external_ids[prediction.row_index] if external_ids else None,
                _tags_json(row_tags[prediction.row_index]) if row_tags else tags,
                probabilities_to_json(classes, prediction.probabilities) if prediction.probabilities else None,
                api_key_name,
                None if prediction.outputs is None else to_json(dict(zip(names, prediction.outputs, strict=True))),
                *((*map(_without_negative_zero, prediction.interval), level) if prediction.interval else ()),
            )
            for prediction in request.predictions
        ]  # fmt: skip


def _tags_json(tags: Tags) -> str | None:
    return to_json(dict(tags)) if tags else None


def probabilities_to_json(classes: Sequence[Value], probabilities: Sequence[float]) -> str:
    """Encode pairs of class and probability. A probability that is not finite is null: JSON has no such number."""
    finite = [probability if math.isfinite(probability) else None for probability in probabilities]
    return to_json([*zip(classes, finite, strict=True)])


def _without_negative_zero(value: float | None) -> float | None:
    """Replace -0.0 by 0.0. SQLite stores the sign of zero and PostgreSQL does not."""
    return None if value is None else value + 0.0


def to_json(value: object) -> str:
    """Encode a value as JSON. Use the standard library if orjson rejects it (large integers, lone surrogates)."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, separators=(",", ":"))


def from_json(text: str | None) -> object:
    """Decode JSON; `None` stays `None`. This does not use orjson, which converts large integers to floats."""
    return None if text is None else json.loads(text)


def label_key(label: object) -> tuple[bool, object]:
    """Return a key by which labels are compared: 1 equals 1.0, but not true. Objects are compared by their values."""
    if isinstance(label, dict):
        return False, tuple((name, label_key(value)) for name, value in sorted(label.items()))
    return isinstance(label, bool), label


def to_stored_prediction(fields: Iterable[object]) -> StoredPrediction:
    """Convert a result row of `predictions_with_labels`: the fields of `Row`, then those of the label."""
    *columns, true_label, received, label_api_key_name = fields
    row = Row(*columns)  # type: ignore[arg-type]  # types of the table
    values = row._replace(
        sampled=bool(row.sampled),
        synthetic=bool(row.synthetic),
        inputs=from_json(row.inputs),  # type: ignore[arg-type]  # a value instead of JSON
        label=from_json(row.label),  # type: ignore[arg-type]  # a value instead of JSON
        tags=from_json(row.tags),  # type: ignore[arg-type]  # a value instead of JSON
        probabilities=from_json(row.probabilities),  # type: ignore[arg-type]  # a value instead of JSON
        outputs=from_json(row.outputs),  # type: ignore[arg-type]  # a value instead of JSON
    )
    return StoredPrediction(*values, from_json(true_label), received, label_api_key_name)  # type: ignore[arg-type]  # types of the table
