"""What is asked of the prediction store: counts and sums, so that a million predictions are a few rows of answer.

A subquery computes, the query around it adds up: a parameter is another one each time that it is written down, so
PostgreSQL would not see that two such expressions are the same.
"""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Double,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from modeltrace.evaluation.metrics import BIN_EDGES
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection, label_join

# Two models may have been packed under one name and version: only the hash tells them apart.
MODEL_COLUMNS: Final = (predictions.c.model_name, predictions.c.model_version, predictions.c.model_hash)
# The order of predictions.
PREDICTION_ORDER: Final = (predictions.c.time, predictions.c.prediction_id)
# Quantiles of the delay, in percent.
PERCENTS: Final = (50, 95)
# A number of this size can be squared and added up; digits of one that a database can read as a number at all.
MAX_MAGNITUDE: Final = 1e150
MAX_DIGITS: Final = 300


def outcome_counts(selection: Selection) -> Select[Any]:
    """Predictions of each model: by answer, true label and bin of the confidence (JSON as it is written).

    Columns: name, version, hash, label, true label, whether there is one, bin, rows, and the sums of the confidence, of
    its square and of the square of its distance from 1. Of a regressor: rows by whether there is a label, no more.
    """
    confidence = predictions.c.confidence
    inner = (
        select(
            *MODEL_COLUMNS,
            predictions.c.label,
            case((predictions.c.value.is_(None), labels.c.label), else_=null()).label("true_label"),
            labels.c.prediction_id.is_not(None).label("labelled"),
            case(
                (confidence.is_(None), null()),
                *((confidence <= edge, place) for place, edge in enumerate(BIN_EDGES)),
                else_=len(BIN_EDGES),
            ).label("bin"),
            confidence,
        )
        .select_from(predictions.outerjoin(labels, label_join()))
        .where(*selection.conditions())
        .subquery()
    )
    keys = (*inner.c[:6], inner.c.bin)
    said = inner.c.confidence
    return select(*keys, func.count(), func.sum(said), func.sum(_square(said)), func.sum(_square(1 - said))).group_by(
        *keys
    )


def residual_sums(selection: Selection) -> Select[Any]:
    """Name, version, hash, rows, sums of |error|, error², label - mean and (label - mean)² of labelled regressions."""
    inner = (
        select(*MODEL_COLUMNS, predictions.c.value, _label_as_number().label("truth"))
        .select_from(predictions.join(labels, label_join()))
        .where(*selection.conditions(), func.abs(predictions.c.value) <= MAX_MAGNITUDE)
        .cte("labelled")
    )
    means = (
        select(*inner.c[:3], func.avg(inner.c.truth).label("mean"))
        .where(_fits(inner.c.truth))
        .group_by(*inner.c[:3])
        .cte("means")
    )
    keys = inner.c[:3]
    error, distance = inner.c.value - inner.c.truth, inner.c.truth - means.c.mean
    same = and_(*(one == other for one, other in zip(keys, means.c[:3], strict=True)))
    return (
        select(
            *keys,
            func.count(),
            func.sum(func.abs(error)),
            func.sum(_square(error)),
            func.sum(distance),
            func.sum(_square(distance)),
        )
        .select_from(inner.join(means, same))
        .where(_fits(inner.c.truth))
        .group_by(*keys)
    )


def label_delays(selection: Selection) -> Select[Any]:
    """Name, version, hash, labels, rank and nanoseconds from prediction to label, of the label at each of PERCENTS.

    The quantile is the least delay that as many per cent of all do not exceed (numpy's `inverted_cdf`). A label that
    another clock has received before its prediction came at once.
    """
    delay = labels.c.received - predictions.c.time
    inner = (
        select(*MODEL_COLUMNS, case((delay > 0, delay), else_=0).label("delay"))
        .select_from(predictions.join(labels, label_join()))
        .where(*selection.conditions())
        .subquery()
    )
    keys = inner.c[:3]
    ranked = select(
        *keys,
        func.count().over(partition_by=keys).label("number"),
        func.row_number().over(partition_by=keys, order_by=inner.c.delay).label("rank"),
        inner.c.delay,
    ).subquery()
    return select(ranked).where(
        or_(*(ranked.c.rank == quantile_rank(ranked.c.number, percent) for percent in PERCENTS))
    )


def quantile_rank(number: Any, percent: int) -> Any:  # noqa: ANN401  a number, or the column of one
    """Which of so many in order is the quantile, from 1."""
    return (number * percent + 99) // 100


def error_sequence(
    selection: Selection,
    *,
    equivalent_pairs: Collection[tuple[str, str]],
    tolerance: float | None,
    aggregates_in_order: bool,
) -> Select[Any]:
    """One text, a character a labelled prediction in their order: 1 for an error, 0 for none.

    Args:
        selection: predictions of one version of a model.
        equivalent_pairs: answers and true labels, as JSON, that are one though they are written otherwise.
        tolerance: how far off a value may be; `None` for a classifier.
        aggregates_in_order: whether the database takes the order within the aggregate (PostgreSQL) or from the
            subquery (SQLite).
    """
    if tolerance is None:
        pair = tuple_(predictions.c.label, labels.c.label)
        right: ColumnElement[bool] = or_(
            predictions.c.label == labels.c.label, *([pair.in_(list(equivalent_pairs))] if equivalent_pairs else [])
        )
    else:
        right = func.abs(predictions.c.value - _label_as_number()) <= tolerance
    error = case((right, literal("0", Text)), else_=literal("1", Text)).label("error")
    inner = _labelled_in_order(selection, error, *PREDICTION_ORDER, tolerance=tolerance).subquery()
    nothing: ColumnElement[str] = literal_column("''")
    if aggregates_in_order:
        ordered = aggregate_order_by(nothing, inner.c.time, inner.c.prediction_id)
        return select(func.string_agg(inner.c.error, ordered))
    return select(func.group_concat(inner.c.error, nothing))


def nth_labelled(selection: Selection, index: int, *, tolerance: float | None) -> Select[Any]:
    """Time, prediction ID and trace ID of the labelled prediction at that place of the text of `errors`."""
    return (
        _labelled_in_order(selection, *PREDICTION_ORDER, predictions.c.trace_id, tolerance=tolerance)
        .offset(index)
        .limit(1)
    )


def _labelled_in_order(selection: Selection, *columns: ColumnElement[Any], tolerance: float | None) -> Select[Any]:
    """Labelled predictions of a classifier, or with a tolerance those of a regressor, by time of prediction."""
    if tolerance is None:
        of_its_kind: ColumnElement[bool] = predictions.c.value.is_(None)
    else:
        of_its_kind = and_(func.abs(predictions.c.value) <= MAX_MAGNITUDE, _fits(_label_as_number()))
    joined = predictions.join(labels, label_join())
    return select(*columns).select_from(joined).where(*selection.conditions(), of_its_kind).order_by(*PREDICTION_ORDER)


def _label_as_number() -> ColumnElement[float]:
    """A true label as a number; NULL where it is none, or too large a one."""
    number = func.substr(labels.c.label, 1, 1).in_(list("-0123456789"))
    return case((and_(number, func.length(labels.c.label) <= MAX_DIGITS), cast(labels.c.label, Double)), else_=null())


def _square(number: ColumnElement[float]) -> ColumnElement[float]:
    """PostgreSQL refuses to multiply what comes to less than the least number there is."""
    return case((func.abs(number) < 1 / MAX_MAGNITUDE, 0.0), else_=number * number)


def _fits(number: ColumnElement[float]) -> ColumnElement[bool]:
    return func.abs(number) <= MAX_MAGNITUDE
