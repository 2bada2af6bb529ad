"""`modeltrace evaluate`."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from modeltrace.bundles.manifest import read_manifest
from modeltrace.cli.bundle_option import resolve_bundle
from modeltrace.cli.options import ModelName, ModelVersion, bundle_option, tag_option, time_option
from modeltrace.cli.store import open_configured_store, progress_display
from modeltrace.client.client import Client
from modeltrace.client.messages import Prediction, ServiceError
from modeltrace.client.service import ServedModel
from modeltrace.errors import InvalidFeaturesError, ModeltraceError
from modeltrace.evaluation.evaluate import evaluate as evaluate_store
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.render import to_json, to_text
from modeltrace.evaluation.scored_rows import ScoredRow, ScratchStore, to_model_label
from modeltrace.evaluation.segments import evaluate_segments
from modeltrace.inference.model import ModelOutput
from modeltrace.keys import load_api_key
from modeltrace.monitoring.held_out_baseline import baseline_of
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.tag_names import TAG_NAME
from modeltrace.telemetry.metrics.model_catalog import Baseline, ModelKey
from modeltrace.terminal import SafeConsole, echo
from modeltrace.traffic.rows import Sample, read_samples

# Rows that are scored at a time.
BATCH_ROWS = 1000

# Predicts rows. Returns the prediction of each row, or the error of a rejected row.
PredictFn = Callable[[Sequence[object]], Sequence[Prediction | ModelOutput | InvalidFeaturesError]]
# Sends true labels, as pairs of prediction ID and label.
SendLabels = Callable[[Sequence[tuple[str, Any]]], object]


class NoDataError(ModeltraceError):
    """There are no predictions to evaluate."""


def evaluate(
    file: Annotated[
        Path | None,
        typer.Argument(
            show_default="the prediction store", help="Rows with their true labels: .csv, .parquet or .jsonl."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of FILE with the true labels.")
    ] = None,
    bundle: Annotated[
        str | None,
        bundle_option(
            help="Predict FILE in this process, with this bundle. Without FILE: compare the errors with those for the "
            "held-out rows of this bundle.",
            show_default="without FILE: MODELTRACE_BUNDLE, or the bundle of the newest prediction",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Predict FILE with this running service.")] = None,
    feedback: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--feedback", help="With --url: also send the true labels to the service.")
    ] = False,
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
        typer.Option(metavar="NAME", help="Without FILE: separate metrics for each value of this tag."),
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Compare predictions with true labels: accuracy, F1, calibration, concept drift, or a regressor's errors.

    With FILE, its rows are predicted, by a bundle in this process (--bundle) or by a running service (--url). Without
    FILE, the predictions in the prediction store are used whose true labels have arrived. The metrics are the same.
    TIME is written as for `modeltrace audit export`.

    Examples: modeltrace evaluate test.csv --target churned --bundle churn
              modeltrace evaluate --since 7d --by country
    """
    if file is None:
        if url or feedback or target:
            raise typer.BadParameter("--url, --feedback and --target require FILE")
        if by is not None and not TAG_NAME.fullmatch(by):
            raise typer.BadParameter("the name of a tag is a word such as country", param_hint="--by")
        selection = Selection(since, until, None, name, version, include_synthetic=include_synthetic)
        metrics = _evaluate_store(selection._replace(tags=tuple(tags or ())), bundle, tolerance, by)
    else:
        if target is None or (bundle is None) == (url is None):
            raise typer.BadParameter("FILE requires --target, and either --bundle or --url")
        if any(value is not None for value in (since, until, name, version, tags, by)) or include_synthetic:
            options = "--since, --until, --name, --version, --tag, --by and --include-synthetic"
            raise typer.BadParameter(f"{options} cannot be combined with FILE")
        if feedback and url is None:
            raise typer.BadParameter("--feedback requires --url")
        if bundle is not None:
            metrics = _evaluate_file(file, target, *_load_scorer(bundle), tolerance)
        else:
            with Client(url or "", api_key=load_api_key(read_settings())) as client:
                send_labels = partial(_send_labels, client) if feedback else None
                model = client.model()
                predict = partial(_predict_batch, client) if model.classes else client.predict_batch
                metrics = _evaluate_file(file, target, model, predict, tolerance, send_labels)
    if as_json:
        echo(json.dumps([to_json(model_metrics) for model_metrics in metrics], indent=2, ensure_ascii=False))
        return
    console = SafeConsole()
    for model_metrics in metrics:
        console.print(to_text(model_metrics))


