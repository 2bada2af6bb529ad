"""Runs recorded inputs through a model as requests would: validate ► features ► inference."""

from collections.abc import Sequence
from dataclasses import dataclass

from modeltrace.bundles.manifest import Manifest
from modeltrace.errors import InferenceError, InvalidFeaturesError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import Schema
from modeltrace.inference.validate import RowValidator, Values
from modeltrace.replay.compare import TOLERANCE, Outcome, ReplayedRow, compare
from modeltrace.store.rows import StoredPrediction


@dataclass(frozen=True, slots=True)
class ReplayInput:
    """A recorded prediction, and why it cannot be replayed, if it cannot."""

    prediction: StoredPrediction
    obstacle: str | None


def check_inputs(predictions: Sequence[StoredPrediction], schema: Schema | None) -> list[ReplayInput]:
    """See of each prediction whether its inputs are there as they were sent.

    Args:
        predictions: predictions of one model.
        schema: of the model that answered, which says how each feature is recorded; `None` if it is not known.
    """
    return [ReplayInput(one, _find_obstacle(one, schema)) for one in predictions]


def _find_obstacle(one: StoredPrediction, schema: Schema | None) -> str | None:
    if one.erased is not None:
        return "its inputs were erased"
    if one.inputs is None:
        return "no inputs are recorded"
    if schema is None:
        return None
    changed = [f"{f.name} ({f.privacy})" for f in schema.features if f.privacy != "plain"]
    if changed:
        return f"privacy rules keep no inputs as they were sent: {', '.join(changed)}"
    if schema.name_set - one.inputs.keys():
        return f"{min(schema.name_set - one.inputs.keys())} is not recorded"
    return None


def replay(rows: Sequence[ReplayInput], model: Model, tolerance: float) -> list[ReplayedRow]:
    """Answer recorded rows again, together, and compare; those that cannot be are told with the reason, in order."""
    reader = RowValidator(model.schema)
    values: list[Values | str] = [row.obstacle or _read_values(reader, model.schema, row.prediction) for row in rows]
    answers = iter(_predict(model, [one for one in values if isinstance(one, tuple)]))
    return [
        _compare_row(row, one if isinstance(one, str) else next(answers), tolerance)
        for row, one in zip(rows, values, strict=True)
    ]


def tolerance_of(manifest: Manifest, model: Model) -> float:
    """What rounding may do to the answers of a model, by the precision in which it computes."""
    single = model.engine == "onnx" and manifest.onnx is not None and manifest.onnx.precision == "float32"
    return TOLERANCE["float32" if single else "float64"]


def _read_values(reader: RowValidator, schema: Schema, one: StoredPrediction) -> Values | str:
    """The values of a row, or what the schema says against it.

    What is recorded is what the model was given: a value that was left out, sent as null, or let through although of a
    wrong type, is null. So a missing value is none of the row's faults where the schema allows any of these.
    """
    inputs = one.inputs or {}
    try:
        return reader.validate(inputs)
    except InvalidFeaturesError as error:
        may_be_missing = {feature.name for feature in schema.features if feature.accepts_missing}
        if all(fault.reason == "missing" and fault.feature in may_be_missing for fault in error.violations):
            return tuple(map(inputs.get, schema.names))
        return f"the schema refuses it: {error}"


def _predict(model: Model, rows: Sequence[Values]) -> "list[ModelOutput | InferenceError]":
    """An answer a row; where one of them breaks the call for all, each is asked by itself."""
    if not rows:
        return []
    try:
        return [*model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame))]
    except InferenceError as error:
        return [error] if len(rows) == 1 else [_predict(model, [row])[0] for row in rows]


def _compare_row(row: ReplayInput, now: "ModelOutput | InferenceError | str", tolerance: float) -> ReplayedRow:
    one = row.prediction
    recorded = ModelOutput(one.label, one.confidence) if one.value is None else ModelOutput(value=one.value)
    if isinstance(now, ModelOutput):
        return compare(one.row, one.prediction_id, recorded, now, tolerance)
    if isinstance(now, InferenceError):
        return ReplayedRow(one.row, one.prediction_id, "failed", recorded, reason=str(now))
    outcome: Outcome = "impossible" if row.obstacle else "refused"
    return ReplayedRow(one.row, one.prediction_id, outcome, recorded, reason=now)
