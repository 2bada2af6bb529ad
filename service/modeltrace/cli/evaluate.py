"""`modeltrace evaluate`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from modeltrace.cli.store import open_configured_store, progress_display
from modeltrace.cli.times import time_option
from modeltrace.client.scoring_client import ScoringClient
from modeltrace.client.service import normalize_url
from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.evaluate import evaluate as evaluate_store
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.render import to_json, to_text
from modeltrace.evaluation.scored_rows import ScoredRow, ScratchStore, to_model_label
from modeltrace.inference.schema import Feature
from modeltrace.keys import authorization_header
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.terminal import SafeConsole, echo
from modeltrace.traffic.rows import Sample, read_samples

# Rows that are scored at a time.
BATCH_ROWS = 1000

# Score samples. Returns the scored rows and the number of rejected rows.
ScoreFn = Callable[[Sequence[Sample]], tuple[list[ScoredRow], int]]


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
        Path | None, typer.Option(metavar="DIR", help="Predict FILE in this process, with this bundle.")
    ] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Predict FILE with this running service.")] = None,
    feedback: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--feedback", help="With --url: also send the true labels to the service.")
    ] = False,
    since: Annotated[int | None, time_option("Without FILE: predictions from this time on.")] = None,
    until: Annotated[int | None, time_option("Without FILE: predictions before this time.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Without FILE: predictions of this model.")] = None,
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
              modeltrace evaluate --since 7d
    """
    if file is None:
        if bundle or url or feedback or target:
            raise typer.BadParameter("--bundle, --url, --feedback and --target require FILE")
        metrics = _evaluate_store(Selection(since, until, None, model, include_synthetic=include_synthetic), tolerance)
    else:
        if target is None or (bundle is None) == (url is None):
            raise typer.BadParameter("FILE requires --target, and either --bundle or --url")
        if since is not None or until is not None or model is not None or include_synthetic:
            raise typer.BadParameter("--since, --until, --model and --include-synthetic cannot be combined with FILE")
        if feedback and url is None:
            raise typer.BadParameter("--feedback requires --url")
        with _open_scorer(bundle, url, feedback=feedback) as (name, version, features, score):
            metrics = _evaluate_file(file, target, features, (name, version), score, tolerance)
    if as_json:
        echo(json.dumps([to_json(model_metrics) for model_metrics in metrics], indent=2, ensure_ascii=False))
        return
    console = SafeConsole()
    for model_metrics in metrics:
        console.print(to_text(model_metrics))


def _evaluate_store(selection: Selection, tolerance: float | None) -> list[ModelMetrics]:
    if tolerance is None:
        tolerance = read_settings().evaluation_tolerance
    with open_configured_store() as store:
        metrics = evaluate_store(store, selection, tolerance=tolerance, locate_drifts=True)
        if not metrics:
            synthetic = store.counts(selection._replace(include_synthetic=True)).predictions
            hint = f" ({synthetic:,} synthetic ones: --include-synthetic)" if synthetic else ""
            raise NoDataError(
                f"no predictions in {store.location.description}{hint} match --since, --until and --model"
            )
    return metrics


def _evaluate_file(
    file: Path,
    target: str,
    features: Sequence[Feature],
    model: tuple[str, str],
    score: ScoreFn,
    tolerance: float | None,
) -> list[ModelMetrics]:
    total = total_rejected = 0
    with ScratchStore(*model) as scratch, progress_display(None) as on_progress:
        for samples in _batches(read_samples(file, features, target)):
            scored, rejected = score(samples)
            scratch.add(scored)
            total, total_rejected = total + len(samples), total_rejected + rejected
            on_progress(total)
        metrics = scratch.evaluate(tolerance)
    if total_rejected:
        echo(f"{total_rejected:,} of {total:,} rows violate the feature schema; they are not evaluated", err=True)
    if not metrics:
        raise NoDataError(f"{file} has no rows that the model accepts")
    return metrics


@contextmanager
def _open_scorer(
    bundle: Path | None, url: str | None, *, feedback: bool
) -> Iterator[tuple[str, str, Sequence[Feature], ScoreFn]]:
    """Yield name, version and features of the model, and a function that scores samples with the model."""
    if bundle is not None:
        # Imported here: only --bundle needs scikit-learn, and its import takes a second.
        from modeltrace.inference.scoring import Scorer  # noqa: PLC0415  see above
        from modeltrace.serving.bundle_loader import load_model  # noqa: PLC0415  see above

        model, _ = load_model(read_settings(bundle=str(bundle)))
        scorer = Scorer(model)

        def score_here(samples: Sequence[Sample]) -> tuple[list[ScoredRow], int]:
            outputs = [
                None if isinstance(row, ModeltraceError) else (row.label, row.value, row.confidence)
                for row in scorer.predict([sample.row for sample in samples])
            ]
            return _join_labels(samples, outputs, model.classes)

        yield model.name, model.version, model.schema.features, score_here
        return

    with ScoringClient(normalize_url(url or ""), authorization_header(read_settings())) as client:
        served = client.fetch_model()

        def score_by_service(samples: Sequence[Sample]) -> tuple[list[ScoredRow], int]:
            entries = client.predict([sample.row for sample in samples])
            outputs = [
                None if "error" in entry else (entry.get("label"), entry.get("value"), entry.get("confidence"))
                for entry in entries
            ]
            scored, rejected = _join_labels(samples, outputs, served.classes)
            if feedback:
                ids = [entry["prediction_id"] for entry in entries if "error" not in entry]
                labels = [(prediction_id, row.true_label) for prediction_id, row in zip(ids, scored, strict=True)]
                if known := [(prediction_id, label) for prediction_id, label in labels if label is not None]:
                    client.send_labels(known)
            return scored, rejected

        yield served.name, served.version, served.features, score_by_service


def _join_labels(
    samples: Sequence[Sample], outputs: Sequence[tuple[Any, Any, Any] | None], classes: Sequence[object] | None
) -> tuple[list[ScoredRow], int]:
    """Return the predicted rows with their true labels, and the number of rejected rows."""
    scored = [
        ScoredRow(*output, to_model_label(sample.label, classes))
        for sample, output in zip(samples, outputs, strict=True)
        if output is not None
    ]
    return scored, len(samples) - len(scored)


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch
