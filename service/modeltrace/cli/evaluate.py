"""`modeltrace evaluate`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from modeltrace.cli.audit import open_configured_store, progress_display, time_option
from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.client.scoring_client import ScoringClient
from modeltrace.client.service import normalize_url
from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.evaluate import evaluate as figures
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.render import to_json, to_text
from modeltrace.evaluation.scored_rows import ScoredRow, ScratchStore, to_model_label
from modeltrace.inference.schema import Feature
from modeltrace.keys import authorization_header
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.traffic.rows import Sample, read_samples

# Rows that are scored at a time.
BATCH_ROWS = 1000

# From samples to what was answered, and to how many were refused.
ScoreFn = Callable[[Sequence[Sample]], tuple[list[ScoredRow], int]]


class NoDataError(ModeltraceError):
    """There is nothing of which figures could be made."""


def evaluate(
    file: Annotated[
        Path | None, typer.Argument(help="Rows with their labels: .csv, .parquet or .jsonl.", show_default=False)
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The label's column in FILE.")] = None,
    bundle: Annotated[Path | None, typer.Option(metavar="DIR", help="Score FILE here, with this bundle.")] = None,
    url: Annotated[str | None, typer.Option(help="Send FILE to this service, in batches.")] = None,
    feedback: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--feedback", help="With --url: send the labels, too.")
    ] = False,
    since: Annotated[int | None, time_option("Without FILE: stored predictions from this time on.")] = None,
    until: Annotated[int | None, time_option("Up to this time, which is not included.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Without FILE: of this model only.")] = None,
    include_synthetic: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--include-synthetic", help="Without FILE: with what generated traffic asked, too.")
    ] = False,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Regressors: what is further off is an error; to find concept drift.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Say how right a model is: accuracy, precision, recall, F1, calibration, concept drift; or how far off.

    Of a file, scored here (--bundle) or by a running service (--url), or of the predictions in the prediction store
    (--since) whose labels have arrived. The figures are the same. A time is written as for `modeltrace audit export`.

    Examples: modeltrace evaluate test.csv --target churned --bundle churn
              modeltrace evaluate --since 7d
    """
    if file is None:
        if bundle or url or feedback or target:
            raise typer.BadParameter("--bundle, --url, --feedback and --target belong to a FILE")
        found = _evaluate_store(Selection(since, until, None, model, include_synthetic=include_synthetic), tolerance)
    else:
        if target is None or (bundle is None) == (url is None):
            raise typer.BadParameter("name the label's column (--target), and either --bundle or --url")
        if since is not None or until is not None or model is not None or include_synthetic:
            raise typer.BadParameter("--since, --until, --model and --include-synthetic go without a FILE")
        if feedback and url is None:
            raise typer.BadParameter("--feedback goes with --url")
        with _open_scorer(bundle, url, feedback=feedback) as (name, version, features, score):
            found = _evaluate_file(file, target, features, (name, version), score, tolerance)
    _print_metrics(found, as_json=as_json)


def _evaluate_store(selection: Selection, tolerance: float | None) -> list[ModelMetrics]:
    if tolerance is None:
        tolerance = read_settings().evaluation_tolerance
    with open_configured_store() as store:
        found = figures(store, selection, tolerance=tolerance, locate_drifts=True)
        if not found:
            synthetic = store.counts(selection._replace(include_synthetic=True)).predictions
            besides = f" ({synthetic:,} synthetic ones: --include-synthetic)" if synthetic else ""
            raise NoDataError(
                f"no such predictions in {store.location.description}{besides}; --since, --until, --model chose"
            )
    return found


def _evaluate_file(
    file: Path,
    target: str,
    features: Sequence[Feature],
    model: tuple[str, str],
    score: ScoreFn,
    tolerance: float | None,
) -> list[ModelMetrics]:
    read = refused = 0
    with ScratchStore(*model) as sheet, progress_display(None) as progress:
        for samples in _batches(read_samples(file, features, target)):
            scored, bad = score(samples)
            sheet.add(scored)
            read, refused = read + len(samples), refused + bad
            progress(read)
        found = sheet.evaluate(tolerance)
    if refused:
        echo(f"{refused:,} of {read:,} rows break the feature schema; they are in no figure", err=True)
    if not found:
        raise NoDataError(f"{file} has no rows that the model answers")
    return found


@contextmanager
def _open_scorer(
    bundle: Path | None, url: str | None, *, feedback: bool
) -> Iterator[tuple[str, str, Sequence[Feature], ScoreFn]]:
    """Name, version and features of a model, and what scores with it."""
    if bundle is not None:
        # Imported when it is needed: without --bundle nothing is scored here, and scikit-learn takes a second.
        from modeltrace.inference.scoring import Scorer  # noqa: PLC0415  see above
        from modeltrace.serving.bundle_loader import load_model  # noqa: PLC0415  see above

        loaded, _ = load_model(read_settings(bundle=str(bundle)))
        scorer = Scorer(loaded)

        def here(samples: Sequence[Sample]) -> tuple[list[ScoredRow], int]:
            answers = [
                None if isinstance(one, ModeltraceError) else (one.label, one.value, one.confidence)
                for one in scorer.predict([sample.row for sample in samples])
            ]
            return _join_labels(samples, answers, loaded.classes)

        yield loaded.name, loaded.version, loaded.schema.features, here
        return

    with ScoringClient(normalize_url(url or ""), authorization_header(read_settings())) as service:
        served = service.fetch_model()

        def there(samples: Sequence[Sample]) -> tuple[list[ScoredRow], int]:
            said = service.predict([sample.row for sample in samples])
            answers = [
                None if "error" in one else (one.get("label"), one.get("value"), one.get("confidence")) for one in said
            ]
            scored, refused = _join_labels(samples, answers, served.classes)
            if feedback:
                _send_labels(service, [one["prediction_id"] for one in said if "error" not in one], scored)
            return scored, refused

        yield served.name, served.version, served.features, there


def _join_labels(
    samples: Sequence[Sample], answers: Sequence[tuple[Any, Any, Any] | None], classes: Sequence[object] | None
) -> tuple[list[ScoredRow], int]:
    """Answered rows with their true labels, and how many rows were refused."""
    scored = [
        ScoredRow(*answer, to_model_label(sample.label, classes))
        for sample, answer in zip(samples, answers, strict=True)
        if answer is not None
    ]
    return scored, len(samples) - len(scored)


def _send_labels(service: ScoringClient, ids: Sequence[str], scored: Sequence[ScoredRow]) -> None:
    known = [(one, row.true_label) for one, row in zip(ids, scored, strict=True) if row.true_label is not None]
    if known:
        service.send_labels(known)


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    rest = iter(samples)
    while batch := list(islice(rest, BATCH_ROWS)):
        yield batch


def _print_metrics(found: Sequence[ModelMetrics], *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps([to_json(one) for one in found], indent=2, ensure_ascii=False))
        return
    console = SafeConsole()
    for one in found:
        console.print(to_text(one))
