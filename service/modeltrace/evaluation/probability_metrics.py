"""Metrics of the predicted probabilities of all classes: ROC AUC, average precision, log loss, Brier score, top-k.

Names, formulas and conventions are those of scikit-learn (`roc_auc_score`, `average_precision_score`, `log_loss`,
`brier_score_loss`, `top_k_accuracy_score`). With two classes, the second class of the model is the positive one. With
more, each class is compared with the rest. This module has no database code.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClassRanking:
    """How well the probability of a class separates its rows from the other rows.

    The metrics are `None` if all rows are of the class, or none is.
    """

    label: object
    roc_auc: float | None
    average_precision: float | None
    support: int  # true labels of this class


@dataclass(frozen=True, slots=True)
class RankingMeans:
    """The means over classes that have rows and are not the only class; `None` without such a class.

    With two classes, both metrics are those of the positive class.
    """

    roc_auc: float | None
    average_precision: float | None


@dataclass(frozen=True, slots=True)
class ProbabilityMetrics:
    """The metrics of labelled predictions with recorded probabilities whose true label is a class of the model."""

    rows: int
    log_loss: float
    brier_score: float  # with two classes, half of the sum over classes
    top_k_accuracy: dict[int, float]  # by k, below the number of classes
    macro: RankingMeans  # the unweighted mean over classes
    weighted: RankingMeans  # the mean over classes, weighted by their numbers of true labels
    classes: tuple[ClassRanking, ...]  # with two classes, only the positive one
