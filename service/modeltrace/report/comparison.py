"""Write a window and a reference as two Parquet files, and describe them for the program of a library."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from modeltrace.report.columns import ColumnLayout, build_table, merge_rare
from modeltrace.report.sources import ModelPredictions, Reference, Window, format_time
from modeltrace.store.export import open_private

MAX_NAMES: Final = 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tables of window and reference, their description for a program, and notes for the user (term and text)."""

    window: pa.Table
    reference: pa.Table
    description: dict[str, Any]
    notes: list[tuple[str, str]]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write both tables, readable by the user only; return the description with their paths."""
        paths = {side: folder / f"{side}.parquet" for side in ("window", "reference")}
        for side, path in paths.items():
            with open_private(path) as file:
                pq.write_table(getattr(self, side), file)
        return {**self.description, **{side: str(path) for side, path in paths.items()}}


def build_comparison(window: Window, reference: Reference, layout: ColumnLayout, name: str) -> Comparison:
    """Build tables with the same columns for both sides.

    Args:
        window: the predictions to report on.
        reference: the rows to compare the predictions with.
        layout: the columns, without features that are not stored because of their privacy rules.
        name: the name of the model.
    """
    if not reference.stored:
        layout = exclude_features(
            layout, dict.fromkeys(layout.hashed, "its values are hashed in the store, but not in the reference")
        )
    names = [*layout.features, *layout.outputs]
    tables = [build_table(rows, layout, names) for rows in (window.rows, reference.rows)]
    categories = [feature for feature, kind in layout.features.items() if kind == "category"]
    (window_table, reference_table), merged = merge_rare(tables, categories)
    compared = [
        column
        for column in (layout.prediction, layout.confidence, layout.target)
        if all(_has_values(table, column) for table in (window_table, reference_table))
    ]
    kinds = {**layout.features, **layout.outputs}
    has_score = layout.score is not None and _has_values(window_table, layout.score)
    description = {
        "title": f"{name} {', '.join(window.source.versions)}",
        "task": layout.task,
        "features": list(layout.features),
        "columns": {column: kinds[column] for column in [*layout.features, *compared]},
        "prediction": layout.prediction,
        "target": layout.target,
        "score": layout.score if has_score else None,
        "positive": layout.positive,
        "labelled": sum(row.true_label is not None and row.prediction is not None for row in window.rows),
        "reference_labelled": reference.labelled,
        "times": {"window": window.source.last / 10**9, "reference": reference.time / 10**9},
    }
    rows = f"{len(reference.rows):,} {reference.description}; {reference.labelled:,} with a true label"
    notes = [
        *selection_notes(window.source, name, len(window.rows)),
        ("reference", rows),
        *exclusion_notes(layout),
        *(
            ("merged", f"{feature}: the rarest of {number:,} categories count as one")
            for feature, number in merged.items()
        ),
    ]
    if not reference.has_predictions:
        notes.append(("not compared", "the predictions: the reference has none"))
    return Comparison(window_table, reference_table, {**description, "notes": notes}, notes)


def _has_values(table: pa.Table, column: str) -> bool:
    return column in table.column_names and table.column(column).null_count < len(table)


def selection_notes(source: ModelPredictions, name: str, compared: int) -> list[tuple[str, str]]:
    """Return notes on the selected predictions. `compared` is the number of predictions in the comparison."""
    selected = f"{pluralize(source.selected, 'prediction')} of {name} {', '.join(source.versions)}"
    if compared < source.selected:
        selected += f", {compared:,} of them drawn at random"
    times = f"{format_time(source.first)} to {format_time(source.last)}"
    left_out = {
        f"{pluralize(source.erased, 'prediction')} whose inputs were erased": source.erased,
        f"{pluralize(source.other_models, 'prediction')} of another model packed under the same version": (
            source.other_models
        ),
        f"{pluralize(source.shadows, 'prediction')} of shadows, unless their version is named": source.shadows,
    }
    return [
        ("window", f"{selected}, {times}; {source.labelled:,} with a true label"),
        *(("left out", text) for text, number in left_out.items() if number),
    ]


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def exclusion_notes(layout: ColumnLayout) -> Iterable[tuple[str, str]]:
    """Yield a note for each reason why features are excluded."""
    for reason in dict.fromkeys(layout.excluded.values()):
        names = [name for name, of_feature in layout.excluded.items() if of_feature == reason]
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        yield "left out", f"{', '.join(names[:MAX_NAMES])}{more}: {reason}"


def exclude_features(layout: ColumnLayout, reasons: dict[str, str]) -> ColumnLayout:
    """Return the layout without the features in `reasons`."""
    features = {name: kind for name, kind in layout.features.items() if name not in reasons}
    return replace(layout, features=features, excluded={**layout.excluded, **reasons})
