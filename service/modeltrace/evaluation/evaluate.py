"""From the prediction store to figures: a few questions, and what their answers come to."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from modeltrace.evaluation import queries
from modeltrace.evaluation.concept_drift import detect
from modeltrace.evaluation.metrics import Counted, Figures, Place, Residuals, classify, regress
from modeltrace.store.rows import identity, read
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

_SECOND: Final = 10**9
Key = tuple[str, str, str]  # name, version and hash of a model


def evaluate(
    store: Store,
    selection: Selection,
    *,
    drift_since: int | None = None,
    tolerance: float | None = None,
    places: bool = False,
) -> list[Figures]:
    """The figures of each version of each model that has predictions in a selection, by name and version.

    Where several models were packed under one name and version, each has figures of its own, by hash.

    Args:
        store: where predictions and labels are.
        selection: which predictions count.
        drift_since: where the search for concept drift begins instead, in nanoseconds since the epoch.
        tolerance: what a regressor may be off by without its being an error; without it, none is searched for drift.
        places: whether to say at which predictions drift was found.

    Raises:
        StoreError: the store cannot be read.
    """
    rows: dict[Key, list[Any]] = defaultdict(list)
    for row in store.ask(queries.counted(selection)):
        rows[row[0], row[1], row[2]].append(row[3:])
    # A question about rows that are not there would still look at all of them.
    regressors = any(row[0] is None and row[2] for counts in rows.values() for row in counts)
    labels = any(row[2] for counts in rows.values() for row in counts)
    sums = store.ask(queries.residuals(selection)) if regressors else ()
    residuals = {(row[0], row[1], row[2]): _residuals(*row[3:]) for row in sums}
    delays = _delays(store.ask(queries.delays(selection)) if labels else ())
    found = []
    versions = Counter(key[:2] for key in rows)
    for key in sorted(rows):
        name, version, _ = key
        counts = rows[key]
        model_hash = key[2] if versions[name, version] > 1 else None
        labelled = [row for row in counts if row[2]]
        counted = [_counted(*row) for row in labelled if row[0] is not None and row[1] is not None]
        figures = Figures(
            name,
            version,
            predictions=sum(row[4] for row in counts),
            labels=sum(row[4] for row in labelled),
            delays=delays.get(key, {}),
            classification=classify(counted),
            regression=regress(residuals[key]) if key in residuals else None,
            model_hash=model_hash,
        )
        of_it = selection._replace(model_name=name, model_version=version, model_hash=model_hash)
        if drift_since is not None:
            of_it = of_it._replace(since=drift_since)
        figures = _with_drift(store, figures, of_it, _equal(labelled), tolerance)
        found.append(_with_places(store, figures, of_it, tolerance) if places else figures)
    return found


def _counted(label: str, true_label: str, _: object, place: int | None, rows: int, *sums: float | None) -> Counted:
    said, true = read(label), read(true_label)
    right = identity(said) == identity(true)
    confidence, square, from_one = (float(one or 0) for one in sums)
    return Counted(said, true, right, place, rows, confidence, from_one if right else square)


def _residuals(rows: int, absolute: float, squared: float, off: float, spread: float) -> Residuals:
    """The sum of squares around the mean, without what the rounding of the mean put into it."""
    return Residuals(rows, float(absolute), float(squared), max(0.0, float(spread) - float(off) ** 2 / rows))


def _delays(rows: Iterable[Sequence[Any]]) -> Mapping[Key, dict[float, float]]:
    found: dict[Key, dict[float, float]] = defaultdict(dict)
    for name, version, model_hash, number, rank, delay in rows:
        for percent in queries.PERCENTS:
            if rank == queries.rank(number, percent):
                found[name, version, model_hash][percent / 100] = delay / _SECOND
    return found


def _equal(labelled: Iterable[Sequence[Any]]) -> list[tuple[str, str]]:
    """Answers and true labels that are one though they are written otherwise: 1 and 1.0."""
    pairs = {(row[0], row[1]) for row in labelled if None not in row[:2] and row[0] != row[1]}
    return sorted((said, true) for said, true in pairs if identity(read(said)) == identity(read(true)))


def _with_drift(
    store: Store, figures: Figures, selection: Selection, equal: list[tuple[str, str]], tolerance: float | None
) -> Figures:
    if figures.classification is None and (figures.regression is None or tolerance is None):
        return figures
    question = queries.errors(
        selection,
        equal=equal,
        tolerance=None if figures.classification else tolerance,
        aggregates_in_order=store.location.file is None,
    )
    ((text,),) = store.ask(question)
    errors = np.frombuffer((text or "").encode(), dtype=np.uint8).astype(np.int64) - ord("0")
    return replace(figures, drift=detect(errors))


def _with_places(store: Store, figures: Figures, selection: Selection, tolerance: float | None) -> Figures:
    if figures.drift is None:
        return figures
    kind = None if figures.classification else tolerance
    rows = [store.ask(queries.nth(selection, place, tolerance=kind)) for place in figures.drift.drifts]
    return replace(figures, drifted_at=tuple(Place(*row) for (row,) in rows))
