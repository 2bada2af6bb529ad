"""Draw the charts of labelled predictions of a version, or say why there are none.

Each point, bar and cell links to its predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from modeltrace_hub.queries.filter_line import format_condition
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.curve_charts import draw_precision_recall, draw_reliability, draw_roc
from modeltrace_hub.web.error_charts import ErrorChart, draw_errors, draw_values
from modeltrace_hub.web.line_chart import LineChart, Mark, draw_lines
from modeltrace_hub.web.model_charts import Link
from modeltrace_hub.web.square_plot import LABELLED, NOT_SYNTHETIC, Plot
from modeltrace_hub.web.time_axis import TimeAxis

TIME_HEIGHT: Final = 110.0
# With fewer labels, charts are mostly chance, so they are not drawn.
MIN_LABELS: Final = 10

_FIGURES: Final = (("accuracy", "accuracy"), ("roc_auc", "ROC AUC"), ("mean_absolute_error", "mean absolute error"))


@dataclass(frozen=True, slots=True)
class QualityCharts:
    """The charts of one version. A chart that cannot be drawn is None; `missing` has the reason by its name."""

    labels: int
    predictions: int
    over_time: LineChart | None
    reliability: Plot | None
    roc: Plot | None
    precision_recall: Plot | None
    values: Plot | None
    errors: ErrorChart | None
    missing: str
    missing_curves: str
    # The hash of the model, if several models have its name and version.
    hash: str | None = None


def draw_quality(figures: Record | None, over: str, step_ns: int, link: Link, spooled: str = "") -> QualityCharts:
    """Draw all charts of a version.

    Args:
        figures: a record of `versions` of `read_quality`; None if the window has no predictions of the version.
        over: the name of a step, `minute`, `hour` or `day`.
        step_ns: its length.
        link: builds the address of the predictions of this version that a filter selects.
        spooled: which services keep log records on disk; "" if none does.
    """
    labels = figures["labels"] if figures else 0
    if figures is None or labels < MIN_LABELS:
        missing = _missing_labels(figures, spooled)
        return QualityCharts(
            labels=labels,
            predictions=figures["predictions"] if figures else 0,
            over_time=None,
            reliability=None,
            roc=None,
            precision_recall=None,
            values=None,
            errors=None,
            missing=missing,
            missing_curves="",
            hash=figures["hash"] if figures else None,
        )
    link = _chart_link(link, figures["hash"])
    ranking = figures["ranking"]
    has_curves = ranking and 0 < ranking["positives"] < ranking["labels"] >= MIN_LABELS
    is_regressor = bool(figures["values"])
    return QualityCharts(
        labels=labels,
        predictions=figures["predictions"],
        over_time=draw_over_time(figures["steps"], over, step_ns, link),
        reliability=draw_reliability(figures["reliability"], link) if figures["reliability"] else None,
        roc=draw_roc(ranking, link) if has_curves else None,
        precision_recall=draw_precision_recall(ranking, link) if has_curves else None,
        values=draw_values(figures["values"], link) if is_regressor else None,
        errors=draw_errors(figures["residuals"], link) if is_regressor else None,
        missing="",
        missing_curves="" if has_curves or is_regressor else _missing_curves(figures),
        hash=figures["hash"],
    )


def _chart_link(link: Link, model_hash: str | None) -> Link:
    """Return a function that builds addresses of those predictions only that the charts count."""
    conditions = [NOT_SYNTHETIC, *([format_condition("ml.model.hash", "=", model_hash)] if model_hash else [])]

    def chart_link(filter: str, **parameters: Any) -> str:  # noqa: A002, ANN401  parameters of the page
        return link(filter=" ".join([filter, *conditions]).strip(), **parameters)

    return chart_link


def _missing_labels(figures: Record | None, spooled: str) -> str:
    if figures is None or not figures["predictions"]:
        return f"No prediction log records of this version are stored for this window. {spooled}".rstrip()
    if not figures["labels"]:
        return "No true label of a prediction of this window has arrived. Send labels with POST /feedback."
    return f"Only {fmt.plural(figures['labels'], 'label')} of this window: charts need at least {MIN_LABELS}."


def _missing_curves(figures: Record) -> str:
    """Return why there are no curves of a classifier, or no errors of a regressor."""
    if figures["numbers"]:
        return (
            "No errors: no prediction has a predicted and a true value that are both numbers, neither NaN nor too "
            "large."
        )
    if not figures["reliability"]:
        return "No reliability diagram and no curves: the predictions have no confidence."
    if not figures["classes"]:
        return "No ROC and precision-recall curves: the event ml.model, which has the classes, is not stored."
    if len(figures["classes"]) < 2:
        return "No ROC and precision-recall curves: they need two classes, and the model has only one."
    if len(figures["classes"]) > 2:
        return (
            "No ROC and precision-recall curves: with more than two classes they need the probability of each class. "
            "Prediction log records contain that of the predicted class. modeltrace evaluate computes the areas."
        )
    if figures["ranking"] is None or figures["ranking"]["labels"] < MIN_LABELS:
        return "No ROC and precision-recall curves: too few labels are classes of the model."
    return "No ROC and precision-recall curves: all true labels are equal."


def draw_over_time(steps: Sequence[Record], over: str, step_ns: int, link: Link) -> LineChart | None:
    """Draw accuracy and ROC AUC, or the mean absolute error, with a point for each step that has labels.

    Return None if no step has a figure.
    """
    first_ns = steps[0]["since_ns"] // step_ns * step_ns
    positions = {step["since_ns"] // step_ns - first_ns // step_ns: step for step in steps}
    count = max(positions) + 1
    groups: list[tuple[str, list[float | None]]] = []
    for name, label in _FIGURES:
        values = [positions[index][name] if index in positions else None for index in range(count)]
        if any(value is not None for value in values):
            groups.append((label, values))
    if not groups:
        return None
    chart = draw_lines(TimeAxis(first_ns, step_ns, count), groups, _figure, height=TIME_HEIGHT, from_zero=False)
    dots = []
    for (label, values), line in zip(groups, chart.lines, strict=True):
        corners = (corner.split(",") for part in line.parts for corner in dict.fromkeys(part.split(" ")))
        known = [(index, value) for index, value in enumerate(values) if value is not None]
        for (x, y), (index, value) in zip(corners, known, strict=True):
            step = positions[index]
            title = (
                f"{fmt.utc_time(first_ns + index * step_ns)[:16]} UTC, {over}: {label} {fmt.number(value)}, "
                f"{fmt.number(step['labels'])} of {fmt.plural(step['predictions'], 'prediction')} with a label"
            )
            address = link(since_ns=step["since_ns"], until_ns=step["until_ns"], filter=LABELLED)
            dots.append(Mark(float(x) / 10, float(y), title, address, line.hue))
    return replace(chart, titles=[], dots=dots)


def _figure(value: Any) -> str:  # noqa: ANN401  a number or None
    return "" if value is None else fmt.number(value)
