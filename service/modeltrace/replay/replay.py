"""Run stored inputs through a model like the inputs of a request: validation, features, inference."""

from collections.abc import Sequence

from modeltrace.bundles.manifest import Manifest
from modeltrace.errors import InferenceError, InvalidFeaturesError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import Schema
from modeltrace.inference.validate import RowValidator, Values
from modeltrace.replay.compare import TOLERANCE, Outcome, ReplayedRow, compare
from modeltrace.store.rows import StoredPrediction


def replay(
    predictions: Sequence[StoredPrediction], recorded_schema: Schema, model: Model, tolerance: float
) -> list[ReplayedRow]:
    """Predict all rows in one batch and compare the outputs; return a result per prediction, in order.

    Args:
        predictions: predictions of one model.
        recorded_schema: the schema of that model, with its privacy rules.
        model: the model that repeats the predictions.
        tolerance: see `compare`.
    """
    validator = RowValidator(model.schema)
    obstacles = [find_obstacle(prediction, recorded_schema) for prediction in predictions]
    values: list[Values | str] = [
        obstacle or read_values(validator, model.schema, prediction)
        for prediction, obstacle in zip(predictions, obstacles, strict=True)
    ]
    outputs = iter(_predict(model, [row for row in values if isinstance(row, tuple)]))
    return [
        _compare_row(prediction, obstacle, row if isinstance(row, str) else next(outputs), tolerance)
        for prediction, obstacle, row in zip(predictions, obstacles, values, strict=True)
    ]


def find_obstacle(prediction: StoredPrediction, schema: Schema) -> str | None:
    """Return why the stored inputs are not the unchanged inputs of the request; `None` if they are."""
    if prediction.erased is not None:
        return "its inputs were erased"
    if prediction.inputs is None:
        return "no inputs are stored"
    changed = [f"{f.name} ({f.privacy})" for f in schema.features if f.privacy != "plain"]
    if changed:
        return f"privacy rules changed the stored inputs: {', '.join(changed)}"
    if missing := schema.name_set - prediction.inputs.keys():
        return f"{min(missing)} is not stored"
    return None


def tolerance_of(manifest: Manifest, model: Model) -> float:
    """Return the tolerance for rounding errors of a model, by the precision of its engine."""
    single = model.engine == "onnx" and manifest.onnx is not None and manifest.onnx.precision == "float32"
    return TOLERANCE["float32" if single else "float64"]


def read_values(validator: RowValidator, schema: Schema, prediction: StoredPrediction) -> Values | str:
    """Return the values of a row, or the reason why the schema rejects it.

    The store contains the inputs of the model. It has null for a value that was absent or null, and for a value with an
    allowed violation. A missing value is therefore valid if the schema allows any of these cases.
    """
    inputs = prediction.inputs or {}
    try:
        return validator.validate(inputs)
    except InvalidFeaturesError as error:
        may_be_missing = {feature.name for feature in schema.features if feature.accepts_missing}
        if all(fault.reason == "missing" and fault.feature in may_be_missing for fault in error.violations):
            return tuple(map(inputs.get, schema.names))
        return f"the schema rejects it: {error}"


def _predict(model: Model, rows: Sequence[Values]) -> list[ModelOutput | InferenceError]:
    """Return an output per row. If the batch fails, predict each row separately."""
    if not rows:
        return []
    try:
        return [*model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame))]
    except InferenceError as error:
        return [error] if len(rows) == 1 else [_predict(model, [row])[0] for row in rows]


def _compare_row(
    stored: StoredPrediction, obstacle: str | None, replayed: ModelOutput | InferenceError | str, tolerance: float
) -> ReplayedRow:
    outputs = None if stored.outputs is None else tuple(stored.outputs.values())
    recorded = ModelOutput(stored.label, stored.confidence, stored.value, outputs=outputs)  # type: ignore[arg-type]  # no null
    if isinstance(replayed, ModelOutput):
        return compare(stored.row, stored.prediction_id, recorded, replayed, tolerance)
    if isinstance(replayed, InferenceError):
        return ReplayedRow(stored.row, stored.prediction_id, "failed", recorded, reason=str(replayed))
    outcome: Outcome = "not_replayable" if obstacle else "rejected"
    return ReplayedRow(stored.row, stored.prediction_id, outcome, recorded, reason=replayed)
