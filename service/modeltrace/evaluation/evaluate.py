"""Compute the metrics of models from a few aggregate queries on the prediction store."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from modeltrace.evaluation import queries
from modeltrace.evaluation.baseline_comparison import BaselineComparison, compare_absolute_errors, compare_error_rates
from modeltrace.evaluation.calibration import LabelledCount
from modeltrace.evaluation.clustering import ClusteringMetrics, ContingencyCell, clustering_metrics
from modeltrace.evaluation.concept_drift import detect_drift
from modeltrace.evaluation.metrics import (
    ClassificationMetrics,
    ModelMetrics,
    PredictionRef,
    classification_metrics,
)
from modeltrace.evaluation.output_view import OutputView, labelled_outputs
from modeltrace.evaluation.probabilities import outlier_ranking, probability_metrics
from modeltrace.evaluation.residuals import read_residuals, regression_of_model
from modeltrace.store.rows import from_json, label_key
from modeltrace.store.selection import Selection
from modeltrace.store.store import QueryRunner
from modeltrace.telemetry.metrics.model_catalog import Baseline, ModelKey
from modeltrace.true_labels import CLASS

_SECOND: Final = 10**9


def evaluate(
    store: QueryRunner,
    selection: Selection,
    *,
    baselines: Mapping[ModelKey, Baseline] = MappingProxyType({}),
    drift_since: int | None = None,
    tolerance: float | None = None,
    concept_drift: bool = True,
    locate_drifts: bool = False,
    max_outputs: int | None = None,
) -> list[ModelMetrics]:
    """Return the metrics of each model version in a selection, sorted by name and version.

    If several models have the same name and version, each hash has its own metrics. The metrics of a model with several
    outputs are followed by those of each output that has true labels.

    Args:
        store: the store with predictions and labels.
        selection: the predictions to evaluate.
        baselines: the errors of the models for held-out rows.
        drift_since: the start of concept drift detection, in nanoseconds since the epoch; `None` for the start of the
            selection.
        tolerance: the maximum absolute error of a correct prediction of a regressor, for drift detection; `None` to
            detect a change of the absolute errors themselves.
        concept_drift: whether to detect concept drift.
        locate_drifts: whether to return the predictions at which drift was detected.
        max_outputs: the number of outputs of a model with several outputs that are evaluated; `None` for all.

    Raises:
        StoreError: the store cannot be read.
    """
    rows: dict[ModelKey, list[Any]] = defaultdict(list)
    for row in store.fetch_all(queries.outcome_counts(selection)):
        rows[row[0], row[1], row[2]].append(row[3:])
    # Skip unnecessary queries: a query scans all selected predictions even if it returns no rows.
    regressors = any(row[0] is None and row[2] for counts in rows.values() for row in counts)
    residuals = read_residuals(store, selection) if regressors else {}
    others = any(key not in residuals and any(row[0] is None and row[2] for row in rows[key]) for key in rows)
    outputs = labelled_outputs(store, selection) if others else {}
    models_per_version = Counter(key[:2] for key in rows)
    results = []
    for key in sorted(rows):
        name, version, model_hash = key
        counts = rows[key]
        labelled = [row for row in counts if row[2]]
        hash_if_ambiguous = model_hash if models_per_version[name, version] > 1 else None
        of_model = selection._replace(model_name=name, model_version=version, model_hash=hash_if_ambiguous)
        metrics = ModelMetrics(
            name,
            version,
            predictions=sum(row[4] for row in counts),
            labels=sum(row[4] for row in labelled),
            label_delays=_label_delays(store, of_model) if labelled else {},
            classification=_classification(store, of_model, labelled),
            regression=regression_of_model(store, of_model, residuals[key]) if key in residuals else None,
            clustering=_clustering(labelled),
            model_hash=hash_if_ambiguous,
        )
        if key in baselines:
            metrics = replace(metrics, baseline=_compare(metrics, baselines[key]))
        if concept_drift:
            drift_selection = of_model if drift_since is None else of_model._replace(since=drift_since)
            pairs = _equivalent_pairs(labelled)
            metrics = _with_drift(store, metrics, drift_selection, pairs, tolerance, locate_drifts=locate_drifts)
        results.append(metrics)
        for output in outputs.get(key, ())[:max_outputs]:
            of_output = evaluate(
                OutputView(store, output),
                of_model,
                drift_since=drift_since,
                tolerance=tolerance,
                concept_drift=concept_drift,
                locate_drifts=locate_drifts,
            )
            results += [
                replace(entry, output=output.name, model_hash=hash_if_ambiguous) for entry in of_output if entry.labels
            ]
    return results


def _classification(
    store: QueryRunner, of_model: Selection, labelled: Sequence[Sequence[Any]]
) -> ClassificationMetrics | None:
    """Return the metrics of a classifier from the labelled rows of `outcome_counts`; `None` for a regressor."""
    counts = [row for row in labelled if row[1] is not None and not _is_object(row[1])]
    metrics = classification_metrics([_to_count(*row) for row in counts])
    if metrics is None:
        return None
    probabilities = probability_metrics(store, of_model, {row[1] for row in counts})
    ranking = None if probabilities else outlier_ranking(store, of_model, {row[0] for row in counts})
    return replace(metrics, probabilities=probabilities, outlier_ranking=ranking)


def _clustering(labelled: Sequence[Sequence[Any]]) -> ClusteringMetrics | None:
    """Return the metrics of a clusterer from the labelled rows of `outcome_counts`; `None` for another model."""
    true_classes = [
        (row[0], from_json(row[1]), row[4]) for row in labelled if row[1] is not None and _is_object(row[1])
    ]
    return clustering_metrics(
        ContingencyCell(from_json(label), true[CLASS], rows)
        for label, true, rows in true_classes
        if isinstance(true, dict) and CLASS in true
    )


def _is_object(true_label: str) -> bool:
    """Return whether the JSON of a true label is an object, as that of a clusterer is."""
    return true_label.startswith("{")


def _compare(metrics: ModelMetrics, baseline: Baseline) -> BaselineComparison | None:
    if (classification := metrics.classification) and baseline.deviation is None:
        labels = sum(entry.support for entry in classification.classes)
        return compare_error_rates(1 - classification.accuracy, labels, baseline)
    if (regression := metrics.regression) and baseline.deviation is not None:
        error, deviation = regression.mean_absolute_error, regression.absolute_error_deviation
        return compare_absolute_errors(error, deviation, regression.rows, baseline)
    return None


def _to_count(
    label: str, true_label: str, _: object, bin_index: int | None, rows: int, *sums: float | None
) -> LabelledCount:
    predicted, true = from_json(label), from_json(true_label)
    correct = label_key(predicted) == label_key(true)
    confidence, squares, squares_from_one = (float(value or 0) for value in sums)
    return LabelledCount(
        predicted, true, correct, bin_index, rows, confidence, squares_from_one if correct else squares
    )


def _label_delays(store: QueryRunner, of_model: Selection) -> dict[float, float]:
    """Return the label delay of one model, in seconds, at each of PERCENTS."""
    return {
        percent / 100: delay / _SECOND
        for number, rank, delay in store.fetch_all(queries.label_delays(of_model))
        for percent in queries.PERCENTS
        if rank == queries.quantile_rank(number, percent)
    }


def _equivalent_pairs(labelled: Iterable[Sequence[Any]]) -> list[tuple[str, str]]:
    """Return predicted and true labels that are equal but differ in their JSON, such as 1 and 1.0."""
    pairs = {
        (row[0], row[1]) for row in labelled if None not in row[:2] and row[0] != row[1] and not _is_object(row[1])
    }
    return sorted(
        (predicted, true) for predicted, true in pairs if label_key(from_json(predicted)) == label_key(from_json(true))
    )


def _with_drift(
    store: QueryRunner,
    metrics: ModelMetrics,
    selection: Selection,
    pairs: list[tuple[str, str]],
    tolerance: float | None,
    *,
    locate_drifts: bool,
) -> ModelMetrics:
    if metrics.classification:
        error, levels = queries.is_wrong(pairs), 1
    elif metrics.regression is None:
        return metrics
    elif tolerance is not None:
        error, levels = queries.exceeds(tolerance), 1
    else:
        median = metrics.regression.absolute_error_quantiles[0.5]
        error, levels = queries.relative_error(median), queries.ERROR_LEVELS
    classifier = metrics.classification is not None
    statement = queries.error_sequence(
        selection, error, classifier=classifier, aggregates_in_order=store.location.file is None
    )
    ((text,),) = store.fetch_all(statement)
    characters = np.frombuffer((text or "").encode(), dtype=np.uint8)
    drift = detect_drift((characters - float(ord("0"))) / levels)
    indices = drift.drift_indices if locate_drifts else []
    rows = [store.fetch_all(queries.nth_labelled(selection, index, classifier=classifier)) for index in indices]
    return replace(
        metrics,
        drift=drift,
        error_rate=drift.mean_error if levels == 1 else None,
        drift_predictions=tuple(PredictionRef(*row) for (row,) in rows),
    )
