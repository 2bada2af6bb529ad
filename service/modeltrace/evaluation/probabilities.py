"""Compute the metrics of predicted probabilities, and of the scores of outlier detectors, from the store."""

import math
from collections.abc import Sequence
from typing import Any

from modeltrace.evaluation import probability_queries as queries
from modeltrace.evaluation.probability_metrics import ClassRanking, ProbabilityMetrics, RankingMeans
from modeltrace.outlier_labels import INLIER, OUTLIER
from modeltrace.store.rows import from_json, label_key
from modeltrace.store.selection import Selection
from modeltrace.store.store import QueryRunner


def probability_metrics(store: QueryRunner, selection: Selection, true_labels: set[str]) -> ProbabilityMetrics | None:
    """Return the metrics of one model; `None` if the store has no probabilities of labelled predictions.

    Args:
        store: the store with predictions and labels.
        selection: predictions of one model.
        true_labels: the JSON texts of all true labels in the selection.

    Raises:
        StoreError: the store cannot be read.
    """
    recorded = store.fetch_all(queries.recorded_probabilities(selection))
    if not recorded:
        return None
    pairs: Any = from_json(recorded[0][0])
    classes = [label for label, _ in pairs]
    texts: dict[tuple[bool, object], list[str]] = {label_key(label): [] for label in classes}
    for text in sorted(true_labels):
        texts.get(label_key(from_json(text)), []).append(text)
    class_labels = [texts[label_key(label)] for label in classes]
    ((rows, log_loss, squares, *hits),) = store.fetch_all(queries.probability_sums(selection, class_labels))
    if not rows:
        return None
    ranked = [1] if len(classes) == 2 else range(len(classes))
    rankings = tuple(
        _class_ranking(classes[index], *store.fetch_all(queries.ranking_sums(selection, class_labels, index))[0])
        for index in ranked
    )
    return ProbabilityMetrics(
        rows=rows,
        log_loss=float(log_loss) / rows,
        brier_score=float(squares) / rows / (2 if len(classes) == 2 else 1),
        top_k_accuracy={k: int(hit) / rows for k, hit in enumerate(hits, 2) if k < len(classes)},
        macro=_means(rankings, [1] * len(rankings)),
        weighted=_means(rankings, [ranking.support for ranking in rankings]),
        classes=rankings,
    )


def outlier_ranking(store: QueryRunner, selection: Selection, predicted: set[str]) -> ClassRanking | None:
    """Return how well the score of an outlier detector separates outliers; `None` without scores, as of a classifier.

    Args:
        store: the store with predictions and labels.
        selection: predictions of one model.
        predicted: the JSON texts of all predicted labels in the selection.

    Raises:
        StoreError: the store cannot be read.
    """
    if not predicted <= {str(INLIER), str(OUTLIER)}:  # avoid a query that scans all predictions of a classifier
        return None
    ((positives, negatives, discordant, precisions),) = store.fetch_all(queries.outlier_ranking_sums(selection))
    return None if positives is None else _class_ranking(OUTLIER, positives, negatives, discordant, precisions)


def _class_ranking(
    label: object, positives: float, negatives: float, discordant: float, precisions: float
) -> ClassRanking:
    if not positives or not negatives:
        return ClassRanking(label, None, None, int(positives))
    return ClassRanking(label, 1 - discordant / (positives * negatives), precisions / positives, int(positives))


def _means(rankings: Sequence[ClassRanking], weights: Sequence[int]) -> RankingMeans:
    known = [
        (ranking, weight) for ranking, weight in zip(rankings, weights, strict=True) if ranking.roc_auc is not None
    ]
    total = sum(weight for _, weight in known)
    if not total:
        return RankingMeans(None, None)
    return RankingMeans(
        math.fsum(weight * (ranking.roc_auc or 0.0) for ranking, weight in known) / total,
        math.fsum(weight * (ranking.average_precision or 0.0) for ranking, weight in known) / total,
    )
