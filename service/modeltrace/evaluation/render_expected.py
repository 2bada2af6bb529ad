"""Render the expected performance as text for a terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from modeltrace.evaluation.expected_rows import ALPHA, CONTRADICTION_ALPHA, ExpectedPerformance
from modeltrace.evaluation.render import text_table


def to_text(result: ExpectedPerformance) -> RenderableType:
    """Return the estimate as a table for a terminal."""
    return Group(*_sections(result))


def _sections(result: ExpectedPerformance) -> Iterator[RenderableType]:
    yield Text(
        f"{result.model_name} {result.model_version}, expected performance of {result.predictions:,} predictions, "
        f"calibrated with {result.earlier_labels:,} earlier labels",
        style="bold",
    )
    if result.accuracy is None:
        yield Text(f"  no estimate: {result.reason}", style="yellow")
        return
    if result.reason:
        yield Text(f"  do not trust this estimate: {result.reason}", style="red")
    table = text_table("expected", "estimate", f"{1 - ALPHA:.0%} interval")
    of_class = f" of {result.positive_label}"
    for name, interval in (("accuracy", result.accuracy), (f"F1{of_class}", result.f1), ("ROC AUC", result.roc_auc)):
        if interval is not None:
            table.add_row(name, f"{interval.estimate:.4f}", f"{interval.low:.4f} to {interval.high:.4f}")
    yield table
    if result.arrived is None:
        yield Text("  not compared with labels of these predictions, because too few have arrived")
    else:
        expected = result.arrived.expected
        yield Text(
            f"  {result.arrived.labels:,} labels of these predictions have arrived: accuracy "
            f"{result.arrived.accuracy:.4f}, expected {expected.estimate:.4f}, {1 - CONTRADICTION_ALPHA:.1%} interval "
            f"{expected.low:.4f} to {expected.high:.4f}"
        )
