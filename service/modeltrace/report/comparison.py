"""A window and a reference as two Parquet files, and the description that goes with them to a library's program."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from modeltrace.report.columns import Layout, merge_rare, table
from modeltrace.report.sources import Chosen, Reference, Window, said

SHOWN: Final = 8


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


def compare(window: Window, reference: Reference, layout: Layout, name: str) -> Comparison:
    """Put both sides into the same columns.

    Args:
        window: what is reported on.
        reference: what it is compared with.
        layout: the columns; those that privacy keeps out of the store are not among them.
        name: the model's.
    """
    if not reference.stored:
        layout = without(layout, dict.fromkeys(layout.hashed, "the store has it hashed, the reference not"))
    rows = {"window": window.rows, "reference": reference.rows}
    wanted = [*layout.features, *layout.answers]
    tables = [table(side, layout, wanted) for side in rows.values()]
    categories = [feature for feature, kind in layout.features.items() if kind == "category"]
    (one, other), merged = merge_rare(tables, categories)
    labelled = sum(row.truth is not None and row.answer is not None for row in rows["window"])
    compared = [
        column for column in (layout.prediction, layout.confidence, layout.target) if _in_both(column, one, other)
    ]
    kinds = {**layout.features, **layout.answers}
    scored = layout.score is not None and one.column(layout.score).null_count < len(one)
    description = {
        "title": f"{name} {', '.join(window.chosen.versions)}",
        "task": layout.task,
        "features": list(layout.features),
        "columns": {column: kinds[column] for column in [*layout.features, *compared]},
        "prediction": layout.prediction,
        "target": layout.target,
        "score": layout.score if scored else None,
        "positive": layout.positive,
        "labelled": labelled,
        "reference_labelled": reference.labelled,
        "times": {"window": window.chosen.last / 10**9, "reference": reference.at / 10**9},
    }
    notes = [
        *notes_of(window.chosen, name, len(window.kept)),
        ("reference", _words(reference)),
        *left_out(layout),
        *_put_together(merged),
    ]
    if not reference.answered:
        notes.append(("not compared", "the answers: none are known for the reference"))
    return Comparison(one, other, {**description, "notes": notes}, notes)


def _in_both(column: str, *tables: pa.Table) -> bool:
    return all(column in one.column_names and one.column(column).null_count < len(one) for one in tables)


def notes_of(chosen: Chosen, name: str, kept: int) -> list[tuple[str, str]]:
    """What was chosen of the store, in terms and words; `kept` of it are compared."""
    words = f"{counted(chosen.found, 'prediction')} of {name} {', '.join(chosen.versions)}"
    if kept < chosen.found:
        words += f", {kept:,} of them drawn at random"
    times = f"{said(chosen.first)} to {said(chosen.last)}"
    passed_over = {
        f"{counted(chosen.erased, 'prediction')} whose inputs were erased": chosen.erased,
        f"{counted(chosen.twins, 'prediction')} of another model that was packed under the same version": chosen.twins,
        f"{counted(chosen.shadows, 'answer')} of shadows, unless their version is named": chosen.shadows,
    }
    left_out = [("left out", words) for words, number in passed_over.items() if number]
    return [("window", f"{words}, {times}; {chosen.labelled:,} with a true label"), *left_out]


def counted(number: int, what: str) -> str:
    """So many of something."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _words(reference: Reference) -> str:
    return f"{len(reference.rows):,} {reference.words}; {reference.labelled:,} with a true label"


def left_out(layout: Layout) -> Iterable[tuple[str, str]]:
    """Which features are no part of a table, and why."""
    for reason in dict.fromkeys(layout.left_out.values()):
        names = [name for name, its in layout.left_out.items() if its == reason]
        yield "left out", f"{_some(names)}: {reason}"


def _put_together(merged: dict[str, int]) -> Iterable[tuple[str, str]]:
    for name, number in merged.items():
        yield "put together", f"{name}: of {number:,} values the rarest count as one"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def without(layout: Layout, reasons: dict[str, str]) -> Layout:
    """The layout without some features, which are told of with a reason."""
    kept = {name: kind for name, kind in layout.features.items() if name not in reasons}
    return replace(layout, features=kept, left_out={**layout.left_out, **reasons})
