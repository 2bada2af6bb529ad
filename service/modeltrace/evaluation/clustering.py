"""Compare clusters with the true classes of their rows.

Names, formulas and conventions are those of `sklearn.metrics` (`adjusted_rand_score`,
`homogeneity_completeness_v_measure`, `fowlkes_mallows_score`). All of them depend only on the contingency table, not on
the names of clusters and classes. This module has no database code.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from modeltrace.store.rows import label_key


class ContingencyCell(NamedTuple):
    """The number of labelled predictions of a cluster whose rows are of a class."""

    cluster: object
    true_class: object
    rows: int


@dataclass(frozen=True, slots=True)
class ClusteringMetrics:
    """The metrics of a clusterer.

    `purity` is the share of rows that are of the most frequent class of their cluster (Manning, Raghavan, Schütze:
    Introduction to Information Retrieval, 2008, section 16.3).
    """

    rows: int
    adjusted_rand_index: float  # from -0.5 to 1; 0 for random clusters
    homogeneity: float  # 1 if every cluster has rows of a single class
    completeness: float  # 1 if all rows of a class are in one cluster
    v_measure: float  # harmonic mean of homogeneity and completeness
    fowlkes_mallows: float  # geometric mean of precision and recall over pairs of rows
    purity: float
    contingency: tuple[ContingencyCell, ...]  # in the order of clusters, then of classes


def clustering_metrics(counts: Iterable[ContingencyCell]) -> ClusteringMetrics | None:
    """Return the metrics of a clusterer; `None` without labels. Cells of the same cluster and class are added up."""
    cells: Counter[tuple[object, object]] = Counter()
    names: dict[object, object] = {}
    for cluster, true_class, number in counts:
        cluster_key, class_key = label_key(cluster), label_key(true_class)
        names = {cluster_key: cluster, class_key: true_class} | names
        cells[cluster_key, class_key] += number
    rows = cells.total()
    if not rows:
        return None
    clusters: Counter[object] = Counter()
    classes: Counter[object] = Counter()
    largest: dict[object, int] = {}
    for (cluster, true_class), number in cells.items():
        clusters[cluster] += number
        classes[true_class] += number
        largest[cluster] = max(largest.get(cluster, 0), number)
    homogeneity, completeness, v_measure = _homogeneity(rows, cells, clusters, classes)
    ordered = sorted(cells, key=lambda cell: (_sort_key(names[cell[0]]), _sort_key(names[cell[1]])))
    return ClusteringMetrics(
        rows=rows,
        adjusted_rand_index=_adjusted_rand_index(rows, cells, clusters, classes),
        homogeneity=homogeneity,
        completeness=completeness,
        v_measure=v_measure,
        fowlkes_mallows=_fowlkes_mallows(rows, cells, clusters, classes),
        purity=sum(largest.values()) / rows,
        contingency=tuple(
            ContingencyCell(names[cluster], names[true_class], cells[cluster, true_class])
            for cluster, true_class in ordered
        ),
    )


_Counts = Counter[object]
_Cells = Counter[tuple[object, object]]


def _adjusted_rand_index(rows: int, cells: _Cells, clusters: _Counts, classes: _Counts) -> float:
    """Return the index from the confusion matrix of pairs of rows. Integers are exact for any number of rows."""
    squares, by_cluster, by_class = (sum(number**2 for number in of.values()) for of in (cells, clusters, classes))
    together = squares - rows
    only_cluster, only_class = by_cluster - squares, by_class - squares
    apart = rows**2 - only_cluster - only_class - squares
    if not only_cluster and not only_class:
        return 1.0
    total = (together + only_class) * (only_class + apart) + (together + only_cluster) * (only_cluster + apart)
    return 2 * (together * apart - only_class * only_cluster) / total


def _homogeneity(rows: int, cells: _Cells, clusters: _Counts, classes: _Counts) -> tuple[float, float, float]:
    """Return homogeneity, completeness and V-measure (Rosenberg and Hirschberg, EMNLP 2007)."""
    cluster_entropy, class_entropy = _entropy(rows, clusters), _entropy(rows, classes)
    information = math.fsum(
        number / rows * math.log(number * rows / (clusters[cluster] * classes[true_class]))
        for (cluster, true_class), number in cells.items()
    )
    homogeneity = information / class_entropy if class_entropy else 1.0
    completeness = information / cluster_entropy if cluster_entropy else 1.0
    total = homogeneity + completeness
    return homogeneity, completeness, 2 * homogeneity * completeness / total if total else 0.0


def _entropy(rows: int, counts: _Counts) -> float:
    if len(counts) == 1:
        return 0.0
    return -math.fsum(number / rows * math.log(number / rows) for number in counts.values())


def _fowlkes_mallows(rows: int, cells: _Cells, clusters: _Counts, classes: _Counts) -> float:
    """Return the index of Fowlkes and Mallows (JASA 78, 1983); 0 if no two rows are in the same cluster and class."""
    together, by_cluster, by_class = (
        sum(number**2 for number in of.values()) - rows for of in (cells, clusters, classes)
    )
    return math.sqrt(together / by_cluster) * math.sqrt(together / by_class) if together else 0.0


def _sort_key(label: object) -> tuple[bool, float, str]:
    return (False, float(label), "") if isinstance(label, int | float) else (True, 0.0, str(label))
