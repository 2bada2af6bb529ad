"""What is kept of a prediction, made of the record that telemetry is made of. No database here."""

import json
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import orjson

from modeltrace.telemetry.records.prediction import ModelInfo, PredictedRow, Value

_NO_TRACE: Final = bytes(16)


class Row(NamedTuple):
    """One prediction as the table `predictions` has it, in the order of its columns; `inputs` and `label` are JSON."""

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


class StoredPrediction(NamedTuple):
    """One prediction as it is read: a `Row` with values instead of JSON, and its true label once there is one.

    `true_label` is `None`, too, for a label that is null: `received` tells the two apart.
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
    true_label: Value
    received: int | None


class StoredLabel(NamedTuple):
    """A true label that arrived for a prediction."""

    prediction_id: str
    label: Value
    received: int
    prediction_time: int


class PredictionSource(Protocol):
    """The part of `modeltrace.telemetry.records.prediction.RequestRecord` that rows are made from."""

    @property
    def trace_id(self) -> bytes:
        """16 bytes; zeros with telemetry off."""

    @property
    def span_id(self) -> bytes:
        """8 bytes."""

    @property
    def trace_flags(self) -> int:
        """Bit 0: sampled."""

    @property
    def model(self) -> ModelInfo | None:
        """What answered; none where nothing did."""

    @property
    def shadow_of(self) -> Sequence[str | None] | None:
        """Of a shadow, by row: the ID of the prediction that was answered."""

    @property
    def synthetic(self) -> object:
        """True or the like: generated traffic asked it."""

    @property
    def predictions(self) -> Sequence[PredictedRow]:
        """The answered rows."""


class RowBuilder:
    """Makes rows of what one version of the code has answered."""

    def __init__(self, code_version: str) -> None:
        self._code_version = code_version

    def build(self, request: PredictionSource) -> list[Row]:
        """A row for each answered one."""
        traced = request.trace_id != _NO_TRACE
        trace_id, span_id = (request.trace_id.hex(), request.span_id.hex()) if traced else (None, None)
        sampled = bool(request.trace_flags & 1)
        if request.model is None:
            return []
        name, version, digest, features, schema_hash = request.model[:5]
        of, synthetic = request.shadow_of, bool(request.synthetic)
        return [
            Row(
                one.prediction_id, one.time, trace_id, span_id, one.row_index, sampled,
                name, version, digest, self._code_version,
                to_json(dict(zip(features, one.inputs, strict=True))),
                to_json(one.label) if one.value is None else None, _unsigned_zero(one.value), one.confidence,
                None, schema_hash or None, of[one.row_index] if of else None, synthetic,
            )
            for one in request.predictions
        ]  # fmt: skip


def _unsigned_zero(value: float | None) -> float | None:
    """A number, with 0.0 for -0.0: SQLite would store that, and PostgreSQL would not."""
    return None if value is None else value + 0.0


def to_json(value: object) -> str:
    """A value as JSON; what the fast encoder refuses (large integers, half a surrogate pair), the other one takes."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, separators=(",", ":"))


def from_json(text: str | None) -> object:
    """The value again; no JSON is no value. The fast decoder would make floats of large integers."""
    return None if text is None else json.loads(text)


def label_key(label: object) -> tuple[bool, object]:
    """What two labels share that are one: 1 and 1.0 are, 1 and true are not."""
    return isinstance(label, bool), label


def to_stored_prediction(fields: Iterable[object]) -> StoredPrediction:
    """A prediction as its row and its label's say: `Row`'s fields, then `label` and `received`."""
    *row, true_label, received = fields
    found = Row(*row)  # type: ignore[arg-type]  # as the table has them
    values = found._replace(
        sampled=bool(found.sampled),
        synthetic=bool(found.synthetic),
        inputs=from_json(found.inputs),  # type: ignore[arg-type]  # JSON was in its place
        label=from_json(found.label),  # type: ignore[arg-type]
    )
    return StoredPrediction(*values, from_json(true_label), received)  # type: ignore[arg-type]
