"""Evaluate the rows of a file with known labels, for `modeltrace evaluate FILE`."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

from modeltrace.cli.file_labels import FileLabels
from modeltrace.cli.store import progress_display
from modeltrace.client.client import Client
from modeltrace.client.messages import Prediction, ServiceError
from modeltrace.client.service import ServedModel
from modeltrace.errors import InvalidFeaturesError, ModeltraceError
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.scored_rows import ScoredRow, ScratchStore
from modeltrace.inference.model import Label, ModelOutput
from modeltrace.inference.tasks import TASK_NAMES
from modeltrace.monitoring.held_out_baseline import baseline_of
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.terminal import echo
from modeltrace.traffic.rows import Sample, read_samples

# Rows that are scored at a time.
BATCH_ROWS = 1000

# Predicts rows. Returns the prediction of each row, or the error of a rejected row.
PredictFn = Callable[[Sequence[object]], Sequence[Prediction | ModelOutput | InvalidFeaturesError]]
# Sends true labels, as pairs of prediction ID and label.
SendLabels = Callable[[Sequence[tuple[str, Any]]], object]


class NoDataError(ModeltraceError):
    """There are no predictions to evaluate."""


def no_predictions_error(store: Store, selection: Selection) -> NoDataError:
    """Return the error that no prediction of a store is selected. It names synthetic ones, which may be left out."""
    synthetic = store.counts(selection._replace(include_synthetic=True)).predictions
    hint = f" ({synthetic:,} synthetic ones: --include-synthetic)" if synthetic else ""
    return NoDataError(
        f"no predictions in {store.location.description}{hint} match --since, --until, --bundle, --name, --version and "
        "--tag"
    )


def load_scorer(bundle: str) -> tuple[ServedModel, PredictFn]:
    """Return the model of a bundle, and a function that predicts rows with the model in this process."""
    # Imported here: only --bundle needs scikit-learn, and its import takes a second.
    from modeltrace.inference.predict_rows import score  # noqa: PLC0415  see above
    from modeltrace.serving.bundle_loader import load_model  # noqa: PLC0415  see above

    model, _ = load_model(read_settings(bundle=bundle))
    served = ServedModel(
        model.name,
        model.version,
        model.schema.features,
        model.classes,
        model.held_out,
        model.task,
        None if model.interval is None else model.interval.level,
        model.outputs,
    )
    return served, partial(score, model, details=True)


def predict_batch(
    client: Client, model: ServedModel, rows: Sequence[object]
) -> Sequence[Prediction | InvalidFeaturesError]:
    """Predict rows with the probability of each class, or with the prediction interval, if the service returns them."""
    if model.task != "classifier":
        return client.predict_batch(rows, interval=model.interval_level is not None)
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


def _outputs(row: Prediction | ModelOutput, model: ServedModel) -> Mapping[str, Label] | None:
    if isinstance(row, Prediction):
        return row.outputs
    if row.outputs is None:
        return None
    return dict(zip((output.name for output in model.outputs), row.outputs, strict=True))


def send_labels_of(client: Client, labels: Sequence[tuple[str, Any]]) -> None:
    """Send true labels.

    Raises:
        ServiceError: the service rejects a label.
    """
    for result in client.feedback_batch(labels):
        if isinstance(result, ServiceError):
            raise result


def evaluate_file(
    file: Path,
    targets: Sequence[str],
    model: ServedModel,
    predict: PredictFn,
    tolerance: float | None,
    send_labels: SendLabels | None = None,
) -> list[ModelMetrics]:
    """Predict the rows of a file and return the metrics of the model.

    Args:
        file: the rows, with their true labels.
        targets: the column with the true labels. Of a model with several outputs, the columns of all outputs in their
            order, or columns with the names of outputs.
        model: the model that predicts.
        predict: predicts rows.
        tolerance: as in `modeltrace.evaluation.evaluate.evaluate`.
        send_labels: sends the true labels to the service that predicts; `None` to send none.

    Raises:
        NoDataError: the model accepts no row.
        ModeltraceError: predictions of the model have no true labels.
    """
    if not model.has_true_labels:
        raise ModeltraceError(
            f"{model.name} is {TASK_NAMES[model.task]}: its predictions have no true labels to compare with"
        )
    labels = FileLabels(model, targets)
    total = rejected = 0
    recorded = (model.classes or ()) if len(model.classes or ()) <= read_settings().store_max_classes else ()
    with ScratchStore(model.name, model.version, recorded) as scratch, progress_display(None) as on_progress:
        for samples in _batches(read_samples(file, model.features, targets, lenient=True)):
            predicted = [
                (prediction, labels.parse(sample.label))
                for prediction, sample in zip(predict([sample.row for sample in samples]), samples, strict=True)
                if not isinstance(prediction, InvalidFeaturesError)
            ]
            scratch.add(
                [
                    ScoredRow(
                        row.label,
                        row.value,
                        row.confidence,
                        labels.to_stored(label),
                        _probabilities(row),
                        row.interval,
                        model.interval_level,
                        _outputs(row, model),
                    )
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
        echo(
            f"{rejected:,} of {total:,} rows violate the feature schema or cannot be read; they are not evaluated",
            err=True,
        )
    if not metrics:
        raise NoDataError(f"{file} has no rows that the model accepts")
    return metrics


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch
