"""Compute metrics of newly scored rows with the same queries as for stored predictions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, Self

from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.store.rows import Row, StoredLabel, label_key, probabilities_to_json, to_json
from modeltrace.store.selection import ALL
from modeltrace.store.store import open_store
from modeltrace.telemetry.metrics.model_catalog import Baseline
from modeltrace.telemetry.records.prediction import Value

_BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}


class LabelError(ModeltraceError):
    """A true label in a file is not a possible output of the model."""


class ScoredRow(NamedTuple):
    """The prediction for one row, its true label or `None`, and what is known of its details.

    These are the probability of each class, the bounds and the level of the prediction interval, or the named outputs.
    """

    label: Value
    value: float | None
    confidence: float | None
    true_label: object
    probabilities: Sequence[float] | None = None
    interval: Sequence[float] | None = None
    interval_level: float | None = None
    outputs: Mapping[str, Value] | None = None  # the named outputs


class ScratchStore:
    """A temporary store for the scored rows of one model; it is deleted at the end of the `with` block.

    It stores probabilities of `classes`; without classes, it stores none.
    """

    def __init__(self, model_name: str, model_version: str, classes: Sequence[Value]) -> None:
        self._model = model_name, model_version
        self._classes = classes
        self._folder = TemporaryDirectory(prefix="modeltrace-")
        self._store = open_store(str(Path(self._folder.name, "scored.db")))
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._folder.cleanup()

    def add(self, scored: Sequence[ScoredRow]) -> None:
        """Add rows, in order."""
        rows = [self._to_row(index, row) for index, row in enumerate(scored, self._size)]
        self._size += len(rows)
        self._store.add_predictions(rows)
        self._store.add_labels(
            [
                StoredLabel(row.prediction_id, entry.true_label, row.time, row.time)  # type: ignore[arg-type]  # a JSON value
                for row, entry in zip(rows, scored, strict=True)
                if entry.true_label is not None
            ]
        )

    def evaluate(self, tolerance: float | None, baseline: Baseline | None = None) -> list[ModelMetrics]:
        """Return the metrics of all rows, or an empty list. They have no label delays, because these are unknown."""
        baselines = {(*self._model, ""): baseline} if baseline else {}
        results = evaluate(self._store, ALL, baselines=baselines, tolerance=tolerance)
        return [replace(metrics, label_delays={}) for metrics in results]

    def _to_row(self, index: int, scored: ScoredRow) -> Row:
        label = None if scored.label is None or scored.value is not None else to_json(scored.label)
        probabilities = None
        if self._classes and scored.probabilities:
            probabilities = probabilities_to_json(self._classes, scored.probabilities)
        name, version = self._model
        low, high = scored.interval or (None, None)
        return Row(
            prediction_id=f"{index:012}", time=index, trace_id=None, span_id=None, row=0, sampled=False,
            model_name=name, model_version=version, model_hash="", code_version="", inputs=None, label=label,
            value=scored.value, confidence=scored.confidence,
            probabilities=probabilities, interval_low=low, interval_high=high, interval_level=scored.interval_level,
            outputs=None if scored.outputs is None else to_json(dict(scored.outputs)),
        )  # fmt: skip


def to_model_label(label: object, classes: Iterable[object] | None) -> object:
    """Convert a label from a file to the model's label, because files do not distinguish 1, "1" and true.

    Args:
        label: the value in the file; `None` stays `None`.
        classes: the classes of a classifier; `None` for a regressor, whose labels are numbers.

    Raises:
        LabelError: the label is not a possible output of the model.
    """
    if label is None:
        return None
    if classes is None:
        if isinstance(label, bool) or not isinstance(label, int | float):
            raise LabelError(f"the label {label!r} is not a number, and the model is a regressor")
        return label
    classes = list(classes)
    for known in classes:
        if label_key(known) == label_key(label):
            return known
    for known in classes:
        if str(known) == str(label) or (isinstance(known, bool) and _BOOLEANS.get(str(label).lower()) is known):
            return known
    raise LabelError(f"the label {label!r} is not one of the model's classes: {', '.join(map(repr, classes))}")