def _evaluate_store(
    selection: Selection, bundle: str | None, tolerance: float | None, by: str | None
) -> list[ModelMetrics]:
    if tolerance is None:
        tolerance = read_settings().evaluation_tolerance
    with open_configured_store() as store:
        baselines = _baselines(store, bundle)
        evaluate = partial(evaluate_store, store, baselines=baselines, tolerance=tolerance, locate_drifts=True)
        metrics = evaluate(selection) if by is None else evaluate_segments(evaluate, store, selection, by)
        if not metrics:
            synthetic = store.counts(selection._replace(include_synthetic=True)).predictions
            hint = f" ({synthetic:,} synthetic ones: --include-synthetic)" if synthetic else ""
            raise NoDataError(
                f"no predictions in {store.location.description}{hint} match --since, --until, --name, --version and "
                "--tag"
            )
    return metrics


def _baselines(store: Store, bundle: str | None) -> Mapping[ModelKey, Baseline]:
    """Return the baseline of the model of a bundle. Only a bundle that is named must exist."""
    try:
        manifest, _ = read_manifest(resolve_bundle(read_settings(bundle=bundle), store))
    except ModeltraceError:
        if bundle is not None:
            raise
        return {}
    baseline = baseline_of(manifest.held_out)
    if baseline is None:
        return {}
    return {(manifest.name, manifest.version, file.sha256): baseline for file in manifest.model_files()}


def _load_scorer(bundle: str) -> tuple[ServedModel, PredictFn]:
    """Return the model of a bundle, and a function that predicts rows with the model in this process."""
    # Imported here: only --bundle needs scikit-learn, and its import takes a second.
    from modeltrace.inference.scoring import score  # noqa: PLC0415  see above
    from modeltrace.serving.bundle_loader import load_model  # noqa: PLC0415  see above

    model, _ = load_model(read_settings(bundle=bundle))
    served = ServedModel(model.name, model.version, model.schema.features, model.classes, model.held_out)
    return served, partial(score, model, probabilities=True)


def _predict_batch(client: Client, rows: Sequence[object]) -> Sequence[Prediction | InvalidFeaturesError]:
    """Predict rows of a classifier with the probability of each class, or without if the service returns none."""
    try:
        return client.predict_batch(rows, probabilities=True)
    except ServiceError as error:
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        return client.predict_batch(rows)  # MODELTRACE_PROBABILITIES=never


def _probabilities(row: Prediction | ModelOutput) -> Sequence[float] | None:
    if isinstance(row, ModelOutput):
        return row.probabilities
    by_name = row.probabilities
    return None if by_name is None else [math.nan if value is None else value for value in by_name.values()]


def _send_labels(client: Client, labels: Sequence[tuple[str, Any]]) -> None:
    """Send true labels.

    Raises:
        ServiceError: the service rejects a label.
    """
    for result in client.feedback_batch(labels):
        if isinstance(result, ServiceError):
            raise result


def _evaluate_file(
    file: Path,
    target: str,
    model: ServedModel,
    predict: PredictFn,
    tolerance: float | None,
    send_labels: SendLabels | None = None,
) -> list[ModelMetrics]:
    total = rejected = 0
    recorded = (model.classes or ()) if len(model.classes or ()) <= read_settings().store_max_classes else ()
    with ScratchStore(model.name, model.version, recorded) as scratch, progress_display(None) as on_progress:
        for samples in _batches(read_samples(file, model.features, target)):
            predicted = [
                (prediction, to_model_label(sample.label, model.classes))
                for prediction, sample in zip(predict([sample.row for sample in samples]), samples, strict=True)
                if not isinstance(prediction, InvalidFeaturesError)
            ]
            scratch.add(
                [
                    ScoredRow(row.label, row.value, row.confidence, label, _probabilities(row))
                    for row, label in predicted
                ]
            )
            if send_labels:
                send_labels(
                    [
                        (row.prediction_id, label)
                        for row, label in predicted
                        if isinstance(row, Prediction) and label is not None
                    ]
                )
            total, rejected = total + len(samples), rejected + len(samples) - len(predicted)
            on_progress(total)
        metrics = scratch.evaluate(tolerance, baseline_of(model.held_out))
    if rejected:
        echo(f"{rejected:,} of {total:,} rows violate the feature schema; they are not evaluated", err=True)
    if not metrics:
        raise NoDataError(f"{file} has no rows that the model accepts")
    return metrics


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch
