"""Render the result of a replay as JSON and as tables for a terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modeltrace.inference.model import ModelOutput
from modeltrace.printable import truncate
from modeltrace.replay.compare import ReplayedRow
from modeltrace.replay.run import ModelReplay, Verdict

# Maximum number of rows in a table. Rows with another label are first, then other rows that are not equal.
MAX_ROWS_SHOWN = 20
# Characters of the named outputs of a row in a table.
MAX_OUTPUT_TEXT = 60


def to_json(replays: Sequence[ModelReplay], errors: Sequence[str], verdict: Verdict) -> dict[str, Any]:
    """Return the results with all rows as a JSON object."""
    return {"verdict": verdict, "models": [_model(replay) for replay in replays], "errors": list(errors)}


def _model(replay: ModelReplay) -> dict[str, Any]:
    return {
        "verdict": replay.verdict,
        "recorded": {"name": replay.name, "version": replay.version, "hash": replay.hash},
        "recorded_bundle": None if replay.recorded_bundle is None else replay.recorded_bundle.location,
        "privacy_rules_known": replay.privacy_rules_known,
        "replayed_with": {
            "name": replay.bundle.name,
            "version": replay.bundle.version,
            "hash": replay.bundle.onnx_hash if replay.engine == "onnx" else replay.bundle.hash,
            "location": replay.bundle.location,
            "engine": replay.engine,
        },
        "libraries": {
            name: {"bundle": in_bundle, "installed": installed}
            for name, (in_bundle, installed) in replay.libraries.items()
        },
        "counts": dict(replay.counts),
        "rows": [
            {
                **asdict(row),
                "recorded": _output(row.recorded),
                "replayed": None if row.replayed is None else _output(row.replayed),
            }
            for row in replay.rows
        ],
    }


def _output(output: ModelOutput) -> dict[str, Any]:
    if output.value is not None:
        return {"value": output.value}
    labelled = {} if output.label is None else {"label": output.label, "confidence": output.confidence}
    return labelled if output.outputs is None else {**labelled, "outputs": list(output.outputs)}


def render(console: Console, replays: Sequence[ModelReplay]) -> None:
    """Print the results as tables. Labels and names are printed as text, never as Rich markup."""
    for replay in replays:
        time = datetime.fromtimestamp(replay.time / 10**9, UTC)
        number = f"{len(replay.rows):,} prediction{'' if len(replay.rows) == 1 else 's'}"
        console.print(f"{number} of {replay.name} {replay.version}, {time:%Y-%m-%d %H:%M:%S} UTC", style="bold")
        console.print(f"  replayed with {_bundle_description(replay)}")
        if replay.recorded_bundle is None:
            console.print("  the bundle of the recorded model was not found", style="yellow")
        if not replay.privacy_rules_known:
            console.print(
                "  the recorded feature schema was not found: privacy rules may have changed the inputs", style="yellow"
            )
        console.print(_rows(replay.rows))
        if (more := len(replay.rows) - MAX_ROWS_SHOWN) > 0:
            console.print(f"  and {more:,} more (--json has all of them)", style="dim")
        console.print(_summary(replay))
        console.print(_libraries(replay))


def _bundle_description(replay: ModelReplay) -> str:
    bundle = replay.bundle
    same = replay.recorded_bundle is not None and replay.recorded_bundle.sha256 == bundle.sha256
    engine = " with ONNX Runtime" if replay.engine == "onnx" else ""
    name = f"{bundle.name} {bundle.version}"
    packed_as = "" if name == f"{replay.name} {replay.version}" else f", packed as {name}"
    model = f"the same model, by its SHA-256{packed_as}" if same else name
    return f"{model}{engine}: {bundle.location}"


def _rows(rows: Sequence[ReplayedRow]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("row", justify="right")
    for name in ("recorded", "replayed", "difference", ""):
        table.add_column(name)
    for row in sorted(rows, key=lambda row: (row.outcome == "equal", not row.label_changed, row.row))[:MAX_ROWS_SHOWN]:
        replayed = Text(row.reason or "", style="yellow") if row.replayed is None else Text(_output_text(row.replayed))
        difference = "" if row.difference is None else f"{row.difference:+.3g}" if row.difference else "0"
        outcome = Text("another label" if row.label_changed else row.outcome.replace("_", " "), style=_style(row))
        table.add_row(str(row.row), Text(_output_text(row.recorded)), replayed, difference, outcome)
    return table


def _style(row: ReplayedRow) -> str:
    return "dim" if row.outcome == "equal" else "bold yellow" if row.label_changed else "yellow"


def _output_text(output: ModelOutput) -> str:
    if output.value is not None:
        return f"{output.value:.10g}"
    if output.outputs is not None:
        values = [f"{value:.10g}" if isinstance(value, float) else str(value) for value in output.outputs]
        return truncate("  ".join(values if output.label is None else [str(output.label), *values]), MAX_OUTPUT_TEXT)
    return f"{output.label}" if output.confidence is None else f"{output.label}  {output.confidence:.6f}"


def _summary(replay: ModelReplay) -> str:
    names = {
        "equal": "equal",
        "different": "different",
        "rejected": "rejected by the schema",
        "failed": "failed",
        "not_replayable": "not replayable",
    }
    counts = replay.counts
    summary = ", ".join(f"{counts[outcome]:,} {name}" for outcome, name in names.items() if counts[outcome])
    labels = sum(row.label_changed for row in replay.rows)
    return f"  {summary}; another label in {labels:,}" if labels else f"  {summary}"


def _libraries(replay: ModelReplay) -> Table | Text:
    different = {name: versions for name, versions in replay.libraries.items() if versions[0] != versions[1]}
    if not different:
        return Text("  libraries: the installed versions are those of the bundle", style="dim")
    table = Table("library", "in the bundle", "installed", box=None, pad_edge=False, padding=(0, 2))
    for name, (in_bundle, installed) in different.items():
        table.add_row(name, in_bundle or "none", installed or "none")
    return table
