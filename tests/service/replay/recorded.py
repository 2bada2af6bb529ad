"""Predictions as the store has them, made by a model itself."""

from collections.abc import Sequence
from typing import Any

from service.inference.features import to_matrix
from service.inference.model import Model
from service.inference.validate import RowReader
from service.store.rows import Kept
from tests.service.inference.estimators import X, frame

EMPTY: dict[str, Any] = dict.fromkeys(Kept._fields)
NAMES = list(frame().columns)


def rows(number: int) -> list[dict[str, float]]:
    """Rows of iris."""
    return [dict(zip(NAMES, values, strict=True)) for values in X[:number].tolist()]


def recorded(model: Model, inputs: Sequence[dict[str, Any]]) -> list[Kept]:
    """What is kept of these rows in one request."""
    reader = RowReader(model.schema)
    answers = model.answer(to_matrix([reader.read(row) for row in inputs], model.schema, as_frame=model.as_frame))
    said = {"model_name": model.name, "model_version": model.version, "model_hash": model.hash, "time": 1}
    return [
        Kept(**{
            **EMPTY, **said, "prediction_id": f"p{index}", "row": index, "inputs": row,
            "label": answer.label, "confidence": answer.confidence, "value": answer.value,
        })
        for index, (row, answer) in enumerate(zip(inputs, answers, strict=True))
    ]  # fmt: skip
