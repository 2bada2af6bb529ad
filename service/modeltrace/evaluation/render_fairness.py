"""Render fairness metrics as text for a terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from modeltrace.evaluation.fairness import FairnessMetrics
from modeltrace.evaluation.render import text_table


def to_text(metrics: FairnessMetrics) -> RenderableType:
    """Return the metrics as text and tables for a terminal."""
    title = (
        f"{metrics.model_name} {metrics.model_version}, {metrics.attribute}, positive label {metrics.positive_label}"
    )
    groups = text_table(
        "group", "predictions", "labels", "selection rate", "true positive rate", "false positive rate",
        f"disparate impact against {_name(metrics.reference_group)}",
    )  # fmt: skip
    for group in metrics.groups:
        rates = (
            group.selection_rate,
            group.true_positive_rate,
            group.false_positive_rate,
            group.disparate_impact,
        )
        groups.add_row(_name(group.group), f"{group.predictions:,}", f"{group.labels:,}", *map(_number, rates))
    table = text_table("", "difference", "ratio")
    for name, difference, ratio in (
        ("demographic parity", metrics.demographic_parity_difference, metrics.demographic_parity_ratio),
        ("equal opportunity", metrics.equal_opportunity_difference, metrics.equal_opportunity_ratio),
        ("equalized odds", metrics.equalized_odds_difference, metrics.equalized_odds_ratio),
    ):
        table.add_row(name, _number(difference), _number(ratio))
    return Group(Text(title, style="bold"), groups, Text(""), table)


def _name(group: str | None) -> str:
    return "without a value" if group is None else group


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
