"""Predict rows without a request: no trace, no prediction ID, nothing is recorded."""

from collections.abc import Sequence

from modeltrace.errors import InvalidFeaturesError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.validate import RowValidator


class Scorer:
    """Validates and predicts rows with a model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._validator = RowValidator(model.schema)

    def predict(self, rows: Sequence[object]) -> list[ModelOutput | InvalidFeaturesError]:
        """Predict rows with one call of the model.

        Returns:
            The output of each row, in order; for an invalid row, the error.

        Raises:
            InferenceError: the model failed; there is no output for any row.
        """
        validated = self._validator.validate_many(rows)
        valid = [values for values in validated if not isinstance(values, InvalidFeaturesError)]
        matrix = to_matrix(valid, self._model.schema, as_frame=self._model.as_frame) if valid else None
        outputs = iter(() if matrix is None else self._model.predict(matrix))
        return [values if isinstance(values, InvalidFeaturesError) else next(outputs) for values in validated]
