"""Render metrics as JSON and as text for a terminal."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modeltrace.evaluation.baseline_comparison import OK, WORSE, BaselineComparison
from modeltrace.evaluation.calibration import CalibrationMetrics
from modeltrace.evaluation.clustering import ClusteringMetrics
from modeltrace.evaluation.concept_drift import DRIFT, STABLE
from modeltrace.evaluation.interval_coverage import CONFIDENCE_LEVEL, IntervalCoverage
from modeltrace.evaluation.metrics import ClassificationMetrics, ModelMetrics, RegressionMetrics
from modeltrace.evaluation.probability_metrics import ProbabilityMetrics

LEVEL_NAMES: Final = {STABLE: "stable", DRIFT: "drift"}
# A larger confusion matrix does not fit on a terminal.
MAX_MATRIX_CLASSES: Final = 12


def to_json(metrics: ModelMetrics) -> dict[str, Any]:
    """Return the metrics as a JSON object; unknown values are null."""
    result = asdict(metrics)
    del result["drift"], result["drift_predictions"], result["error_rate"], result["expected"]
    result["period"] = metrics.period and dict(zip(("since_ns", "until_ns"), metrics.period, strict=True))
    drift = None
    if metrics.drift is not None:
        drift = {
            "level": LEVEL_NAMES[metrics.drift.level],
            "error_rate": metrics.error_rate,
            "labels": metrics.drift.labels,
            "drift_indices": metrics.drift.drift_indices,
            "drift_predictions": [prediction._asdict() for prediction in metrics.drift_predictions],
        }
    result["label_delays"] = {str(quantile): delay for quantile, delay in metrics.label_delays.items()}
    if classification := metrics.classification:
        result["classification"]["confusion"] = [cell._asdict() for cell in classification.confusion]
        if calibration := classification.calibration:
            result["classification"]["calibration"]["bins"] = [entry._asdict() for entry in calibration.bins]
        if probabilities := classification.probabilities:
            top_k = {str(k): share for k, share in probabilities.top_k_accuracy.items()}
            result["classification"]["probabilities"]["top_k_accuracy"] = top_k
    if regression := metrics.regression:
        quantiles = regression.absolute_error_quantiles
        result["regression"]["absolute_error_quantiles"] = {str(key): error for key, error in quantiles.items()}
    if clustering := metrics.clustering:
        result["clustering"]["contingency"] = [cell._asdict() for cell in clustering.contingency]
    if metrics.baseline:
        result["baseline"]["increase_standard_error"] = metrics.baseline.increase_standard_error
    return {**result, "label_coverage": metrics.label_coverage, "concept_drift": drift}


def to_text(metrics: ModelMetrics) -> RenderableType:
    """Return the metrics as text and tables for a terminal."""
    return Group(*_sections(metrics))


def _sections(metrics: ModelMetrics) -> Iterator[RenderableType]:
    yield title(metrics)
    coverage = "" if metrics.label_coverage is None else f" ({metrics.label_coverage:.1%})"
    yield Text(
        f"  {metrics.predictions:,} predictions, {metrics.labels:,} with a label{coverage}{_label_delays(metrics)}"
    )
    if not metrics.labels:
        yield Text("  no metrics without labels")
    if metrics.classification:
        yield from _classification(metrics.classification)
    if metrics.regression:
        yield from _regression(metrics.regression)
    if metrics.clustering:
        yield from _clustering(metrics.clustering)
    if (metrics.classification or metrics.regression) and metrics.output is None:
        yield _baseline(metrics)
    yield from _drift(metrics)


def title(metrics: ModelMetrics) -> Text:
    """Return the name of the model, the output of several outputs, and the segment if there is one."""
    output = "" if metrics.output is None else f", output {metrics.output}"
    model = f"{metrics.model_name} {metrics.model_version}{_model_hash(metrics)}"
    return Text(f"{model}{output}{_segment(metrics)}", style="bold")


def _segment(metrics: ModelMetrics) -> str:
    tags = (metrics.segment or {}).items()
    return "".join(f", without {name}" if value is None else f", {name}={value}" for name, value in tags)


def _model_hash(metrics: ModelMetrics) -> str:
    """Return the start of the hash if several models have this name and version."""
    return f" (one of several models of this version: SHA-256 {metrics.model_hash[:12]}…)" if metrics.model_hash else ""


def _label_delays(metrics: ModelMetrics) -> str:
    if not metrics.label_delays:
        return ""
    return "; of the labels " + ", ".join(
        f"{quantile:.0%} arrived within {_duration(delay)}" for quantile, delay in metrics.label_delays.items()
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _classification(metrics: ClassificationMetrics) -> Iterator[RenderableType]:
    yield Text(
        f"  accuracy {metrics.accuracy:.4f}, balanced accuracy {metrics.balanced_accuracy:.4f}, "
        f"Matthews correlation {metrics.matthews_correlation:.4f}\n"
    )
    table = text_table("class", "precision", "recall", "F1", "labels", "predictions")
    for entry in metrics.classes:
        ratios = (f"{ratio:.4f}" for ratio in (entry.precision, entry.recall, entry.f1))
        table.add_row(str(entry.label), *ratios, f"{entry.support:,}", f"{entry.predicted:,}")
    for average, means in (("macro mean", metrics.macro), ("weighted mean", metrics.weighted)):
        ratios = (f"{mean:.4f}" for mean in (means.precision, means.recall, means.f1))
        table.add_row(average, *ratios, "", "", style="dim")
    yield table
    if 1 < len(metrics.classes) <= MAX_MATRIX_CLASSES:
        yield _confusion(metrics)
    yield from _probabilities(metrics.probabilities) if metrics.outlier_ranking is None else _outlier_ranking(metrics)
    if metrics.calibration:
        yield from _calibration(metrics.calibration)


def _confusion(metrics: ClassificationMetrics) -> Table:
    rows = {(str(cell.label), str(cell.true_label)): cell.rows for cell in metrics.confusion}
    names = [str(entry.label) for entry in metrics.classes]
    table = text_table("label ↓  prediction →", *names)
    for true in names:
        table.add_row(true, *(f"{rows.get((label, true), 0):,}" for label in names))
    return table


def _probabilities(metrics: ProbabilityMetrics | None) -> Iterator[RenderableType]:
    if metrics is None:
        yield Text("  no ROC AUC and log loss: no probabilities of these predictions were stored")
        return
    top_k = "".join(f", top-{k} accuracy {share:.4f}" for k, share in metrics.top_k_accuracy.items())
    yield Text(f"  log loss {metrics.log_loss:.4f}, Brier score {metrics.brier_score:.4f}{top_k}\n")
    table = text_table("class against the rest", "ROC AUC", "average precision", "labels")
    for entry in metrics.classes:
        table.add_row(str(entry.label), _ratio(entry.roc_auc), _ratio(entry.average_precision), f"{entry.support:,}")
    if len(metrics.classes) > 1:
        for average, means in (("macro mean", metrics.macro), ("weighted mean", metrics.weighted)):
            table.add_row(average, _ratio(means.roc_auc), _ratio(means.average_precision), "", style="dim")
    yield table


def _outlier_ranking(metrics: ClassificationMetrics) -> Iterator[RenderableType]:
    if (ranking := metrics.outlier_ranking) is not None:
        yield Text(
            f"  outliers by score: ROC AUC {_ratio(ranking.roc_auc)}, average precision "
            f"{_ratio(ranking.average_precision)}, {ranking.support:,} labels are outliers"
        )


def _ratio(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _calibration(metrics: CalibrationMetrics) -> Iterator[RenderableType]:
    yield Text(
        f"  calibration error {metrics.expected_calibration_error:.4f}, "
        f"top-label Brier score {metrics.top_label_brier_score:.4f}\n"
    )
    table = text_table("confidence", "predictions", "mean", "accuracy")
    for entry in metrics.bins:
        table.add_row(
            f"{entry.low:.1f} to {entry.high:.1f}",
            f"{entry.rows:,}",
            f"{entry.confidence:.4f}",
            f"{entry.accuracy:.4f}",
        )
    yield table


def _regression(metrics: RegressionMetrics) -> Iterator[RenderableType]:
    r2 = "" if metrics.r2 is None else f", R² {metrics.r2:.4f}"
    percentage = metrics.mean_absolute_percentage_error
    mape = "none, because a label is 0" if percentage is None else f"{percentage:.4f}"
    yield Text(
        f"  mean absolute error {metrics.mean_absolute_error:.6g}, root mean squared error "
        f"{metrics.root_mean_squared_error:.6g}{r2}\n  bias {metrics.bias:+.6g}, mean absolute percentage error {mape}"
    )
    names = {0.5: "median absolute error"}
    quantiles = (
        f"{names.get(share, f'{share:.0%} quantile')} {error:.6g}"
        for share, error in metrics.absolute_error_quantiles.items()
    )
    intervals = "" if metrics.intervals is None else _interval_text(metrics.intervals)
    yield Text(f"  {', '.join(quantiles)}{intervals}\n")
    table = text_table("true values", "labels", "bias", "median absolute error")
    for group in metrics.true_value_groups:
        table.add_row(
            f"{group.low:.6g} to {group.high:.6g}",
            f"{group.rows:,}",
            f"{group.bias:+.6g}",
            f"{group.median_absolute_error:.6g}",
        )
    yield table


def _clustering(metrics: ClusteringMetrics) -> Iterator[RenderableType]:
    yield Text(
        f"  adjusted Rand index {metrics.adjusted_rand_index:.4f}, homogeneity {metrics.homogeneity:.4f}, completeness "
        f"{metrics.completeness:.4f}, V-measure {metrics.v_measure:.4f}\n  Fowlkes-Mallows index "
        f"{metrics.fowlkes_mallows:.4f}, purity {metrics.purity:.4f}\n"
    )
    rows = {(str(cell.cluster), str(cell.true_class)): cell.rows for cell in metrics.contingency}
    clusters, classes = ([*dict.fromkeys(names)] for names in zip(*rows, strict=True))
    if len(clusters) > MAX_MATRIX_CLASSES or len(classes) > MAX_MATRIX_CLASSES:
        return
    table = text_table("cluster ↓  true class →", *sorted(classes))
    for cluster in clusters:
        table.add_row(cluster, *(f"{rows.get((cluster, name), 0):,}" for name in sorted(classes)))
    yield table


def _interval_text(intervals: IntervalCoverage) -> str:
    return (
        f"\n  prediction intervals: {intervals.coverage:.2%} of {intervals.rows:,} labels are inside, "
        f"{CONFIDENCE_LEVEL:.0%} interval {intervals.low:.2%} to {intervals.high:.2%}; "
        f"nominal {intervals.level:.4g}, mean width {intervals.mean_width:.6g}"
    )


def _baseline(metrics: ModelMetrics) -> Text:
    if (baseline := metrics.baseline) is None:
        return Text("  compared with held-out rows: no held-out reference is known (name its bundle: --bundle)")
    if metrics.regression:
        name, error, before, change, limit = "mean absolute error", *(f"{value:.6g}" for value in _figures(baseline))
    else:
        name, error, before, change, limit = "error rate", *(f"{value:.2%}" for value in _figures(baseline))
    return Text(
        f"  compared with held-out rows: {baseline.state}; {name} {error} over {baseline.labels:,} labels, "
        f"{before} over {baseline.baseline_rows:,} held-out rows; increase {change}, worse above {limit}",
        style="red" if baseline.state == WORSE else "" if baseline.state == OK else "yellow",
    )


def _figures(baseline: BaselineComparison) -> tuple[float, ...]:
    return baseline.error, baseline.baseline_error, baseline.increase, baseline.threshold


def _drift(metrics: ModelMetrics) -> Iterator[RenderableType]:
    drift = metrics.drift
    if drift is None or not drift.labels:
        return
    rate = "" if metrics.error_rate is None else f", error rate {metrics.error_rate:.2%}"
    yield Text(f"  concept drift: {LEVEL_NAMES[drift.level]}{rate}", style="" if drift.level == STABLE else "red")
    for index, prediction in zip(drift.drift_indices, metrics.drift_predictions, strict=False):
        at = datetime.fromtimestamp(prediction.time // 10**9, UTC)
        trace = f", trace {prediction.trace_id}" if prediction.trace_id else ""
        yield Text(f"    drift at label {index + 1:,}: {at:%Y-%m-%d %H:%M:%S} UTC, {prediction.prediction_id}{trace}")


def text_table(*columns: str) -> Table:
    """Return a table whose first column is text, and whose other columns are numbers."""
    table = Table(box=None, pad_edge=True, padding=(0, 2))
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", header_style="dim")
    return table
