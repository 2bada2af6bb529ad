"""Aggregate queries on the probabilities of classes. They return a few numbers for millions of predictions.

All queries select the labelled predictions of one model with finite probabilities whose true label is a class of the
model, or those of an outlier detector with a score. The database sorts and groups them, so the memory of the process
does not depend on their number.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any, Final

from sqlalchemy import ColumnElement, Double, Integer, Select, and_, case, cast, func, literal_column, null, select

from modeltrace.outlier_labels import INLIER, OUTLIER, SCORE
from modeltrace.store.json_values import JsonValue
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection, label_join

# Probabilities are clipped to this distance from 0 and 1 before their logarithm is taken, as by `log_loss`.
EPSILON: Final = 2.0**-52
# The largest k of the top-k accuracy.
MAX_K: Final = 5


class Probability(JsonValue):
    """SQL expression: the probability of the class at an index; NULL if it is not finite or not recorded."""

    type = Double()
    inherit_cache = True
    sqlite = "json_extract({column}, '$[{place}][1]')"
    # PostgreSQL decodes all texts of the array, and cannot decode U+0000, which a class may contain.
    postgresql = r"CAST(replace({column}, '\u0000', '\u0020')::json -> {place} ->> 1 AS DOUBLE PRECISION)"
    duckdb = "CAST(json_extract_string({column}, '$[{place}][1]') AS DOUBLE)"

    def __init__(self, index: int) -> None:
        # A literal in the SQL text, because PostgreSQL would not recognize that two parameters are equal.
        super().__init__(predictions.c.probabilities, literal_column(str(int(index))))


class OutlierScore(JsonValue):
    """SQL expression: the score of an outlier detector; NULL if the prediction has none."""

    type = Double()
    inherit_cache = True
    sqlite = "json_extract({column}, '$.' || {place})"
    postgresql = r"CAST(replace({column}, '\u0000', '\u0020')::json ->> {place} AS DOUBLE PRECISION)"
    duckdb = "CAST(json_extract_string({column}, '$.' || {place}) AS DOUBLE)"

    def __init__(self) -> None:
        super().__init__(predictions.c.outputs, literal_column(f"'{SCORE}'"))


def recorded_probabilities(selection: Selection) -> Select[Any]:
    """Select the probabilities of one labelled prediction as JSON, from which the classes are known."""
    return (
        select(predictions.c.probabilities)
        .select_from(predictions.join(labels, label_join()))
        .where(*selection.conditions(), predictions.c.probabilities.is_not(None))
        .limit(1)
    )


def probability_sums(selection: Selection, class_labels: Sequence[Sequence[str]]) -> Select[Any]:
    """Sum the errors of the probabilities of one model.

    Columns: number of rows; the sum of -ln p, where p is the clipped probability of the true class; the sum over rows
    and classes of (p - y)², where y is 1 for the true class and 0 for others; and for each k from 2 to `MAX_K`, the
    number of rows whose true class is among the k most probable. Of two equal probabilities, that of the later class
    counts as larger, as in `top_k_accuracy_score`.

    Args:
        selection: predictions of one model.
        class_labels: for each class, the JSON texts of the true labels that are equal to it.
    """
    number = len(class_labels)
    inner = (
        select(_true_class(class_labels).label("true_class"), *(Probability(k).label(f"p{k}") for k in range(number)))
        .select_from(predictions.join(labels, label_join()))
        .where(*selection.conditions(), predictions.c.probabilities.is_not(None))
        .subquery()
    )
    true_class, probabilities = inner.c.true_class, [inner.c[f"p{k}"] for k in range(number)]
    p_true = case(*((true_class == k, p) for k, p in enumerate(probabilities)))
    clipped = case((p_true < EPSILON, EPSILON), (p_true > 1 - EPSILON, 1 - EPSILON), else_=p_true)
    squares = _sum(_square(p - case((true_class == k, 1.0), else_=0.0)) for k, p in enumerate(probabilities))
    larger = _sum(
        case((p > p_true, 1), (and_(p == p_true, true_class < k), 1), else_=0) for k, p in enumerate(probabilities)
    )
    valid = [true_class.is_not(None), *(p.is_not(None) for p in probabilities)]
    rows = select(func.ln(clipped).label("ln"), squares.label("squares"), larger.label("larger")).where(*valid)
    row = rows.subquery().c
    hits = (func.sum(case((row.larger < k, 1), else_=0)) for k in range(2, MAX_K + 1))
    columns: list[ColumnElement[Any]] = [func.count(), -func.sum(row.ln), func.sum(row.squares), *hits]
    return select(*columns)


def ranking_sums(selection: Selection, class_labels: Sequence[Sequence[str]], index: int) -> Select[Any]:
    """Sum over the groups of equal probabilities of one class, which is the positive class.

    Columns: P = the number of rows of the class; N = that of other rows; the number of pairs of a positive and a
    negative row in which the negative one has the larger probability, where equal probabilities count as half a pair;
    and the sum of p · TP / (TP + FP) over groups. p is the number of positive rows of the group. TP and FP are the
    numbers of positive and negative rows with at least the probability of the group.

    Args:
        selection: predictions of one model.
        class_labels: for each class, the JSON texts of the true labels that are equal to it.
        index: the index of the class.
    """
    true_class = _true_class(class_labels)
    every = [Probability(k).is_not(None) for k in range(len(class_labels))]
    return _ranking_sums(
        select(Probability(index).label("score"), case((true_class == index, 1), else_=0).label("positive"))
        .select_from(predictions.join(labels, label_join()))
        .where(*selection.conditions(), predictions.c.probabilities.is_not(None), true_class.is_not(None), *every)
    )


def outlier_ranking_sums(selection: Selection) -> Select[Any]:
    """Sum over the groups of equal scores of an outlier detector; outliers are positive, and lower scores rank higher.

    Columns: as those of `ranking_sums`.
    """
    score, outlier = OutlierScore(), labels.c.label.in_(_texts(OUTLIER))
    return _ranking_sums(
        select((-score).label("score"), case((outlier, 1), else_=0).label("positive"))
        .select_from(predictions.join(labels, label_join()))
        .where(
            *selection.conditions(),
            predictions.c.outputs.is_not(None),
            score.is_not(None),
            labels.c.label.in_([*_texts(OUTLIER), *_texts(INLIER)]),
        )
    )


def _texts(label: int) -> list[str]:
    """Return the JSON texts of a whole number."""
    return [str(label), f"{label}.0"]


def _ranking_sums(scored: Select[Any]) -> Select[Any]:
    """Sum over the groups of equal scores; `scored` selects `score` and `positive`, which is 1 or 0."""
    inner = scored.subquery()
    groups = (
        select(
            inner.c.score,
            cast(func.sum(inner.c.positive), Double).label("positives"),
            cast(func.sum(1 - inner.c.positive), Double).label("negatives"),
        )
        .group_by(inner.c.score)
        .subquery()
    )
    positives, negatives = groups.c.positives, groups.c.negatives
    above = (
        select(
            positives,
            negatives,
            func.sum(positives).over(order_by=groups.c.score.desc()).label("tp"),
            func.sum(negatives).over(order_by=groups.c.score.desc()).label("fp"),
        )
    ).subquery()
    p, n, tp, fp = above.c
    sums: list[ColumnElement[Any]] = [func.sum(term) for term in (p, n, p * (fp - n / 2), p * tp / (tp + fp))]
    return select(*sums)


def _true_class(class_labels: Sequence[Sequence[str]]) -> ColumnElement[int]:
    """Return the index of the class of the true label; NULL if it is not a class."""
    known = [(labels.c.label.in_(texts), index) for index, texts in enumerate(class_labels) if texts]
    return case(*known) if known else cast(null(), Integer)


def _sum(terms: Iterable[ColumnElement[Any]]) -> ColumnElement[Any]:
    return reduce(add, terms)


def _square(number: ColumnElement[float]) -> ColumnElement[float]:
    """Square a difference of probabilities; 0 for a tiny one, because PostgreSQL raises an error on underflow."""
    return case((func.abs(number) < EPSILON**2, 0.0), else_=number * number)
