"""The figures as people read them, and as machines do."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modeltrace.evaluation.concept_drift import DRIFT, STABLE, WARNING
from modeltrace.evaluation.metrics import CalibrationMetrics, ClassificationMetrics, ModelMetrics, RegressionMetrics

LEVEL_NAMES: Final = {STABLE: "stable", WARNING: "warning", DRIFT: "drift"}
# Classes beyond which a confusion matrix is no longer read.
MAX_MATRIX_CLASSES: Final = 12


def to_json(figures: ModelMetrics) -> dict[str, Any]:
    """As JSON has it; what is not known is null."""
    said = asdict(figures)
    del said["drift"], said["drift_predictions"]
    drift = None
    if figures.drift is not None:
        drift = {
            "level": LEVEL_NAMES[figures.drift.level],
            "error_rate": figures.drift.error_rate,
            "labels": len(figures.drift.levels),
            "drifts": figures.drift.drift_indices,
            "found_at": [place._asdict() for place in figures.drift_predictions],
        }
    said["label_delays"] = {str(quantile): delay for quantile, delay in figures.label_delays.items()}
    if found := figures.classification:
        said["classification"]["confusion"] = [one._asdict() for one in found.confusion]
        if found.calibration:
            said["classification"]["calibration"]["bins"] = [one._asdict() for one in found.calibration.bins]
    return {**said, "label_coverage": figures.label_coverage, "concept_drift": drift}


def to_text(figures: ModelMetrics) -> RenderableType:
    """As a terminal shows it."""
    return Group(*_sections(figures))


def _sections(figures: ModelMetrics) -> Iterator[RenderableType]:
    yield Text(f"{figures.model_name} {figures.model_version}{_model_hash(figures)}", style="bold")
    coverage = "" if figures.label_coverage is None else f" ({figures.label_coverage:.1%})"
    yield Text(
        f"  {figures.predictions:,} predictions, {figures.labels:,} with a label{coverage}{_label_delays(figures)}"
    )
    if figures.classification is None and figures.regression is None:
        yield Text("  without labels there is nothing to say of it")
    if figures.classification:
        yield from _classification(figures.classification)
    if figures.regression:
        yield from _regression(figures.regression)
    if figures.drift is not None and figures.drift.error_rate is not None:
        yield from _drift(figures)


def _model_hash(figures: ModelMetrics) -> str:
    """What tells several models of one name and version apart."""
    return f" (one of several models of this version: SHA-256 {figures.model_hash[:12]}…)" if figures.model_hash else ""


def _label_delays(figures: ModelMetrics) -> str:
    if not figures.label_delays:
        return ""
    return "; of the labels " + ", ".join(
        f"{quantile:.0%} came within {_duration(delay)}" for quantile, delay in figures.label_delays.items()
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _classification(found: ClassificationMetrics) -> Iterator[RenderableType]:
    yield Text(f"  accuracy {found.accuracy:.4f}\n")
    table = _table("class", "precision", "recall", "F1", "labels", "answers")
    for one in found.classes:
        shares = (f"{share:.4f}" for share in (one.precision, one.recall, one.f1))
        table.add_row(str(one.label), *shares, f"{one.support:,}", f"{one.predicted:,}")
    means = (f"{share:.4f}" for share in (found.precision, found.recall, found.f1))
    table.add_row("mean", *means, "", "", style="dim")
    yield table
    if 1 < len(found.classes) <= MAX_MATRIX_CLASSES:
        yield _confusion(found)
    if found.calibration:
        yield from _calibration(found.calibration)


def _confusion(found: ClassificationMetrics) -> Table:
    rows = {(str(one.label), str(one.true_label)): one.rows for one in found.confusion}
    names = [str(one.label) for one in found.classes]
    table = _table("label ↓  answer →", *names)
    for true in names:
        table.add_row(true, *(f"{rows.get((said, true), 0):,}" for said in names))
    return table


def _calibration(found: CalibrationMetrics) -> Iterator[RenderableType]:
    yield Text(f"  calibration error {found.expected_calibration_error:.4f}, Brier score {found.brier_score:.4f}\n")
    table = _table("confidence", "predictions", "mean", "accuracy")
    for one in found.bins:
        table.add_row(
            f"{one.low:.1f} to {one.high:.1f}", f"{one.rows:,}", f"{one.confidence:.4f}", f"{one.accuracy:.4f}"
        )
    yield table


def _regression(found: RegressionMetrics) -> Iterator[RenderableType]:
    r2 = "" if found.r2 is None else f", R² {found.r2:.4f}"
    yield Text(
        f"  mean absolute error {found.mean_absolute_error:.6g}, root mean squared error "
        f"{found.root_mean_squared_error:.6g}{r2}"
    )


def _drift(figures: ModelMetrics) -> Iterator[RenderableType]:
    assert figures.drift is not None  # noqa: S101  by the caller
    level = LEVEL_NAMES[figures.drift.level]
    style = "" if figures.drift.level == STABLE else "yellow" if figures.drift.level == WARNING else "red"
    rate = figures.drift.error_rate
    yield Text(f"  concept drift: {level}, error rate {math.nan if rate is None else rate:.2%}", style=style)
    for number, place in zip(figures.drift.drift_indices, figures.drift_predictions, strict=False):
        at = datetime.fromtimestamp(place.time // 10**9, UTC)
        trace = f", trace {place.trace_id}" if place.trace_id else ""
        yield Text(f"    found at label {number + 1:,}: {at:%Y-%m-%d %H:%M:%S} UTC, {place.prediction_id}{trace}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=True, padding=(0, 2))
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", header_style="dim")
    return table
