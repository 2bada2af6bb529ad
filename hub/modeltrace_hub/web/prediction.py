"""Read a prediction from its prediction log record, for the page of its trace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modeltrace_hub.queries.attribute_values import finite_number, int_attribute, to_text
from modeltrace_hub.queries.list_parameters import MAX_ROW_INDEX
from modeltrace_hub.queries.reader import Record


@dataclass(frozen=True, slots=True)
class Prediction:
    """One predicted row. A field is None or empty if its attribute is absent or has an unexpected type.

    `output` is the label of a classifier or the value of a regressor; `is_label` is true for a label. `outputs` are the
    named outputs. `interval` has the bounds of the prediction interval of a regressor, and `interval_level` the
    probability with which it encloses the true label.
    """

    row: int | None
    prediction_id: str
    external_id: str
    model: str
    version: str
    hash: str
    role: str
    output: str | None
    is_label: bool
    confidence: float | None
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    interval: tuple[float, float] | None
    interval_level: float | None

    @property
    def key(self) -> tuple[int, str]:
        """The identity within the request. A challenger predicts the same row with another version."""
        return self.row or 0, self.version


def read_prediction(record: Record) -> Prediction:
    """Return the prediction of a log record."""
    attributes = record["attributes"]
    row, inputs = int_attribute(attributes, "ml.prediction.row"), attributes.get("ml.prediction.inputs")
    outputs = attributes.get("ml.prediction.outputs")
    low, high = (finite_number(attributes.get(f"ml.prediction.interval.{bound}")) for bound in ("low", "high"))
    label = to_text(attributes.get("ml.prediction.label"))
    return Prediction(
        row=row if row is not None and 0 <= row <= MAX_ROW_INDEX else None,
        prediction_id=to_text(attributes.get("ml.prediction.id")) or "",
        external_id=to_text(attributes.get("ml.prediction.external_id")) or "",
        model=to_text(attributes.get("ml.model.name")) or "",
        version=to_text(attributes.get("ml.model.version")) or "",
        hash=to_text(attributes.get("ml.model.hash")) or "",
        role=to_text(attributes.get("ml.model.role")) or "",
        output=label if label is not None else to_text(attributes.get("ml.prediction.value")),
        is_label=label is not None,
        confidence=finite_number(attributes.get("ml.prediction.confidence")),
        inputs=inputs if isinstance(inputs, dict) else {},
        outputs=outputs if isinstance(outputs, dict) else {},
        interval=None if low is None or high is None else (low, high),
        interval_level=finite_number(attributes.get("ml.prediction.interval.level")),
    )
