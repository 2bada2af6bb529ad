"""A prediction as its trace's page shows it, from the attributes of its log record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modeltrace_hub.queries.filters import MOST_ROW
from modeltrace_hub.queries.queries import Record
from modeltrace_hub.queries.values import number_of, object_of, text_of, whole_of


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row that a model answered. What its record does not say, or not in a form that makes sense, is None or empty.

    `answer` is the label of a classifier or the value of a regressor; `classified` tells the two apart.
    """

    row: int | None
    prediction_id: str
    model: str
    version: str
    hash: str
    role: str
    answer: str | None
    classified: bool
    confidence: float | None
    inputs: Mapping[str, Any]

    @property
    def key(self) -> tuple[int, str]:
        """What tells the rows of a batch apart: a row may have been answered by a challenger, too."""
        return self.row or 0, self.version


def prediction_of(record: Record) -> Prediction:
    """Read a log record."""
    said = record["attributes"]
    label, row = text_of(said, "ml.prediction.label"), whole_of(said, "ml.prediction.row")
    return Prediction(
        row=row if row is not None and 0 <= row <= MOST_ROW else None,
        prediction_id=text_of(said, "ml.prediction.id") or "",
        model=text_of(said, "ml.model.name") or "",
        version=text_of(said, "ml.model.version") or "",
        hash=text_of(said, "ml.model.hash") or "",
        role=text_of(said, "ml.model.role") or "",
        answer=label if label is not None else text_of(said, "ml.prediction.value"),
        classified=label is not None,
        confidence=number_of(said, "ml.prediction.confidence"),
        inputs=object_of(said, "ml.prediction.inputs"),
    )
