"""Predict rows without a request. There is no trace and no prediction ID, and nothing is recorded."""

from collections.abc import Sequence

from modeltrace.errors import InvalidFeaturesError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.validate import RowValidator


def score(model: Model, rows: Sequence[object], *, details: bool = False) -> list[ModelOutput | InvalidFeaturesError]:
    """Validate rows, and predict the valid ones with one call of the model.

    `details`: also return the probability of each class, or the prediction interval.

    Returns:
        The output of each row, in order; for an invalid row, the error.

    Raises:
        InferenceError: the model failed; there is no output for any row.
    """
    validated = RowValidator(model.schema).validate_many(rows)
    valid = [values for values in validated if isinstance(values, tuple)]
    outputs = iter(
        model.predict(to_matrix(valid, model.schema, as_frame=model.as_frame), details=details) if valid else ()
    )
    return [next(outputs) if isinstance(values, tuple) else values for values in validated]
