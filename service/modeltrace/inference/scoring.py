"""Scoring rows without a request: no trace, no ID, nothing is written down."""

from collections.abc import Sequence

from modeltrace.errors import InvalidFeaturesError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.validate import RowValidator, Values


class Scorer:
    """Answers rows with a model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._reader = RowValidator(model.schema)

    def predict(self, rows: Sequence[object]) -> list[ModelOutput | InvalidFeaturesError]:
        """Answer many rows with one call of the model, in order; a bad row has its error in its place.

        Raises:
            InferenceError: the model failed, for all of them.
        """
        read = [self._read(row) for row in rows]
        accepted = [values for values in read if not isinstance(values, InvalidFeaturesError)]
        matrix = to_matrix(accepted, self._model.schema, as_frame=self._model.as_frame) if accepted else None
        answers = iter(() if matrix is None else self._model.predict(matrix))
        return [values if isinstance(values, InvalidFeaturesError) else next(answers) for values in read]

    def _read(self, row: object) -> Values | InvalidFeaturesError:
        try:
            return self._reader.validate(row)
        except InvalidFeaturesError as error:
            return error
