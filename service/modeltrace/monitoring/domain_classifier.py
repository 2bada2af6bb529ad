"""Multivariate drift: whether a classifier can distinguish later rows from reference rows by all features together.

It detects changes that no single feature shows, such as a change of a correlation. The measure is the ROC AUC in
cross-validation: 0.5 if both samples are alike, 1 if they can be separated (classifier two-sample test: Lopez-Paz and
Oquab, ICLR 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold

from modeltrace.errors import ModeltraceError
from modeltrace.inference.schema import Feature, Schema
from modeltrace.monitoring.binning import FeatureBins

Floats = NDArray[np.float64]

FOLDS: Final = 5
# The fewest rows of each sample, and the largest number that is used.
MIN_ROWS: Final = 100
MAX_ROWS: Final = 5000
ALPHA: Final = 0.05
# A smaller AUC is no drift, even if it is above 0.5 beyond chance.
MIN_AUC: Final = 0.55
# Larger absolute values count as this one, because the classifier cannot use the difference of two of them.
MAX_MAGNITUDE: Final = 1e300


class DomainError(ModeltraceError):
    """Two samples cannot be compared."""


@dataclass(frozen=True, slots=True)
class FeatureImportance:
    """By how much the AUC falls if the values of a feature are shuffled."""

    feature: str
    importance: float


@dataclass(frozen=True, slots=True)
class DomainResult:
    """The AUC of the classifier with its interval, and the features that it uses, the most important first."""

    reference_rows: int
    rows: int
    auc: float
    low: float
    high: float
    drift: bool  # whether `low` is above 0.5, and `auc` at least `MIN_AUC`
    features: tuple[FeatureImportance, ...]
    excluded: tuple[str, ...]  # private features, and times, which always grow


def compare_samples(
    features: Sequence[Feature], reference: Sequence[Sequence[Any]], rows: Sequence[Sequence[Any]]
) -> DomainResult:
    """Compare two samples of rows. Equal rows are in the same fold, so that the classifier cannot memorize rows.

    If equal rows are a larger share of a sample than a fold, they are divided among the folds: such a frequent row is
    a property of the sample.

    Args:
        features: the features of the model.
        reference: rows in the order of the features. If there are more than `MAX_ROWS`, a random sample is used.
        rows: later rows, used in the same way.

    Raises:
        DomainError: there are too few rows or distinct rows, or no feature can be compared.
    """
    used = [
        index for index, feature in enumerate(features) if feature.privacy == "plain" and feature.type != "datetime"
    ]
    if not used:
        raise DomainError("no feature can be compared: all are private or times")
    rng = np.random.default_rng(0)
    samples = [_sample(sample, rng) for sample in (reference, rows)]
    if min(map(len, samples)) < MIN_ROWS:
        raise DomainError(
            f"{len(samples[0]):,} reference rows and {len(samples[1]):,} later rows: {MIN_ROWS} of each are needed"
        )
    chosen = [[tuple(row[index] for index in used) for row in sample] for sample in samples]
    matrix = _to_matrix([features[index] for index in used], [*chosen[0], *chosen[1]])
    later = np.repeat([0, 1], [len(sample) for sample in samples])
    _, groups = np.unique(np.nan_to_num(matrix, nan=-np.inf), axis=0, return_inverse=True)
    if groups.max() < 2 * FOLDS:
        raise DomainError(f"only {groups.max() + 1} rows are distinct")
    aucs, variances, drops = [], [], []
    for train, test in _folds(later, groups):
        classifier = HistGradientBoostingClassifier(
            max_iter=60, max_depth=4, min_samples_leaf=20, early_stopping=False, random_state=0
        ).fit(matrix[train], later[train])
        auc, variance = roc_auc(classifier.predict_proba(matrix[test])[:, 1], later[test])
        aucs.append(auc)
        variances.append(variance)
        drops.append(
            [auc - _shuffled_auc(classifier, matrix[test], later[test], column, rng) for column in range(len(used))]
        )
    auc = float(np.mean(aucs))
    # The folds share training rows, so the variance of their mean is larger (Nadeau, Bengio: Mach. Learn. 52, 2003).
    variance = float(np.mean(variances)) * (1 / FOLDS + 1 / (FOLDS - 1))
    margin = NormalDist().inv_cdf(1 - ALPHA / 2) * float(np.sqrt(variance))
    importances = zip((features[index].name for index in used), np.mean(drops, axis=0).tolist(), strict=True)
    return DomainResult(
        reference_rows=len(samples[0]),
        rows=len(samples[1]),
        auc=auc,
        low=max(auc - margin, 0.0),
        high=min(auc + margin, 1.0),
        drift=auc - margin > 0.5 and auc >= MIN_AUC,
        features=tuple(FeatureImportance(*entry) for entry in sorted(importances, key=lambda entry: -entry[1])),
        excluded=tuple(feature.name for index, feature in enumerate(features) if index not in used),
    )


def _folds(later: NDArray[np.intp], groups: NDArray[np.intp]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rows of each fold for training and test. Each fold has rows of both samples.

    Equal rows that are a larger share of a sample than a fold are divided among the folds.

    Raises:
        DomainError: there are no such folds.
    """
    totals = np.bincount(later)
    counts = np.array([np.bincount(groups[later == sample], minlength=groups.max() + 1) for sample in (0, 1)])
    frequent = (counts / totals[:, np.newaxis]).max(axis=0) > 1 / FOLDS
    groups = np.where(frequent[groups], groups.max() + 1 + np.arange(len(groups)), groups)
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(later, later, groups))
    if any((np.bincount(later[test], minlength=2) < totals / (4 * FOLDS)).any() for _, test in folds):
        raise DomainError("too many rows are equal: a part of the rows has nearly none of one sample")
    return folds


