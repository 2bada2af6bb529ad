"""Read the errors of regressors from the prediction store."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from modeltrace.evaluation import regression_queries as queries
from modeltrace.evaluation.interval_coverage import IntervalSums, interval_coverage
from modeltrace.evaluation.metrics import RegressionMetrics, ResidualSums, TrueValueGroup, regression_metrics
from modeltrace.evaluation.queries import PERCENTS
from modeltrace.store.selection import Selection
from modeltrace.store.store import QueryRunner
from modeltrace.telemetry.metrics.model_catalog import ModelKey


class Residuals(NamedTuple):
    """The errors of one model: their sums, the sums of its intervals, and quantiles by percentage."""

    sums: ResidualSums
    intervals: IntervalSums
    absolute_errors: dict[int, float]
    true_values: dict[int, float]


def read_residuals(store: QueryRunner, selection: Selection) -> Mapping[ModelKey, Residuals]:
    """Return the errors of each regressor with a numeric label in a selection.

    Raises:
        StoreError: the store cannot be read.
    """
    errors = _quantiles(store.fetch_all(queries.absolute_errors(selection, PERCENTS)), PERCENTS)
    values = _quantiles(store.fetch_all(queries.true_values(selection)), queries.GROUP_PERCENTS)
    result = {}
    for name, version, model_hash, *sums, rows, covered, width, level in store.fetch_all(
        queries.residual_sums(selection)
    ):
        key = name, version, model_hash
        intervals = IntervalSums(rows, covered, float(width or 0), float(level or 0))
        result[key] = Residuals(_to_residual_sums(*sums), intervals, errors[key], values[key])
    return result


def regression_of_model(store: QueryRunner, of_model: Selection, residuals: Residuals) -> RegressionMetrics | None:
    """Return the metrics of one regressor.

    Raises:
        StoreError: the store cannot be read.
    """
    edges = tuple(residuals.true_values[percent] for percent in queries.GROUP_PERCENTS)
    medians: dict[int, list[float]] = defaultdict(list)
    groups = {}
    for index, rows, low, high, error_sum, _, error in store.fetch_all(queries.errors_by_true_value(of_model, edges)):
        medians[index].append(float(error))
        groups[index] = rows, float(low), float(high), float(error_sum)
    return regression_metrics(
        residuals.sums,
        {percent / 100: error for percent, error in residuals.absolute_errors.items()},
        tuple(
            TrueValueGroup(low, high, rows, total / rows, sum(medians[index]) / len(medians[index]))
            for index, (rows, low, high, total) in sorted(groups.items())
        ),
        interval_coverage(residuals.intervals),
    )


def _to_residual_sums(rows: int, absolute: float, squared: float, *others: float) -> ResidualSums:
    """Convert a row of `residual_sums`. Correct the sums of squares for the rounding errors of the means."""
    label, label_squares, error, error_squares, error_sum, relative, zero_labels = map(float, others)
    return ResidualSums(
        rows=rows,
        absolute_error=float(absolute),
        squared_error=float(squared),
        label_squares=max(0.0, label_squares - label**2 / rows),
        absolute_error_squares=max(0.0, error_squares - error**2 / rows),
        error=error_sum,
        relative_error=relative,
        zero_labels=int(zero_labels),
    )


def _quantiles(rows: Iterable[Sequence[Any]], percents: Sequence[int]) -> Mapping[ModelKey, dict[int, float]]:
    """Return the quantiles by percentage, interpolated as by numpy, from two values around each."""
    ranked: dict[ModelKey, dict[int, float]] = defaultdict(dict)
    numbers = {}
    for name, version, model_hash, number, rank, value in rows:
        key = name, version, model_hash
        ranked[key][rank], numbers[key] = float(value), number
    result: dict[ModelKey, dict[int, float]] = defaultdict(dict)
    for key, values in ranked.items():
        for percent in percents:
            index, remainder = divmod((numbers[key] - 1) * percent, 100)
            low = values[index + 1]
            result[key][percent] = low + (values.get(index + 2, low) - low) * remainder / 100
    return result
