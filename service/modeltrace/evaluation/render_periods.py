"""Render the metrics of hours or days as tables for a terminal: a table per model, a row per period."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType

from modeltrace.evaluation.metrics import ClassificationMetrics, ModelMetrics, RegressionMetrics
from modeltrace.evaluation.render import text_table, title

_CLASSIFIER_COLUMNS: Final = (
    "accuracy", "balanced accuracy", "macro F1", "macro ROC AUC", "log loss", "calibration error",
)  # fmt: skip
_REGRESSOR_COLUMNS: Final = (
    "mean absolute error", "median absolute error", "root mean squared error", "bias", "R²",
)  # fmt: skip


def to_tables(metrics: Sequence[ModelMetrics]) -> Iterator[RenderableType]:
    """Yield a table for each model and segment. The metrics of each have a `period`, in order of time."""
    by_title: dict[str, list[ModelMetrics]] = {}
    for entry in metrics:
        by_title.setdefault(title(entry).plain, []).append(entry)
    for entries in by_title.values():
        yield Group(title(entries[0]), _table(entries))


def _table(entries: Sequence[ModelMetrics]) -> RenderableType:
    regressor = any(entry.regression for entry in entries)
    columns = _REGRESSOR_COLUMNS if regressor else _CLASSIFIER_COLUMNS
    table = text_table("from (UTC)", "predictions", "labels", *columns)
    for entry in entries:
        start = datetime.fromtimestamp((entry.period or (0, 0))[0] // 10**9, UTC)
        values: list[float | None] = [None] * len(columns)
        if entry.classification:
            values = _classifier_values(entry.classification)
        elif entry.regression:
            values = _regressor_values(entry.regression)
        texts = ("" if value is None else f"{value:.6g}" if regressor else f"{value:.4f}" for value in values)
        table.add_row(f"{start:%Y-%m-%d %H:%M}", f"{entry.predictions:,}", f"{entry.labels:,}", *texts)
    return table


def _classifier_values(metrics: ClassificationMetrics) -> list[float | None]:
    probabilities, calibration = metrics.probabilities, metrics.calibration
    return [
        metrics.accuracy,
        metrics.balanced_accuracy,
        metrics.macro.f1,
        probabilities.macro.roc_auc if probabilities else None,
        probabilities.log_loss if probabilities else None,
        calibration.expected_calibration_error if calibration else None,
    ]


def _regressor_values(metrics: RegressionMetrics) -> list[float | None]:
    return [
        metrics.mean_absolute_error,
        metrics.absolute_error_quantiles[0.5],
        metrics.root_mean_squared_error,
        metrics.bias,
        metrics.r2,
    ]
