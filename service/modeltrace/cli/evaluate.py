"""`modeltrace evaluate`."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from modeltrace.bundles.manifest import Manifest
from modeltrace.cli.bundle_option import find_manifest, select_model
from modeltrace.cli.evaluate_fairness import print_fairness
from modeltrace.cli.evaluate_file import (
    evaluate_file,
    load_scorer,
    no_predictions_error,
    predict_batch,
    send_labels_of,
)
from modeltrace.cli.mlflow_results import MlflowName, log_evaluation
from modeltrace.cli.options import ModelName, ModelVersion, bundle_option, tag_option, time_option
from modeltrace.cli.store import open_metrics_store, open_store_or_export
from modeltrace.client.client import Client
from modeltrace.evaluation.evaluate import evaluate as evaluate_store
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.periods import Unit, evaluate_periods
from modeltrace.evaluation.render import to_json, to_text
from modeltrace.evaluation.render_periods import to_tables
from modeltrace.evaluation.segments import evaluate_segments
from modeltrace.keys import client_key
from modeltrace.monitoring.held_out_baseline import baseline_of
from modeltrace.monitoring.segment_bins import segment_bins
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.telemetry.metrics.model_catalog import Baseline, ModelKey
from modeltrace.terminal import SafeConsole, echo

# Opens the predictions to evaluate: those of the prediction store, or exported ones.
OpenStore = Callable[[], AbstractContextManager[Store]]


def evaluate(
    file: Annotated[
        Path | None,
        typer.Argument(
            show_default="the prediction store", help="Rows with their true labels: .csv, .parquet or .jsonl."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="The column of FILE with the true labels. Repeatable for a model with several outputs.",
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        bundle_option(
            help="Predict FILE in this process, with this bundle. Without FILE: only predictions of its model (--name "
            "and --version select others), whose errors are compared with those for its held-out rows.",
            show_default="without FILE: MODELTRACE_BUNDLE, or the bundle of the newest prediction",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Predict FILE with this running service.")] = None,
    feedback: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--feedback", help="With --url: also send the true labels to the service.")
    ] = False,
    exported: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|URI|FILE",
            show_default="the prediction store",
            help="Without FILE: predictions that `modeltrace audit export` wrote as Parquet.",
        ),
    ] = None,
    since: Annotated[int | None, time_option(help="Without FILE: predictions from this time on.")] = None,
    until: Annotated[int | None, time_option(help="Without FILE: predictions before this time.")] = None,
    name: ModelName = None,
    version: ModelVersion = None,
    tags: Annotated[
        list[Any] | None,
        tag_option(help="Without FILE: predictions with this tag; can be repeated. NAME= means without it."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Without FILE: separate metrics for each value of this tag or feature."),
    ] = None,
    over: Annotated[
        Unit | None,
        typer.Option(help="Without FILE: separate metrics for each hour or day (UTC), without concept drift."),
    ] = None,
    worst: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            metavar="N",
            help="Without FILE: the N values of tags and features (of numbers: bins) with the largest errors.",
        ),
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="With --worst: pairs of values, too.")] = False,  # noqa: FBT002  a flag
    expected: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--expected", help="Without FILE: estimate the metrics of a classifier without labels.")
    ] = False,
    fairness: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Without FILE: compare the groups that this tag or feature divides."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="LABEL", help="With --fairness: the favourable label.")
    ] = None,
    reference_group: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE", show_default="the largest group", help="With --fairness: the group to compare others with."
        ),
    ] = None,
    include_synthetic: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--include-synthetic", help="Without FILE: include predictions of synthetic traffic.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            show_default="MODELTRACE_EVALUATION_TOLERANCE",
            help="For a regressor: concept drift counts a larger absolute error as a wrong prediction.",
        ),
    ] = None,
    mlflow: MlflowName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Compare predictions with true labels: accuracy, F1, calibration, concept drift, or a regressor's errors.

    With FILE, its rows are predicted, by a bundle in this process (--bundle) or by a running service (--url). Without
    FILE, the predictions in the prediction store are used whose true labels have arrived. The metrics are the same.
    TIME is written as for `modeltrace audit export`.

    Examples: modeltrace evaluate test.csv --target churned --bundle churn
              modeltrace evaluate --since 7d --by country
              modeltrace evaluate --since 7d --over day
              modeltrace evaluate --since 7d --worst 10
              modeltrace evaluate --since 1d --expected
              modeltrace evaluate --since 7d --fairness sex --positive granted
              modeltrace evaluate --since 7d --mlflow churn
              modeltrace evaluate --from s3://lake/predictions --since 2026-11-01 --until 2026-12-01
    """
    if file is None:
        if url or feedback or target:
            raise typer.BadParameter("--url, --feedback and --target require FILE")
        selection = Selection(since, until, None, name, version, include_synthetic=include_synthetic)
        selection = selection._replace(tags=tuple(tags or ()))
        selection = selection if bundle is None else select_model(selection, bundle)
        modes = {"--by and --over": by or over, "--worst": worst, "--expected": expected, "--fairness": fairness}
        _check_modes({**modes, "--mlflow": mlflow})
        open_store = partial(open_store_or_export, exported, since, until)
        if _check_fairness(fairness, positive, reference_group):
            group = fairness or "", positive or "", reference_group
            print_fairness(open_store, selection, bundle, *group, as_json=as_json)
            return
        if worst is not None or pairs:
            _print_worst(open_store, selection, bundle, worst, pairs=pairs, as_json=as_json)
            return
        if expected:
            # Predictions before `since` calibrate the estimate.
            _print_expected(partial(open_store_or_export, exported, None, until), selection, as_json=as_json)
            return
        # The groups of a feature need its values.
        metrics = _evaluate_store(partial(open_store, inputs=by is not None), selection, bundle, tolerance, by, over)
    else:
        given = (exported, since, until, name, version, tags, by, over, fairness, positive, reference_group, worst)
        if any(value is not None for value in given) or include_synthetic or pairs or expected:
            options = (
                "--from, --since, --until, --name, --version, --tag, --by, --over, --worst, --expected, --fairness and "
                "--include-synthetic"
            )
            raise typer.BadParameter(f"{options} cannot be combined with FILE")
        metrics = _evaluate_file(file, target or (), bundle, url, tolerance, feedback=feedback)
    if mlflow:
        log_evaluation(mlflow, metrics)
    if as_json:
        _print_json(map(to_json, metrics))
        return
    console = SafeConsole()
    for text in to_tables(metrics) if over else map(to_text, metrics):
        console.print(text)


