"""Render the worst segments as JSON and as text for a terminal."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from modeltrace.evaluation.render import text_table
from modeltrace.evaluation.worst_segments import ALPHA, MIN_ROWS, WorstSegments


def to_json(result: WorstSegments) -> dict[str, Any]:
    """Return the segments as a JSON object."""
    segments = [
        {**asdict(segment), "worst_prediction": segment.worst_prediction._asdict()} for segment in result.segments
    ]
    return {**asdict(result), "segments": segments}


def to_text(result: WorstSegments) -> RenderableType:
    """Return the segments as a table for a terminal."""
    title = (
        f"{result.model_name} {result.model_version}, {result.metric} {result.error:.6g} of {result.labels:,} labelled "
        f"predictions, {result.compared:,} segments compared"
    )
    lines: list[RenderableType] = [Text(title, style="bold")]
    if result.too_many_values:
        names = ", ".join(result.too_many_values)
        lines.append(Text(f"  not compared, because they have too many values: {names} (name the bundle: --bundle)"))
    if not result.compared:
        lines.append(Text(f"  no segment has {MIN_ROWS} labels, and {MIN_ROWS} outside of it: no segment is compared"))
    elif not any(segment.beyond_chance for segment in result.segments):
        largest = "; these errors are the largest ones, by chance" if result.segments else ""
        lines.append(Text(f"  no segment has a larger error than chance explains{largest}"))
    table = text_table(
        "segment", "labels", result.metric, f"{1 - ALPHA:.0%} interval", "rest", "p-value", "beyond chance",
        "worst prediction's trace",
    )  # fmt: skip
    for segment in result.segments:
        values = segment.segment.items()
        table.add_row(
            ", ".join(f"without {name}" if value is None else f"{name}={value}" for name, value in values),
            f"{segment.labels:,}",
            f"{segment.error:.4g}",
            f"{segment.low:.4g} to {segment.high:.4g}",
            f"{segment.rest_error:.4g}",
            f"{segment.p_value:.2g}",
            "yes" if segment.beyond_chance else "no",
            segment.worst_prediction.trace_id or segment.worst_prediction.prediction_id,
        )
    return Group(*lines, table) if result.segments else Group(*lines)