def roc_auc(scores: Floats, later: NDArray[np.intp]) -> tuple[float, float]:
    """Return the ROC AUC and its variance (DeLong, DeLong and Clarke-Pearson: Biometrics 44, 1988)."""
    positive, negative = np.sort(scores[later == 1]), np.sort(scores[later == 0])
    above = _share_below(negative, positive)
    below = 1 - _share_below(positive, negative)
    variance = above.var(ddof=1) / len(positive) + below.var(ddof=1) / len(negative)
    return float(above.mean()), float(variance)


def _share_below(values: Floats, numbers: Floats) -> Floats:
    """Return the share of sorted values below each number; equal ones count as half."""
    left, right = np.searchsorted(values, numbers, "left"), np.searchsorted(values, numbers, "right")
    return np.asarray((left + right) / 2 / len(values))


def _shuffled_auc(
    classifier: HistGradientBoostingClassifier,
    matrix: Floats,
    later: NDArray[np.intp],
    column: int,
    rng: np.random.Generator,
) -> float:
    shuffled = matrix.copy()
    shuffled[:, column] = rng.permutation(shuffled[:, column])
    return roc_auc(classifier.predict_proba(shuffled)[:, 1], later)[0]


def _sample(rows: Sequence[Sequence[Any]], rng: np.random.Generator) -> list[Sequence[Any]]:
    if len(rows) <= MAX_ROWS:
        return list(rows)
    return [rows[index] for index in sorted(rng.choice(len(rows), MAX_ROWS, replace=False).tolist())]


def _to_matrix(features: Sequence[Feature], rows: list[tuple[Any, ...]]) -> Floats:
    """Return numbers as they are, and the number of the reference bin of a category or boolean; NaN if missing."""
    bins = FeatureBins(Schema(features=tuple(features)))
    matrix = np.empty((len(rows), len(features)))
    numeric = [index for index, feature in enumerate(features) if feature.reference.edges is not None]
    numbers = bins.numeric_values(rows)
    matrix[:] = bins.digitize(rows, numbers)
    matrix[:, numeric] = np.clip(numbers, -MAX_MAGNITUDE, MAX_MAGNITUDE)
    return matrix
