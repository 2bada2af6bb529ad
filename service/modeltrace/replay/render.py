"""What a person, or a program, is told of a replay."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modeltrace.inference.model import ModelOutput
from modeltrace.replay.compare import ReplayedRow
from modeltrace.replay.run import ModelReplay, Verdict

# Rows of a table; those with another label come first, then what else is not equal.
MAX_ROWS_SHOWN = 20


def to_json(groups: Sequence[ModelReplay], errors: Sequence[str], verdict: Verdict) -> dict[str, Any]:
    """All of it, every row."""
    return {"verdict": verdict, "models": [_group(group) for group in groups], "errors": list(errors)}


def _group(group: ModelReplay) -> dict[str, Any]:
    return {
        "verdict": group.verdict,
        "recorded": {"name": group.name, "version": group.version, "hash": group.hash},
        "found": None if group.recorded_bundle is None else group.recorded_bundle.location,
        "privacy_rules_known": group.privacy_rules_known,
        "replayed_with": {
            "name": group.bundle.name,
            "version": group.bundle.version,
            "hash": group.bundle.onnx_hash if group.engine == "onnx" else group.bundle.hash,
            "where": group.bundle.location,
            "engine": group.engine,
        },
        "libraries": {name: {"bundle": made, "here": here} for name, (made, here) in group.libraries.items()},
        "counts": dict(group.counts),
        "rows": [
            {
                "row": row.row,
                "prediction_id": row.prediction_id,
                "outcome": row.outcome,
                "recorded": _answer(row.recorded),
                "now": None if row.replayed is None else _answer(row.replayed),
                "difference": row.difference,
                "note": row.reason,
            }
            for row in group.rows
        ],
    }


def _answer(answer: ModelOutput) -> dict[str, Any]:
    if answer.value is not None:
        return {"value": answer.value}
    return {"label": answer.label, "confidence": answer.confidence}


def render(console: Console, groups: Sequence[ModelReplay]) -> None:
    """Print tables of it. No markup: labels and names are what they are."""
    for group in groups:
        when = datetime.fromtimestamp(group.time / 10**9, UTC)
        number = f"{len(group.rows):,} prediction{'' if len(group.rows) == 1 else 's'}"
        console.print(f"{number} of {group.name} {group.version}, {when:%Y-%m-%d %H:%M:%S} UTC", style="bold")
        console.print(f"  answered now by {_bundle_description(group)}")
        if group.recorded_bundle is None:
            console.print("  the model that answered is not to be found", style="yellow")
        if not group.privacy_rules_known:
            console.print(
                "  the feature schema that is recorded is not to be found: privacy rules may have changed the inputs",
                style="yellow",
            )
        console.print(_rows(group.rows))
        if (more := len(group.rows) - MAX_ROWS_SHOWN) > 0:
            console.print(f"  and {more:,} more (--json has all of them)", style="dim")
        console.print(_summary(group))
        console.print(_libraries(group))


def _bundle_description(group: ModelReplay) -> str:
    same = group.recorded_bundle is not None and group.recorded_bundle.sha256 == group.bundle.sha256
    engine = " with ONNX Runtime" if group.engine == "onnx" else ""
    called = f"{group.bundle.name} {group.bundle.version}"
    other_name = "" if called == f"{group.name} {group.version}" else f", packed as {called}"
    which = f"the same model, by its SHA-256{other_name}" if same else called
    return f"{which}{engine}: {group.bundle.location}"


def _rows(rows: Sequence[ReplayedRow]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("row", justify="right")
    for name in ("recorded", "now", "difference", ""):
        table.add_column(name)
    for row in sorted(rows, key=lambda row: (row.outcome == "equal", not row.label_changed, row.row))[:MAX_ROWS_SHOWN]:
        now = Text(row.reason or "", style="yellow") if row.replayed is None else Text(_answer_text(row.replayed))
        difference = "" if row.difference is None else f"{row.difference:+.3g}" if row.difference else "0"
        outcome = Text("another label" if row.label_changed else row.outcome, style=_style(row))
        table.add_row(str(row.row), Text(_answer_text(row.recorded)), now, difference, outcome)
    return table


def _style(row: ReplayedRow) -> str:
    return "dim" if row.outcome == "equal" else "bold yellow" if row.label_changed else "yellow"


def _answer_text(answer: ModelOutput) -> str:
    if answer.value is not None:
        return f"{answer.value:.10g}"
    return f"{answer.label}" if answer.confidence is None else f"{answer.label}  {answer.confidence:.6f}"


def _summary(group: ModelReplay) -> str:
    words = {
        "equal": "equal",
        "differs": "different",
        "refused": "refused by the schema",
        "failed": "failed",
        "impossible": "impossible to replay",
    }
    counts = group.counts
    said = ", ".join(f"{counts[name]:,} {word}" for name, word in words.items() if counts[name])
    labels = sum(row.label_changed for row in group.rows)
    return f"  {said}; another label in {labels:,}" if labels else f"  {said}"


def _libraries(group: ModelReplay) -> Table | Text:
    """Those whose versions differ; that there are none is said, too."""
    different = {name: both for name, both in group.libraries.items() if both[0] != both[1]}
    if not different:
        return Text("  libraries: the versions here are those of the bundle", style="dim")
    table = Table("library", "in the bundle", "here", box=None, pad_edge=False, padding=(0, 2))
    for name, (made, here) in different.items():
        table.add_row(name, made or "none", here or "none")
    return table
