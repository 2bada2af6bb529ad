"""`modeltrace evidence`."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.cli.audit import open_configured_store, parse_time
from modeltrace.cli.bundle_option import resolve_bundle
from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.inference.schema import Schema
from modeltrace.monitoring.drilldown import Drilldown, drill_down
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.telemetry.records.prediction import ModelInfo, Value

HOUR = 3600 * 10**9
# Characters of a value that are shown.
MAX_VALUE_CHARS = 60


def evidence(
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help="A feature, or `prediction` for the answers.")],
    since: Annotated[
        int | None, typer.Option(parser=parse_time, metavar="TIME", show_default="1h", help="From this time on.")
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            show_default="MODELTRACE_BUNDLE, or that of the newest prediction",
            help="The model's bundle.",
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(show_default="the bundle's", help="Of a folder of bundles, or of the store, this one."),
    ] = None,
    include_synthetic: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--include-synthetic", help="With what generated traffic asked, too.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Traces a bin, the newest.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """List the traces of predictions that fell into the bins that grew against the training data.

    It reads the prediction store, which is complete whatever is sampled, and says of each statistic if it is drift.
    Predictions of another model that was packed under the same name and version are left out, and counted.

    Example: modeltrace evidence user_age --since 1h
    """
    start = since if since is not None else time.time_ns() - HOUR
    with open_configured_store() as store:
        manifest, _ = read_manifest(resolve_bundle(read_settings(bundle=bundle), store, version))
        schema = Schema(features=manifest.features)
        edges = manifest.output_reference.edges if manifest.output_reference else None
        info = ModelInfo(
            manifest.name,
            manifest.version,
            manifest.artifact.sha256,
            schema.names,
            value_edges=edges or (),
            low_confidence=manifest.confidence_threshold,
        )
        chosen = Selection(
            since=start,
            model_name=manifest.name,
            model_version=manifest.version,
            include_synthetic=include_synthetic,
        )
        kept = (one for chunk in store.read(chosen) for one in chunk)
        hashes = [file.sha256 for file in (manifest.artifact, manifest.onnx) if file is not None]
        said = drill_down(manifest, info, feature, kept, max_traces=limit, model_hashes=hashes)
    if as_json:
        echo(json.dumps(_to_json(manifest, said, start), indent=2, ensure_ascii=False))
    else:
        _print_evidence(manifest, said, start)


def _to_json(manifest: Manifest, said: Drilldown, start: int) -> dict[str, object]:
    """What `--json` prints; NaN is no JSON."""
    results = [{key: None if value != value else value for key, value in one._asdict().items()} for one in said.results]
    bins = [{**asdict(one), "traces": [trace._asdict() for trace in one.traces]} for one in said.bins]
    about = {"model": {"name": manifest.name, "version": manifest.version}, "since": _format_time(start)}
    return {**about, **asdict(said), "results": results, "bins": bins}


def _print_evidence(manifest: Manifest, said: Drilldown, start: int) -> None:
    console = SafeConsole(soft_wrap=True)
    erased = f", {said.erased:,} more without their inputs" if said.erased else ""
    period = f"{said.rows:,} predictions since {_format_time(start)}{erased}"
    console.print(f"{manifest.name} {manifest.version} · {said.feature} · {period}", style="bold")
    if said.other_models:
        console.print(
            f"{said.other_models:,} more are of another model that calls itself {manifest.name} {manifest.version}: "
            "they are in no figure here. Name its bundle to see them, and give each model its own --version"
        )
    if said.rows_repeat:
        console.print(
            f"Rows repeat: {said.distinct:,} distinct of {said.rows:,}. Thresholds are those of independent rows, so "
            "nothing is called drift"
        )
    table = Table("statistic", "value", "threshold", "rows", "state", box=None)
    for one in said.results:
        table.add_row(one.statistic, f"{one.value:.4g}", f"{one.threshold:.4g}", f"{one.n:,}", one.state)
    console.print(table)
    grown = [one for one in said.bins if one.increased]
    if not grown:
        console.print("No bin grew by more than chance.")
    for bin_ in grown:
        name = bin_.name if bin_.bounds == bin_.name else f"{bin_.name} ({bin_.bounds})"
        console.print(
            f"\n{name}: {bin_.training_share:.1%} in training, {bin_.window_share:.1%} now, {bin_.count:,} predictions"
        )
        for trace in bin_.traces:
            unsampled = "" if trace.sampled else "  (not sampled: no trace was sent)"
            what = f"row {trace.row}  {trace.prediction_id}  {_format_value(trace.value)}"
            console.print(f"  {trace.trace_id or 'no trace'}  {what}  {_format_time(trace.time)}{unsampled}")


def _format_value(value: Value) -> str:
    """A value in one line: a float in few digits, a text as JSON has it, shortened."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"


def _format_time(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%SZ}"
