"""From the prediction store to figures: a few questions, and what their answers come to."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from modeltrace.evaluation import queries
from modeltrace.evaluation.concept_drift import detect_drift
from modeltrace.evaluation.metrics import (
    LabelledCount,
    ModelMetrics,
    PredictionRef,
    ResidualSums,
    classification_metrics,
    regression_metrics,
)
from modeltrace.store.rows import from_json, label_key
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

_SECOND: Final = 10**9
ModelKey = tuple[str, str, str]  # name, version and hash of a model


def evaluate(
    store: Store,
    selection: Selection,
    *,
    drift_since: int | None = None,
    tolerance: float | None = None,
    locate_drifts: bool = False,
) -> list[ModelMetrics]:
    """The figures of each version of each model that has predictions in a selection, by name and version.

    Where several models were packed under one name and version, each has figures of its own, by hash.

    Args:
        store: where predictions and labels are.
        selection: which predictions count.
        drift_since: where the search for concept drift begins instead, in nanoseconds since the epoch.
        tolerance: what a regressor may be off by without its being an error; without it, none is searched for drift.
        locate_drifts: whether to say at which predictions drift was found.

    Raises:
        StoreError: the store cannot be read.
    """
    rows: dict[ModelKey, list[Any]] = defaultdict(list)
    for row in store.fetch_all(queries.outcome_counts(selection)):
        rows[row[0], row[1], row[2]].append(row[3:])
    # A question about rows that are not there would still look at all of them.
    regressors = any(row[0] is None and row[2] for counts in rows.values() for row in counts)
    labels = any(row[2] for counts in rows.values() for row in counts)
    sums = store.fetch_all(queries.residual_sums(selection)) if regressors else ()
    residuals = {(row[0], row[1], row[2]): _to_residual_sums(*row[3:]) for row in sums}
    delays = _label_delays(store.fetch_all(queries.label_delays(selection)) if labels else ())
    found = []
    versions = Counter(key[:2] for key in rows)
    for key in sorted(rows):
        name, version, _ = key
        counts = rows[key]
        model_hash = key[2] if versions[name, version] > 1 else None
        labelled = [row for row in counts if row[2]]
        counted = [_to_count(*row) for row in labelled if row[0] is not None and row[1] is not None]
        figures = ModelMetrics(
            name,
            version,
            predictions=sum(row[4] for row in counts),
            labels=sum(row[4] for row in labelled),
            label_delays=delays.get(key, {}),
            classification=classification_metrics(counted),
            regression=regression_metrics(residuals[key]) if key in residuals else None,
            model_hash=model_hash,
        )
        of_it = selection._replace(model_name=name, model_version=version, model_hash=model_hash)
        if drift_since is not None:
            of_it = of_it._replace(since=drift_since)
        figures = _with_drift(store, figures, of_it, _equivalent_pairs(labelled), tolerance)
        found.append(_with_drift_predictions(store, figures, of_it, tolerance) if locate_drifts else figures)
    return found


def _to_count(
    label: str, true_label: str, _: object, place: int | None, rows: int, *sums: float | None
) -> LabelledCount:
    said, true = from_json(label), from_json(true_label)
    right = label_key(said) == label_key(true)
    confidence, square, from_one = (float(one or 0) for one in sums)
    return LabelledCount(said, true, right, place, rows, confidence, from_one if right else square)


def _to_residual_sums(rows: int, absolute: float, squared: float, off: float, spread: float) -> ResidualSums:
    """The sum of squares around the mean, without what the rounding of the mean put into it."""
    return ResidualSums(rows, float(absolute), float(squared), max(0.0, float(spread) - float(off) ** 2 / rows))


def _label_delays(rows: Iterable[Sequence[Any]]) -> Mapping[ModelKey, dict[float, float]]:
    found: dict[ModelKey, dict[float, float]] = defaultdict(dict)
    for name, version, model_hash, number, rank, delay in rows:
        for percent in queries.PERCENTS:
            if rank == queries.quantile_rank(number, percent):
                found[name, version, model_hash][percent / 100] = delay / _SECOND
    return found


def _equivalent_pairs(labelled: Iterable[Sequence[Any]]) -> list[tuple[str, str]]:
    """Answers and true labels that are one though they are written otherwise: 1 and 1.0."""
    pairs = {(row[0], row[1]) for row in labelled if None not in row[:2] and row[0] != row[1]}
    return sorted((said, true) for said, true in pairs if label_key(from_json(said)) == label_key(from_json(true)))


def _with_drift(
    store: Store, figures: ModelMetrics, selection: Selection, equal: list[tuple[str, str]], tolerance: float | None
) -> ModelMetrics:
    if figures.classification is None and (figures.regression is None or tolerance is None):
        return figures
    question = queries.error_sequence(
        selection,
        equivalent_pairs=equal,
        tolerance=None if figures.classification else tolerance,
        aggregates_in_order=store.location.file is None,
    )
    ((text,),) = store.fetch_all(question)
    errors = np.frombuffer((text or "").encode(), dtype=np.uint8).astype(np.int64) - ord("0")
    return replace(figures, drift=detect_drift(errors))


def _with_drift_predictions(
    store: Store, figures: ModelMetrics, selection: Selection, tolerance: float | None
) -> ModelMetrics:
    if figures.drift is None:
        return figures
    kind = None if figures.classification else tolerance
    rows = [
        store.fetch_all(queries.nth_labelled(selection, place, tolerance=kind)) for place in figures.drift.drift_indices
    ]
    return replace(figures, drift_predictions=tuple(PredictionRef(*row) for (row,) in rows))
