"""`modeltrace explain`."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.search_paths import search_paths
from modeltrace.cli.bundle_option import BUNDLE_HINT
from modeltrace.cli.options import TrustCode, TrustPickle, bundle_option
from modeltrace.cli.store import open_configured_store
from modeltrace.errors import BundleNotFoundError
from modeltrace.inference.schema import Feature
from modeltrace.replay.explain import ExplainError, Explanation
from modeltrace.replay.explain import explain as explain_prediction
from modeltrace.replay.replay import tolerance_of
from modeltrace.replay.run import Replayer
from modeltrace.settings import read_settings
from modeltrace.store.lookup import find_predictions
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.terminal import SafeConsole, echo
from modeltrace.traffic.rows import load_samples, load_test_samples

# Stored predictions that are the background if there are no other rows.
STORED_ROWS = 1000


def explain(
    identifier: Annotated[
        str, typer.Argument(metavar="TRACE_ID|PREDICTION_ID", help="The ID of a trace or of one prediction.")
    ],
    row: Annotated[
        int | None, typer.Option(min=0, help="The row of a request with several rows, from 0.", show_default="the only")
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows that the prediction is compared with: .csv, .parquet or .jsonl.",
            show_default="the test rows of the bundle, or stored predictions",
        ),
    ] = None,
    bundle: Annotated[
        list[str] | None, bundle_option(help="Search for the bundle of the model here, too. Repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
    trust_pickle: TrustPickle = None,
    trust_code: TrustCode = None,
) -> None:
    """Show by how much each feature of a stored prediction changes the output (Shapley values).

    The inputs come from the prediction store (MODELTRACE_STORE). The model that made the prediction is searched like
    for `modeltrace replay`.

    Example: modeltrace explain 4bf92f3577b34da6a3ce929d0e0e4736 --bundle churn
    """
    settings = read_settings(trust_pickle=trust_pickle, trust_code=trust_code)
    sources = search_paths([*(bundle or ()), settings.bundle, settings.challenger, "."])
    with open_configured_store() as store:
        prediction = _choose(find_predictions(store, identifier), row)
        with Catalog(partial(echo, err=True)) as catalog:
            try:
                recorded, model = Replayer(catalog, sources, settings).load(prediction)
            except BundleNotFoundError as error:
                raise BundleNotFoundError(f"{error}. {BUNDLE_HINT}") from None
            manifest = read_manifest(recorded.path).manifest
        rows, source = _background(background, recorded.path, manifest.features, store, prediction)
        if manifest.traffic is None and background is None:
            echo(f"The bundle has no test rows, so {source} are the background (--background)", err=True)
    result = explain_prediction(prediction, model, rows, source, tolerance_of(manifest, model))
    if as_json:
        echo(json.dumps(asdict(result), indent=2, ensure_ascii=False))
    else:
        _print(result)


def _choose(predictions: list[StoredPrediction], row: int | None) -> StoredPrediction:
    """Return the prediction of a row of the primary model."""
    primary = [prediction for prediction in predictions if prediction.shadow_of is None] or predictions
    chosen = primary if row is None else [prediction for prediction in primary if prediction.row == row]
    if len(chosen) != 1:
        rows = ", ".join(str(prediction.row) for prediction in primary[:20])
        raise ExplainError(
            f"{len(chosen):,} predictions match: name a prediction ID, or one of the rows {rows} (--row)"
        )
    return chosen[0]


def _background(
    file: Path | None, bundle: Path, features: tuple[Feature, ...], store: Store, prediction: StoredPrediction
) -> tuple[list[object], str]:
    """Return rows by feature name, and what they are."""
    if file is not None:
        return [sample.row for sample in load_samples(file, features)], str(file)
    if read_manifest(bundle).manifest.traffic is not None:
        return [sample.row for sample in load_test_samples(bundle, features)], "test rows"
    selection = Selection(until=prediction.time, model_hash=prediction.model_hash, include_synthetic=False)
    return [*store.latest_inputs(selection, STORED_ROWS)], "earlier stored predictions"


def _print(result: Explanation) -> None:
    console = SafeConsole(soft_wrap=True)
    explained = "value" if result.explained == "value" else f"probability of {result.explained}"
    console.print(f"{result.model_name} {result.model_version} · {explained} {result.output:.6g}", style="bold")
    console.print(f"mean of {result.background_rows:,} {result.background}: {result.base:.6g}")
    table = Table("feature", "value", "contribution", "standard error", box=None)
    for entry in result.contributions:
        value = "missing" if entry.value is None else str(entry.value)
        value = f"{entry.value:.6g}" if isinstance(entry.value, float) else value
        table.add_row(entry.feature, value, f"{entry.contribution:+.4g}", f"{entry.standard_error:.1g}")
    console.print(table)
