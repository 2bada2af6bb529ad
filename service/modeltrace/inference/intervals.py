"""Prediction intervals of regressors: two bounds that enclose the true label with a stated probability.

The width is split-conformal: a quantile of the errors of predictions for rows that the model was not fitted on. If new
rows are like those rows, the intervals enclose on average at least the share `level` of new labels, for any model and
any distribution of its errors. This average is over all rows: without scaling, labels that vary more are enclosed less
often. See Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005), and Lei et al., "Distribution-Free
Predictive Inference for Regression" (2018).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, Literal

from pydantic import Field

from modeltrace.inference.schema import StrictModel

DEFAULT_LEVEL: Final = 0.9
# The columns of the bounds in tables of results.
INTERVAL_COLUMNS: Final = ("interval_low", "interval_high")

IntervalMethod = Literal["residuals", "standard_deviation", "quantile_models"]


class IntervalRule(StrictModel):
    """How the interval of a prediction is computed.

    Attributes:
        level: the probability with which an interval encloses the true label.
        method: what the interval is computed from. `residuals`: the value ± `correction`. `standard_deviation`: the
            value ± `correction` standard deviations, which the estimator predicts for each row. `quantile_models`: the
            predictions of two models of quantiles, each moved outward by `correction`.
        correction: a number as `method` says; negative for quantile models whose intervals were too wide.
        rows: the number of labelled rows that determine the correction. 0: no such rows are known; then the factor of
            standard deviations is that of the normal distribution, and quantile models are not corrected.
    """

    level: float = Field(gt=0, lt=1)
    method: IntervalMethod
    correction: float
    rows: int = Field(ge=0)

    def apply(self, value: float, low: float, high: float) -> tuple[float, float]:
        """Return the bounds for a predicted value and its uncorrected bounds.

        `low` and `high` are the value ∓ a standard deviation, the predictions of the quantile models, or the value.
        The bounds always enclose the value.
        """
        if self.method == "standard_deviation":
            half_width = self.correction * (high - low) / 2
            return value - half_width, value + half_width
        return min(low - self.correction, value), max(high + self.correction, value)

    def score(self, value: float, low: float, high: float, label: float) -> float:
        """Return the smallest correction with which the interval encloses the label."""
        if self.method != "standard_deviation":
            return max(low - label, label - high)
        error, deviation = abs(label - value), (high - low) / 2
        return error / deviation if deviation else math.inf if error else 0.0


def identity(method: IntervalMethod, level: float) -> IntervalRule:
    """Return the rule that leaves bounds as the estimator predicts them, so that `score` can be computed from them."""
    return IntervalRule(level=level, method=method, correction=float(method == "standard_deviation"), rows=0)


def without_labels(rule: IntervalRule) -> IntervalRule | None:
    """Return the rule if no labelled rows are known: the normal distribution, or no correction of quantile models.

    `None` for the method `residuals`, which needs labels.
    """
    if rule.method == "residuals":
        return None
    factor = NormalDist().inv_cdf((1 + rule.level) / 2) if rule.method == "standard_deviation" else 0.0
    return rule.model_copy(update={"correction": factor, "rows": 0})


def corrected(rule: IntervalRule, scores: Sequence[float]) -> IntervalRule | None:
    """Return the rule with the correction for the scores of labelled rows.

    The correction is the ⌈(n + 1) · level⌉-th smallest of n scores.

    Returns:
        `None` if there are too few scores for the level, or the correction is not finite.
    """
    rank = math.ceil((len(scores) + 1) * rule.level)
    if rank > len(scores) or not math.isfinite(correction := sorted(scores)[rank - 1]):
        return None
    return rule.model_copy(update={"correction": correction, "rows": len(scores)})
