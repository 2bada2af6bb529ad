"""A window and a reference as two Parquet files, and the description that goes with them to a library's program."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from modeltrace.report.columns import ColumnLayout, build_table, merge_rare
from modeltrace.report.sources import ModelPredictions, Reference, Window, format_time

MAX_NAMES: Final = 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides as tables, what they hold, and what a person is told of them: terms and words."""

    window: pa.Table
    reference: pa.Table
    description: dict[str, Any]
    notes: list[tuple[str, str]]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write both tables, for the user alone; the description with their paths."""
        paths = {side: folder / f"{side}.parquet" for side in ("window", "reference")}
        for side, path in paths.items():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                pq.write_table(getattr(self, side), file)
        return {**self.description, **{side: str(path) for side, path in paths.items()}}


def build_comparison(window: Window, reference: Reference, layout: ColumnLayout, name: str) -> Comparison:
    """Put both sides into the same columns.

    Args:
        window: what is reported on.
        reference: what it is compared with.
        layout: the columns; those that privacy keeps out of the store are not among them.
        name: the model's.
    """
    if not reference.stored:
        layout = exclude_features(layout, dict.fromkeys(layout.hashed, "the store has it hashed, the reference not"))
    rows = {"window": window.rows, "reference": reference.rows}
    wanted = [*layout.features, *layout.outputs]
    tables = [build_table(side, layout, wanted) for side in rows.values()]
    categories = [feature for feature, kind in layout.features.items() if kind == "category"]
    (one, other), merged = merge_rare(tables, categories)
    labelled = sum(row.true_label is not None and row.prediction is not None for row in rows["window"])
    compared = [
        column for column in (layout.prediction, layout.confidence, layout.target) if _in_both(column, one, other)
    ]
    kinds = {**layout.features, **layout.outputs}
    scored = layout.score is not None and one.column(layout.score).null_count < len(one)
    description = {
        "title": f"{name} {', '.join(window.source.versions)}",
        "task": layout.task,
        "features": list(layout.features),
        "columns": {column: kinds[column] for column in [*layout.features, *compared]},
        "prediction": layout.prediction,
        "target": layout.target,
        "score": layout.score if scored else None,
        "positive": layout.positive,
        "labelled": labelled,
        "reference_labelled": reference.labelled,
        "times": {"window": window.source.last / 10**9, "reference": reference.time / 10**9},
    }
    notes = [
        *selection_notes(window.source, name, len(window.predictions)),
        ("reference", _describe_reference(reference)),
        *exclusion_notes(layout),
        *_merge_notes(merged),
    ]
    if not reference.has_predictions:
        notes.append(("not compared", "the answers: none are known for the reference"))
    return Comparison(one, other, {**description, "notes": notes}, notes)


def _in_both(column: str, *tables: pa.Table) -> bool:
    return all(column in one.column_names and one.column(column).null_count < len(one) for one in tables)


def selection_notes(chosen: ModelPredictions, name: str, kept: int) -> list[tuple[str, str]]:
    """What was chosen of the store, in terms and words; `kept` of it are compared."""
    words = f"{pluralize(chosen.selected, 'prediction')} of {name} {', '.join(chosen.versions)}"
    if kept < chosen.selected:
        words += f", {kept:,} of them drawn at random"
    times = f"{format_time(chosen.first)} to {format_time(chosen.last)}"
    passed_over = {
        f"{pluralize(chosen.erased, 'prediction')} whose inputs were erased": chosen.erased,
        f"{pluralize(chosen.other_models, 'prediction')} of another model packed under the same version": (
            chosen.other_models
        ),
        f"{pluralize(chosen.shadows, 'answer')} of shadows, unless their version is named": chosen.shadows,
    }
    left_out = [("left out", words) for words, number in passed_over.items() if number]
    return [("window", f"{words}, {times}; {chosen.labelled:,} with a true label"), *left_out]


def pluralize(number: int, what: str) -> str:
    """So many of something."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _describe_reference(reference: Reference) -> str:
    return f"{len(reference.rows):,} {reference.description}; {reference.labelled:,} with a true label"


def exclusion_notes(layout: ColumnLayout) -> Iterable[tuple[str, str]]:
    """Which features are no part of a table, and why."""
    for reason in dict.fromkeys(layout.excluded.values()):
        names = [name for name, its in layout.excluded.items() if its == reason]
        yield "left out", f"{_shorten(names)}: {reason}"


def _merge_notes(merged: dict[str, int]) -> Iterable[tuple[str, str]]:
    for name, number in merged.items():
        yield "put together", f"{name}: of {number:,} values the rarest count as one"


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{', '.join(names[:MAX_NAMES])}{more}"


def exclude_features(layout: ColumnLayout, reasons: dict[str, str]) -> ColumnLayout:
    """The layout without some features, which are told of with a reason."""
    kept = {name: kind for name, kind in layout.features.items() if name not in reasons}
    return replace(layout, features=kept, excluded={**layout.excluded, **reasons})
