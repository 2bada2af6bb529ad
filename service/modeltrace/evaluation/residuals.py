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
    """Sums over the errors of one model, and over its prediction intervals."""

    sums: ResidualSums
    intervals: IntervalSums


def read_residuals(store: QueryRunner, selection: Selection) -> Mapping[ModelKey, Residuals]:
    """Return the errors of each regressor with a numeric label in a selection.

    Raises:
        StoreError: the store cannot be read.
    """
    result = {}
    for name, version, model_hash, *sums, rows, covered, width, level in store.fetch_all(
        queries.residual_sums(selection)
    ):
        intervals = IntervalSums(rows, covered, float(width or 0), float(level or 0))
        result[name, version, model_hash] = Residuals(_to_residual_sums(*sums), intervals)
    return result


def regression_of_model(store: QueryRunner, of_model: Selection, residuals: Residuals) -> RegressionMetrics | None:
    """Return the metrics of one regressor.

    Raises:
        StoreError: the store cannot be read.
    """
    errors = _quantiles(store.fetch_all(queries.absolute_errors(of_model, PERCENTS)), PERCENTS)
    true_values = _quantiles(store.fetch_all(queries.true_values(of_model)), queries.GROUP_PERCENTS)
    edges = tuple(true_values[percent] for percent in queries.GROUP_PERCENTS)
    medians: dict[int, list[float]] = defaultdict(list)
    groups = {}
    for index, rows, low, high, error_sum, _, error in store.fetch_all(queries.errors_by_true_value(of_model, edges)):
        medians[index].append(float(error))
        groups[index] = rows, float(low), float(high), float(error_sum)
    return regression_metrics(
        residuals.sums,
        {percent / 100: error for percent, error in errors.items()},
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


def _quantiles(rows: Iterable[Sequence[Any]], percents: Sequence[int]) -> dict[int, float]:
    """Return the quantiles by percentage, interpolated as by numpy, from two values around each."""
    number, ranked = 0, {}
    for number, rank, value in rows:  # noqa: B007  the number is the same in all rows
        ranked[rank] = float(value)
    quantiles = {}
    for percent in percents:
        index, remainder = divmod((number - 1) * percent, 100)
        low = ranked[index + 1]
        quantiles[percent] = low + (ranked.get(index + 2, low) - low) * remainder / 100
    return quantiles
