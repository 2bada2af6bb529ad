"""`modeltrace evidence`."""

import json
import math
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.cli.bundle_option import resolve_bundle
from modeltrace.cli.options import IncludeSynthetic, analysed_bundle_option, time_option
from modeltrace.cli.store import open_configured_store
from modeltrace.inference.schema import Schema
from modeltrace.monitoring.bin_counter import Drilldown
from modeltrace.monitoring.drilldown import drill_down
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import Value
from modeltrace.terminal import SafeConsole, echo

# Nanoseconds.
HOUR = 3600 * 10**9
# Longer values are shortened.
MAX_VALUE_CHARS = 60


def evidence(
    feature: Annotated[
        str,
        typer.Argument(
            metavar="FEATURE",
            help="A feature, `prediction` for the label or the value, or `prediction.NAME` for a named output.",
        ),
    ],
    since: Annotated[int | None, time_option(help="Only predictions from this time on.", show_default="1h")] = None,
    bundle: Annotated[str | None, analysed_bundle_option(help="The bundle of the model.")] = None,
    version: Annotated[str | None, typer.Option(show_default="the bundle's", help="The version of the model.")] = None,
    include_synthetic: IncludeSynthetic = False,  # noqa: FBT002  a flag
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="The largest number of traces per bin. The newest are listed.")
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """List the traces behind the drift of a feature: those with values that are more frequent than in training.

    The values are grouped into bins. A bin is listed if its share is larger than in the training data. The drift
    statistics of the feature are printed, too.

    The predictions come from the prediction store, which is complete even if traces are sampled. Predictions of another
    model with the same name and version are left out; their number is printed.

    Examples: modeltrace evidence user_age --since 1h
              modeltrace evidence prediction.score --since 1h
    """
    start = since if since is not None else time.time_ns() - HOUR
    with open_configured_store() as store:
        manifest, _ = read_manifest(resolve_bundle(read_settings(bundle=bundle), store, version))
        edges = manifest.output_reference.edges if manifest.output_reference else None
        info = ModelInfo(
            manifest.name,
            manifest.version,
            manifest.artifact.sha256,
            Schema(features=manifest.features).names,
            value_edges=edges or (),
            low_confidence=manifest.confidence_threshold,
            outputs=tuple(output.name for output in manifest.outputs),
        )
        selection = Selection(
            since=start,
            model_name=manifest.name,
            model_version=manifest.version,
            include_synthetic=include_synthetic,
        )
        predictions = (prediction for chunk in store.read(selection) for prediction in chunk)
        hashes = [file.sha256 for file in manifest.model_files()]
        result = drill_down(manifest, info, feature, predictions, max_traces=limit, model_hashes=hashes)
    if as_json:
        echo(json.dumps(_to_json(manifest, result, start), indent=2, ensure_ascii=False))
    else:
        _print_evidence(manifest, result, start)


def _to_json(manifest: Manifest, drilldown: Drilldown, start: int) -> dict[str, object]:
    """Return the result as JSON values. NaN, which JSON does not have, becomes null."""
    results = [
        {name: None if value != value else value for name, value in result._asdict().items()}
        for result in drilldown.results
    ]
    bins = [{**asdict(bin_), "traces": [trace._asdict() for trace in bin_.traces]} for bin_ in drilldown.bins]
    header = {"model": {"name": manifest.name, "version": manifest.version}, "since": _format_time(start)}
    return {**header, **asdict(drilldown), "results": results, "bins": bins}


def _print_evidence(manifest: Manifest, drilldown: Drilldown, start: int) -> None:
    console = SafeConsole(soft_wrap=True)
    model = f"{manifest.name} {manifest.version}"
    erased = f", {drilldown.erased:,} more with erased inputs" if drilldown.erased else ""
    period = f"{drilldown.rows:,} predictions since {_format_time(start)}{erased}"
    console.print(f"{model} · {drilldown.feature} · {period}", style="bold")
    if drilldown.other_models:
        console.print(
            f"{drilldown.other_models:,} more predictions are of another model with the name and version {model}; they "
            "are excluded. Name its bundle to see them, and give each model its own --version"
        )
    if drilldown.rows_repeat:
        console.print(
            f"Rows repeat: {drilldown.distinct:,} of {drilldown.rows:,} are distinct. The thresholds hold for "
            "independent rows, so no statistic is reported as drift"
        )
    worth = min((result.independent / result.n for result in drilldown.results if result.n), default=1.0)
    if worth < 1:
        console.print(
            f"Rows depend on the rows before them: {drilldown.rows:,} rows are worth {drilldown.rows * worth:,.0f} "
            "independent rows, so the thresholds are higher"
        )
    table = Table("statistic", "value", "threshold", "rows", "state", box=None)
    for result in drilldown.results:
        value, limit = ("-" if math.isnan(number) else f"{number:.4g}" for number in (result.value, result.threshold))
        table.add_row(result.statistic, value, limit, f"{result.n:,}", result.state)
    console.print(table)
    if any(result.state == "no held-out reference" for result in drilldown.results):
        console.print(
            "The bundle knows only the model's outputs for rows that it was fitted on, so no drift of the outputs is "
            "reported. Pack with labels (--target) or test rows (--traffic)"
        )
    increased = [bin_ for bin_ in drilldown.bins if bin_.increased]
    if not increased:
        console.print("The share of no bin increased significantly.")
    for bin_ in increased:
        name = bin_.name if bin_.bounds == bin_.name else f"{bin_.name} ({bin_.bounds})"
        console.print(
            f"\n{name}: {bin_.training_share:.1%} in training, {bin_.window_share:.1%} now, {bin_.count:,} predictions"
        )
        for trace in bin_.traces:
            sampling = "" if trace.sampled else "  (not sampled: the trace was not exported)"
            prediction = f"row {trace.row}  {trace.prediction_id}  {_format_value(trace.value)}"
            console.print(f"  {trace.trace_id or 'no trace'}  {prediction}  {_format_time(trace.time)}{sampling}")


def _format_value(value: Value) -> str:
    """Format a value in one line: a float with 6 digits, a text as shortened JSON."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"


def _format_time(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%SZ}"
