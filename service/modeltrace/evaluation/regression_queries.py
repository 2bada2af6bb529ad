"""Aggregate queries on the errors of regressors. They return a few rows for millions of predictions."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select

from modeltrace.evaluation.queries import (
    MODEL_COLUMNS,
    absolute_error,
    fits,
    label_as_number,
    rank_values,
    select_labelled,
    square,
)
from modeltrace.store.schema import predictions
from modeltrace.store.selection import Selection

# A true value closer to zero counts as this far from it in a relative error, as in `mean_absolute_percentage_error`.
EPSILON: Final = 2.0**-52
_INTERVAL_COLUMNS: Final = (
    predictions.c.interval_low,
    predictions.c.interval_high,
    predictions.c.interval_level,
)
# The percentages of the true values at which they are divided into groups.
GROUP_PERCENTS: Final = (25, 50, 75)


def residual_sums(selection: Selection) -> Select[Any]:
    """Sum the residuals of labelled predictions of regressors, by model.

    Columns: name, version, hash, number of rows, the sums of |error|, error², d, d², e and e², the sum of the errors,
    the sum of |error| / |label|, and the number of labels that are 0. Here d is the label minus the mean label, e is
    |error| minus the mean of |error|, and an error is the value minus the label. Then, of the rows with a prediction
    interval: their number, the number of labels inside, and the sums of the widths and of the levels.
    """
    inner = (
        select_labelled(
            selection, *MODEL_COLUMNS, predictions.c.value, label_as_number().label("true_value"), *_INTERVAL_COLUMNS
        )
        .where(fits(predictions.c.value))
        .cte("labelled")
    )
    keys = inner.c[:3]
    error = inner.c.value - inner.c.true_value
    means = (
        select(*keys, func.avg(inner.c.true_value).label("label_mean"), func.avg(func.abs(error)).label("error_mean"))
        .where(fits(inner.c.true_value))
        .group_by(*keys)
        .cte("means")
    )
    distances = inner.c.true_value - means.c.label_mean, func.abs(error) - means.c.error_mean
    size = func.abs(inner.c.true_value)
    low, high, level = (inner.c[column.name] for column in _INTERVAL_COLUMNS)
    has_interval = and_(fits(low), fits(high), level.is_not(None))
    same_model = and_(*(left == right for left, right in zip(keys, means.c[:3], strict=True)))
    return (
        select(
            *keys,
            func.count(),
            func.sum(func.abs(error)),
            func.sum(square(error)),
            *(func.sum(term) for distance in distances for term in (distance, square(distance))),
            func.sum(error),
            func.sum(func.abs(error) / case((size < EPSILON, EPSILON), else_=size)),
            func.sum(case((size == 0, 1), else_=0)),
            func.sum(case((has_interval, 1), else_=0)),
            func.sum(case((and_(has_interval, inner.c.true_value.between(low, high)), 1), else_=0)),
            func.sum(case((has_interval, high - low))),
            func.sum(case((has_interval, level))),
        )
        .select_from(inner.join(means, same_model))
        .where(fits(inner.c.true_value))
        .group_by(*keys)
    )


def absolute_errors(selection: Selection, percents: Sequence[int]) -> Select[Any]:
    """Select the two absolute errors of one model that are around each of some percentages.

    Columns: number of errors, rank, and absolute error.
    """
    return _values_around(selection, absolute_error(), percents)


def true_values(selection: Selection) -> Select[Any]:
    """Select the two true values of one model that are around each of GROUP_PERCENTS.

    Columns: number of values, rank, and value.
    """
    return _values_around(selection, label_as_number(), GROUP_PERCENTS)


def _values_around(selection: Selection, value: ColumnElement[float], percents: Sequence[int]) -> Select[Any]:
    ranked = rank_values(_regressor_rows(selection, value.label("number_value")).subquery().c.number_value)
    lower = [(ranked.c.number - 1) * percent // 100 + 1 for percent in percents]
    return select(ranked).where(or_(*(ranked.c.rank.between(rank, rank + 1) for rank in lower)))


def errors_by_true_value(selection: Selection, edges: tuple[float, ...]) -> Select[Any]:
    """Select the errors of one model around the median, in each group of true values.

    Columns: index of the group, number of rows, smallest and largest true value, sum of the errors, rank of the
    absolute error, and absolute error; one or two rows for each group.

    Args:
        selection: predictions of one model.
        edges: the largest true value of each group but the last, in ascending order.
    """
    true_value = label_as_number().label("true_value")
    inner = _regressor_rows(selection, true_value, predictions.c.value.label("value")).subquery()
    y = inner.c.true_value
    groups = select(
        case(*((y <= edge, index) for index, edge in enumerate(edges)), else_=len(edges)).label("bin"),
        y,
        (inner.c.value - y).label("error"),
    ).subquery()
    bin_index, error = groups.c.bin, groups.c.error
    ranked = select(
        bin_index,
        func.count().over(partition_by=bin_index).label("number"),
        func.min(groups.c.true_value).over(partition_by=bin_index).label("low"),
        func.max(groups.c.true_value).over(partition_by=bin_index).label("high"),
        func.sum(error).over(partition_by=bin_index).label("error_sum"),
        func.row_number().over(partition_by=bin_index, order_by=func.abs(error)).label("rank"),
        func.abs(error).label("absolute_error"),
    ).subquery()
    middle = ranked.c.rank.in_([(ranked.c.number + 1) // 2, ranked.c.number // 2 + 1])
    return select(ranked).where(middle).order_by(ranked.c.bin, ranked.c.rank)


def _regressor_rows(selection: Selection, *columns: ColumnElement[Any]) -> Select[Any]:
    """Select columns of the labelled predictions of regressors whose errors can be computed."""
    return select_labelled(selection, *columns).where(fits(predictions.c.value), fits(label_as_number()))
