"""Predict chunks of rows.

If the model fails on a chunk, its halves are predicted separately, so that only the rows that cause the failure fail.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from modeltrace.errors import InferenceError, InvalidFeaturesError
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.predict_rows import score
from modeltrace.printable import first_line
from modeltrace.telemetry.records.prediction import Tags

INFERENCE_FAILED = "inference_failed"


class RowError(NamedTuple):
    """Why a row has no prediction.

    Attributes:
        column: the feature of the first violation; `None` if the whole row is the reason.
        reason: a reason of `modeltrace.errors.Violation`, `unreadable`, or `inference_failed` if the model raised.
        message: text for a person, without values of features.
    """

    column: str | None
    reason: str | None
    message: str | None


class Outcome(NamedTuple):
    """The result for one row: `output` or `error`. `prediction_id` and `trace_id` need telemetry."""

    output: ModelOutput | None = None
    error: RowError | None = None
    prediction_id: str | None = None
    trace_id: str | None = None


class InputRow(NamedTuple):
    """A row to predict.

    Attributes:
        number: its number in the file.
        features: values by the name of the feature.
        external_id: an ID of the user's own for the prediction; `None` for none.
        tags: names and values of its tags.
    """

    number: int
    features: Mapping[str, Any]
    external_id: str | None = None
    tags: Tags = ()


# Predicts rows, and returns an outcome for each, in order. It may raise `InferenceError`.
Scorer = Callable[[Sequence[InputRow]], list[Outcome]]


def model_scorer(model: Model, *, details: bool = False) -> Scorer:
    """Return a scorer that only predicts: no telemetry, nothing is stored."""
    return partial(_score, model, details=details)


def _score(model: Model, rows: Sequence[InputRow], *, details: bool) -> list[Outcome]:
    outputs = score(model, [row.features for row in rows], details=details)
    return [Outcome(output) if isinstance(output, ModelOutput) else rejected(output) for output in outputs]


def rejected(error: InvalidFeaturesError) -> Outcome:
    """Return the outcome of a row that violates the feature schema."""
    first = error.violations[0]
    return Outcome(error=RowError(first.feature or None, first.reason, str(error)))


def score_rows(scorer: Scorer, rows: Sequence[InputRow], *, private: bool) -> list[Outcome]:
    """Predict rows. If the model fails, halve the rows until each row that causes a failure is alone.

    Args:
        scorer: predicts rows.
        rows: the rows.
        private: leave the model's own error message out, since it may contain values.
    """
    if not rows:
        return []
    try:
        return scorer(rows)
    except InferenceError as error:
        if len(rows) == 1:
            cause = error.__cause__
            detail = "" if private or cause is None else f": {first_line(cause)}"
            return [Outcome(error=RowError(None, INFERENCE_FAILED, f"{error}{detail}"))]
    half = len(rows) // 2
    return [
        *score_rows(scorer, rows[:half], private=private),
        *score_rows(scorer, rows[half:], private=private),
    ]
