"""Figures of rows that were scored now: they go the way of all others, through a store, which is gone afterwards."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, Self

from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.store.rows import Row, StoredLabel, label_key, to_json
from modeltrace.store.selection import ALL
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.prediction import Value

_TRUTHS: Final = {"true": True, "false": False, "1": True, "0": False}


class LabelError(ModeltraceError):
    """A true label in a file is none that the model could answer."""


class ScoredRow(NamedTuple):
    """One answered row. `true_label` is `None` where there is none."""

    label: Value
    value: float | None
    confidence: float | None
    true_label: object


class ScratchStore:
    """Scored rows of one model, in order."""

    def __init__(self, model_name: str, model_version: str) -> None:
        self._model = model_name, model_version
        self._folder = TemporaryDirectory(prefix="modeltrace-")
        self._store = open_store(str(Path(self._folder.name, "scored.db")))
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._folder.cleanup()

    def add(self, rows: Sequence[ScoredRow]) -> None:
        """Take some more."""
        kept = [self._row(number, one) for number, one in enumerate(rows, self._number)]
        self._number += len(rows)
        self._store.add_predictions(kept)
        self._store.add_labels(
            [
                StoredLabel(row.prediction_id, one.true_label, row.time, row.time)  # type: ignore[arg-type]  # as JSON has it
                for row, one in zip(kept, rows, strict=True)
                if one.true_label is not None
            ]
        )

    def evaluate(self, tolerance: float | None) -> list[ModelMetrics]:
        """The figures of all of them; none without rows. Labels were there at once: delays mean nothing."""
        return [replace(one, label_delays={}) for one in evaluate(self._store, ALL, tolerance=tolerance)]

    def _row(self, number: int, one: ScoredRow) -> Row:
        label = to_json(one.label) if one.value is None else None
        name, version = self._model
        return Row(
            prediction_id=f"{number:012}", time=number, trace_id=None, span_id=None, row=0, sampled=False,
            model_name=name, model_version=version, model_hash="", code_version="", inputs=None, label=label,
            value=one.value, confidence=one.confidence,
        )  # fmt: skip


def to_model_label(label: object, classes: Iterable[object] | None) -> object:
    """A label from a file as the model would answer it: files do not tell 1 from "1" and true.

    Args:
        label: what the file has; `None` stays what it is.
        classes: of a classifier; `None` for a regressor, whose labels are numbers.

    Raises:
        LabelError: the model could never answer that.
    """
    if label is None:
        return None
    if classes is None:
        if isinstance(label, bool) or not isinstance(label, int | float):
            raise LabelError(f"the label {label!r} is no number, and the model is a regressor")
        return label
    known = list(classes)
    for one in known:
        if label_key(one) == label_key(label):
            return one
    for one in known:
        if str(one) == str(label) or (isinstance(one, bool) and _TRUTHS.get(str(label).lower()) is one):
            return one
    raise LabelError(f"the label {label!r} is none of the model's classes: {', '.join(map(repr, known))}")
