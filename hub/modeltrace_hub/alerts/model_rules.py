"""Evaluate the rules about figures that services compute from true labels, and about models with the same version."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.rules import Condition, Rule, make_labels
from modeltrace_hub.queries.reader import Reader
from modeltrace_hub.queries.values import text_attributes
from modeltrace_hub.queries.windows import DAY_NS, MINUTE_NS

# As in Prometheus, the value of a gauge is its newest one within this time.
GAUGE_LOOKBACK_NS: Final = 5 * MINUTE_NS
MIN_LABELS: Final = 200
MIN_PREDICTIONS: Final = 200
MIN_ACCURACY_FALL: Final = 0.05
STANDARD_DEVIATIONS: Final = 3
MIN_COVERAGE_SHARE: Final = 0.5
# The means of AccuracyFell and LabelsMissing are those of the seven days before this time.
MEAN_OFFSET_NS: Final = DAY_NS
MEAN_LENGTH_NS: Final = 7 * DAY_NS

_MODEL_LOADED: Final = "ml.model.loaded"
_ACCURACY: Final = "ml.evaluation.accuracy"
_LABELS: Final = "ml.evaluation.labels"
_PREDICTIONS: Final = "ml.evaluation.predictions"
_COVERAGE: Final = "ml.evaluation.label_coverage"
_BASELINE: Final = "ml.evaluation.baseline."
_LEVEL: Final = "ml.concept_drift.level"
_GAUGES: Final = (
    *(_MODEL_LOADED, _ACCURACY, _LABELS, _PREDICTIONS, _COVERAGE, _LEVEL),
    *(f"{_BASELINE}{name}" for name in ("state", "increase", "threshold")),
)

ModelKey = tuple[str, str, str]  # name, version, hash


def model_conditions(reader: Reader, now_ns: int) -> Iterator[Condition]:
    """Yield the conditions of all models."""
    models = _read_gauges(reader, now_ns)
    yield from _version_conflicts(models)
    drifted_before = {key for key, gauges in _read_gauges(reader, now_ns - DAY_NS).items() if gauges.get(_LEVEL) == 1}
    means = (
        _read_means(reader, now_ns)
        if any(_ACCURACY in gauges or _COVERAGE in gauges for gauges in models.values())
        else {}
    )
    for key, gauges in models.items():
        name = f"{key[0]} {key[1]}".rstrip()
        if gauges.get(f"{_BASELINE}state") == 1:
            increase, threshold = (gauges.get(f"{_BASELINE}{part}") for part in ("increase", "threshold"))
            summary = f"{name} makes more errors than for held-out rows"
            yield _condition(rules.WORSE_THAN_HELD_OUT, key, 1.0 if increase is None else increase, threshold, summary)
        if gauges.get(_LEVEL) == 1 and key not in drifted_before:
            yield _condition(rules.CONCEPT_DRIFT, key, 1.0, None, f"{name} makes more errors than before")
        mean_accuracy, mean_coverage = means.get(key, (None, None))
        yield from _accuracy_fell(key, name, gauges, mean_accuracy)
        yield from _labels_missing(key, name, gauges, mean_coverage)


def _accuracy_fell(key: ModelKey, name: str, gauges: Mapping[str, float], mean: float | None) -> Iterator[Condition]:
    accuracy, labels = gauges.get(_ACCURACY), gauges.get(_LABELS, 0.0)
    if mean is None or accuracy is None or labels < MIN_LABELS:
        return
    threshold = max(MIN_ACCURACY_FALL, STANDARD_DEVIATIONS * math.sqrt(max(mean * (1 - mean), 0.0) / labels))
    if mean - accuracy > threshold:
        summary = f"{name} is right less often than in the week before; the accuracy is now {accuracy:.3g}, lower"
        yield _condition(rules.ACCURACY_FELL, key, mean - accuracy, threshold, summary)


def _labels_missing(key: ModelKey, name: str, gauges: Mapping[str, float], mean: float | None) -> Iterator[Condition]:
    coverage = gauges.get(_COVERAGE)
    if mean is None or coverage is None or gauges.get(_PREDICTIONS, 0.0) < MIN_PREDICTIONS:
        return
    threshold = MIN_COVERAGE_SHARE * mean
    if coverage < threshold:
        summary = f"Labels for {name} are missing; the share of its predictions that have one"
        yield _condition(rules.LABELS_MISSING, key, coverage, threshold, summary)


def _version_conflicts(models: Mapping[ModelKey, Mapping[str, float]]) -> Iterator[Condition]:
    hashes = Counter((name, version) for (name, version, _), gauges in models.items() if _MODEL_LOADED in gauges)
    for (name, version), count in hashes.items():
        if count > 1:
            summary = f"The number of different models with the version {name} {version}"
            yield _condition(rules.MODEL_VERSION_CONFLICT, (name, version, ""), float(count), 1.0, summary)


def _condition(rule: Rule, key: ModelKey, value: float, threshold: float | None, summary: str) -> Condition:
    name, version, model_hash = key
    labels = make_labels(ml_model_name=name, ml_model_version=version, ml_model_hash=model_hash)
    text = summary + ("." if threshold is None else f": {value:.3g}, threshold {threshold:.3g}.")
    return Condition(rule.name, labels, value, threshold, text, f"models?{urlencode({'model': name})}")


def _read_gauges(reader: Reader, now_ns: int) -> Mapping[ModelKey, Mapping[str, float]]:
    """Return the newest values of the gauges of each model, without those of classes and averages."""
    rows = reader.fetch_all(
        "get_model_gauges", gauges=[*_GAUGES], since_ns=now_ns - GAUGE_LOOKBACK_NS, until_ns=now_ns, lookback_ns=0
    )
    models: dict[ModelKey, dict[str, float]] = defaultdict(dict)
    newest: dict[tuple[ModelKey, str], int] = {}
    for row in rows:
        attributes = text_attributes(row["attributes"])
        key = row["model"], row["version"], attributes.get("ml.model.hash", "")
        if row["time_ns"] > newest.get((key, row["name"]), -1):
            newest[key, row["name"]] = row["time_ns"]
            models[key][row["name"]] = row["value"]
    return models


def _read_means(reader: Reader, now_ns: int) -> Mapping[ModelKey, tuple[float | None, float | None]]:
    """Return the mean accuracy and the mean label coverage of each model in the week that ended a day ago."""
    until_ns = now_ns - MEAN_OFFSET_NS
    rows = reader.fetch_all(
        "average_evaluations",
        since_ns=until_ns - MEAN_LENGTH_NS,
        until_ns=until_ns,
        min_labels=MIN_LABELS,
        min_predictions=MIN_PREDICTIONS,
    )
    return {(row["model"], row["version"], row["hash"]): (row["accuracy"], row["label_coverage"]) for row in rows}
