"""Estimate the performance of a classifier without labels from calibrated probabilities.

The method is confidence-based performance estimation (CBPE, Kivimäki et al.: arXiv 2505.15479; NannyML). Isotonic
regression on earlier predictions with labels turns scores into probabilities of the positive outcome. It is fitted on
the means of groups of neighbouring scores, because intervals of single scores are too short. The expected confusion
matrix of later predictions is the sum of these probabilities. This holds while the probability of the outcome for a
score does not change. This module has no database code.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]

# Simulated data sets for an interval.
SIMULATIONS: Final = 500
# Groups of equal scores in a simulation; more are merged.
MAX_SIMULATED_GROUPS: Final = 1000
_SEED: Final = 20_240_607


class ScoreGroups(NamedTuple):
    """Predictions, grouped by score and decision.

    With two classes, the score is the probability of the positive class, and the decision is whether it is predicted.
    With more, the score is the confidence, and the decision is always true: the outcome is that the label is correct.
    """

    scores: Floats  # shape (n_groups,), sorted
    decisions: NDArray[np.bool_]  # shape (n_groups,)
    rows: Floats  # number of predictions, shape (n_groups,)

    @classmethod
    def build(cls, scores: Floats, decisions: NDArray[np.bool_]) -> "ScoreGroups":
        """Group predictions, each with a score and a decision."""
        keys, rows = np.unique(np.column_stack([scores, decisions]), axis=0, return_counts=True)
        return cls(keys[:, 0], keys[:, 1].astype(bool), rows.astype(np.float64))


class Calibration(NamedTuple):
    """The probability of the outcome for a score: linear between known scores, constant beyond them."""

    scores: Floats
    probabilities: Floats

    @classmethod
    def fit(cls, scores: Floats, outcomes: Floats, rows: Floats | None = None) -> "Calibration":
        """Fit an isotonic regression (`sklearn.isotonic.IsotonicRegression`, `out_of_bounds="clip"`).

        Args:
            scores: shape (n,).
            outcomes: 1 or 0, or the share of 1 among equal scores; shape (n,).
            rows: the weight of each, shape (n,); 1 by default.
        """
        rows = np.ones(len(scores)) if rows is None else rows
        known, index = np.unique(scores, return_inverse=True)
        weights = np.bincount(index, rows).astype(np.float64)
        means = np.bincount(index, rows * outcomes) / np.where(weights > 0, weights, 1.0)
        known, means, weights = known[weights > 0], means[weights > 0], weights[weights > 0]
        return cls(known, np.asarray(isotonic_regression(means, weights=weights).x))

    def apply(self, scores: Floats) -> Floats:
        """Return the probability of the outcome for each score."""
        return np.interp(scores, self.scores, self.probabilities)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics of a classifier. F1 and ROC AUC are those of the positive class of two; `None` if not defined."""

    accuracy: float
    f1: float | None
    roc_auc: float | None


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the ends of its interval."""

    estimate: float
    low: float
    high: float


def expected_metrics(groups: ScoreGroups, probabilities: Floats, *, binary: bool) -> Metrics:
    """Return the expected metrics, from the probability or the observed share of the positive outcome in each group.

    The metrics are ratios of expected counts. Args: `probabilities` has the shape (n_groups,).
    """
    positives = groups.rows * probabilities
    negatives = groups.rows - positives
    predicted = groups.decisions
    hits = positives[predicted].sum()
    accuracy = (hits + negatives[~predicted].sum()) / groups.rows.sum()
    if not binary:
        return Metrics(float(accuracy), None, None)
    errors = negatives[predicted].sum() + positives[~predicted].sum()
    return Metrics(
        float(accuracy),
        float(2 * hits / (2 * hits + errors)) if hits + errors else None,
        _roc_auc(groups.scores, positives, negatives),
    )


def _roc_auc(scores: Floats, positives: Floats, negatives: Floats) -> float | None:
    """Return the share of pairs of a positive and a negative in which the positive has the larger score."""
    _, index = np.unique(scores, return_inverse=True)
    positives = np.bincount(index, positives).astype(np.float64)
    negatives = np.bincount(index, negatives).astype(np.float64)
    pairs = positives.sum() * negatives.sum()
    below = np.cumsum(negatives) - negatives / 2
    return float((positives * below).sum() / pairs) if pairs > 0 else None


def simulate_metrics(
    known_scores: Floats, known_outcomes: Floats, groups: ScoreGroups, *, binary: bool
) -> dict[str, Floats]:
    """Return simulated metrics by name, from which intervals are computed. Undefined ones are left out.

    Each simulation draws the labelled predictions with replacement, fits the calibration, and draws the outcomes of the
    later predictions. So an interval contains both the uncertainty of the calibration and chance.
    """
    rng = np.random.default_rng(_SEED)
    known = _merge(ScoreGroups.build(known_scores, known_outcomes > 0))
    later = _merge(groups)
    share = known.rows / known.rows.sum()
    results: dict[str, list[float]] = {"accuracy": [], "f1": [], "roc_auc": []}
    for _ in range(SIMULATIONS):
        rows = rng.multinomial(int(known.rows.sum()), share).astype(np.float64)
        calibration = Calibration.fit(known.scores, known.decisions.astype(np.float64), rows)
        probabilities = np.clip(calibration.apply(later.scores), 0.0, 1.0)
        outcomes = rng.binomial(later.rows.astype(np.int64), probabilities) / later.rows
        metrics = expected_metrics(later, outcomes, binary=binary)
        for name, simulated in results.items():
            if (value := getattr(metrics, name)) is not None:
                simulated.append(value)
    return {name: np.array(values) for name, values in results.items() if values}


def _merge(groups: ScoreGroups) -> ScoreGroups:
    """Merge neighbouring scores of the same decision, so that at most about `MAX_SIMULATED_GROUPS` groups remain."""
    if len(groups.scores) <= MAX_SIMULATED_GROUPS:
        return groups
    rank = np.cumsum(groups.rows) / groups.rows.sum()
    key = np.minimum((rank * MAX_SIMULATED_GROUPS / 2).astype(np.intp), MAX_SIMULATED_GROUPS // 2 - 1)
    _, index = np.unique(key * 2 + groups.decisions, return_inverse=True)
    rows = np.bincount(index, groups.rows).astype(np.float64)
    scores = np.bincount(index, groups.rows * groups.scores) / rows
    decisions = np.bincount(index, groups.rows * groups.decisions) > 0
    order = np.argsort(scores, kind="stable")
    return ScoreGroups(scores[order], decisions[order], rows[order])


def interval(estimate: float, simulated: Floats, alpha: float) -> Interval:
    """Return the interval between the quantiles `alpha / 2` and `1 - alpha / 2` of simulated values.

    The simulated values are shifted so that their mean is the estimate, because each simulation repeats the calibration
    and therefore its bias.
    """
    low, high = np.quantile(simulated, [alpha / 2, 1 - alpha / 2]) - simulated.mean() + estimate
    return Interval(estimate, max(float(low), 0.0), min(float(high), 1.0))


def group_scores(scores: Floats) -> Floats:
    """Replace each score by the mean of its group; groups have about equal numbers of scores.

    The number of groups grows with the cube root of the number of scores; 1,000 scores have 20 groups.
    """
    number = max(round(20 * (len(scores) / 1000) ** (1 / 3)), 2)
    edges = np.unique(np.quantile(scores, np.arange(1, number) / number))
    groups = np.searchsorted(edges, scores, side="left")
    sums, rows = np.bincount(groups, scores), np.bincount(groups)
    means: Floats = sums[groups] / rows[groups]
    return means