def _check_modes(modes: Mapping[str, object]) -> None:
    """Reject options that select different results."""
    given = [name for name, value in modes.items() if value not in (None, False)]
    if len(given) > 1:
        raise typer.BadParameter(f"{given[0]} cannot be combined with {given[1]}")


def _check_fairness(name: str | None, positive: str | None, reference_group: str | None) -> bool:
    """Return whether fairness metrics are requested; reject an incomplete combination of options."""
    if name is None and positive is None and reference_group is None:
        return False
    if name is None or positive is None:
        raise typer.BadParameter("--fairness requires --positive, and --positive and --reference-group require it")
    return True


def _evaluate_file(
    file: Path, targets: Sequence[str], bundle: str | None, url: str | None, tolerance: float | None, *, feedback: bool
) -> list[ModelMetrics]:
    if not targets or (bundle is None) == (url is None):
        raise typer.BadParameter("FILE requires --target, and either --bundle or --url")
    if feedback and url is None:
        raise typer.BadParameter("--feedback requires --url")
    if bundle is not None:
        return evaluate_file(file, targets, *load_scorer(bundle), tolerance)
    with Client(url or "", api_key=client_key(read_settings())) as client:
        send_labels = partial(send_labels_of, client) if feedback else None
        model = client.model()
        predict = partial(predict_batch, client, model)
        return evaluate_file(file, targets, model, predict, tolerance, send_labels)


def _print_json(results: Iterable[object]) -> None:
    echo(json.dumps(list(results), indent=2, ensure_ascii=False))


def _print_worst(
    open_store: OpenStore, selection: Selection, bundle: str | None, limit: int | None, *, pairs: bool, as_json: bool
) -> None:
    # Imported here: the import of scipy.stats takes a second.
    from modeltrace.cli.evaluate_worst import print_worst_segments  # noqa: PLC0415  see above

    if limit is None:
        raise typer.BadParameter("--pairs requires --worst")
    with open_store() as store:
        print_worst_segments(store, selection, bundle, limit, pairs=pairs, as_json=as_json)


def _print_expected(open_store: OpenStore, selection: Selection, *, as_json: bool) -> None:
    # Imported here: the import of scipy.optimize takes a second.
    from modeltrace.cli.evaluate_expected import print_expected_performance  # noqa: PLC0415  see above

    if selection.since is None:
        raise typer.BadParameter("--expected requires --since: predictions before that time calibrate the estimate")
    with open_store() as store:
        print_expected_performance(store, selection, as_json=as_json)


def _evaluate_store(
    open_store: OpenStore,
    selection: Selection,
    bundle: str | None,
    tolerance: float | None,
    by: str | None,
    over: Unit | None,
) -> list[ModelMetrics]:
    if tolerance is None:
        tolerance = read_settings().evaluation_tolerance
    with ExitStack() as stack:
        store = stack.enter_context(open_store())
        manifest = find_manifest(store, bundle)
        bins = segment_bins(manifest.features) if manifest else {}
        source = store if by is not None else stack.enter_context(open_metrics_store(store, selection))
        evaluate = partial(
            evaluate_store,
            source,
            baselines=_baselines(manifest),
            tolerance=tolerance,
            concept_drift=over is None,
            locate_drifts=True,
        )
        if over is not None:
            evaluate = partial(evaluate_periods, evaluate, source, unit=over)
        metrics = evaluate(selection) if by is None else evaluate_segments(evaluate, source, selection, by, bins)
        if not metrics:
            raise no_predictions_error(store, selection)
    return metrics


def _baselines(manifest: Manifest | None) -> Mapping[ModelKey, Baseline]:
    """Return the baseline of the model of a bundle, if there is one."""
    baseline = baseline_of(manifest.held_out) if manifest else None
    if manifest is None or baseline is None:
        return {}
    return {(manifest.name, manifest.version, file.sha256): baseline for file in manifest.model_files()}
