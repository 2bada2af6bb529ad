"""Evaluate the rules about figures that services compute from true labels, and about models with the same version."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.rules import Condition, Rule, compare_text, format_value, make_labels
from modeltrace_hub.queries.attribute_values import text_attributes
from modeltrace_hub.queries.model_parameters import DAY_NS, MINUTE_NS
from modeltrace_hub.queries.reader import Reader

# As in Prometheus, the value of a gauge is its newest one within this time.
GAUGE_LOOKBACK_NS: Final = 5 * MINUTE_NS
MIN_LABELS: Final = 200
MIN_CLASS_LABELS: Final = 30
MIN_PREDICTIONS: Final = 200
# A fall of accuracy, ROC AUC or coverage, or a rise of the calibration error.
MIN_CHANGE: Final = 0.05
STANDARD_DEVIATIONS: Final = 3
# The calibration error by chance is at most the root of this, divided by the number of labels.
CALIBRATION_FACTOR: Final = 2.5
MIN_COVERAGE_SHARE: Final = 0.5
# The means are those of the seven days before this time.
MEAN_OFFSET_NS: Final = DAY_NS
MEAN_LENGTH_NS: Final = 7 * DAY_NS

_MODEL_LOADED: Final = "ml.model.loaded"
_LEVEL: Final = "ml.concept_drift.level"
_EVALUATION: Final = "ml.evaluation."
_GAUGES: Final = (
    *("accuracy", "labels", "class_labels", "predictions", "label_coverage", "roc_auc", "calibration_error"),
    *("interval.labels", "interval.coverage", "interval.level", "expected.accuracy", "expected.accuracy.high"),
    *("baseline.state", "baseline.increase", "baseline.threshold"),
)

ModelKey = tuple[str, str, str]  # name, version, hash
Figures = Mapping[str, float]  # the gauges by name, without `ml.evaluation.`


def model_conditions(reader: Reader, now_ns: int) -> Iterator[Condition]:
    """Yield the conditions of all models."""
    models = _read_gauges(reader, now_ns)
    yield from _version_conflicts(models)
    if not models:
        return
    before = _read_gauges(reader, now_ns - DAY_NS)
    means = _read_means(reader, now_ns)
    for key, figures in models.items():
        name = f"{key[0]} {key[1]}".rstrip()
        if figures.get("baseline.state") == 1:
            increase, threshold = figures.get("baseline.increase", 1.0), figures.get("baseline.threshold")
            summary = f"{name} makes more errors than for held-out rows; the increase"
            yield _condition(rules.WORSE_THAN_HELD_OUT, key, increase, threshold, summary)
        if figures.get(_LEVEL) == 1 and before.get(key, {}).get(_LEVEL) != 1:
            yield _condition(rules.CONCEPT_DRIFT, key, 1.0, None, f"{name} makes more errors than before")
        for rule, value, threshold, text in _comparisons(figures, means.get(key, {})):
            if (value < threshold) if rule is rules.LABELS_MISSING else (value > threshold):
                yield _condition(rule, key, value, threshold, text.format(name=name))


def _comparisons(figures: Figures, mean: Figures) -> Iterator[tuple[Rule, float, float, str]]:
    """Yield rules that can be evaluated, with the value, its threshold and the text. `mean` has the week before."""
    labels, predictions = figures.get("labels", 0.0), figures.get("predictions", 0.0)
    class_labels, interval_labels = figures.get("class_labels", 0.0), figures.get("interval.labels", 0.0)
    if {"accuracy"} <= figures.keys() & mean.keys() and labels >= MIN_LABELS:
        fall = mean["accuracy"] - figures["accuracy"]
        text = f"The accuracy of {{name}} is {_against(figures['accuracy'], mean['accuracy'])}; the fall"
        yield rules.ACCURACY_FELL, fall, _share_threshold(mean["accuracy"], labels), text
    if {"roc_auc"} <= figures.keys() & mean.keys() and class_labels >= MIN_CLASS_LABELS:
        fall = mean["roc_auc"] - figures["roc_auc"]
        text = f"The ROC AUC of {{name}} is {_against(figures['roc_auc'], mean['roc_auc'])}; the fall"
        yield rules.ROC_AUC_FELL, fall, _share_threshold(mean["roc_auc"], class_labels), text
    if {"calibration_error"} <= figures.keys() & mean.keys() and labels >= MIN_LABELS:
        rise = figures["calibration_error"] - mean["calibration_error"]
        error = _against(figures["calibration_error"], mean["calibration_error"])
        text = f"The calibration error of {{name}} is {error}; the rise"
        yield rules.CALIBRATION_WORSE, rise, max(MIN_CHANGE, math.sqrt(CALIBRATION_FACTOR / labels)), text
    if {"interval.coverage", "interval.level"} <= figures.keys() and interval_labels >= MIN_LABELS:
        level = figures["interval.level"]
        covered = format_value(figures["interval.coverage"])
        text = (
            f"The prediction intervals of {{name}} enclose the share {covered} of the labels, "
            f"nominal share {format_value(level)}; the difference"
        )
        missing = level - figures["interval.coverage"]
        yield rules.INTERVAL_COVERAGE_LOW, missing, _share_threshold(level, interval_labels), text
    if "accuracy" in mean and {"expected.accuracy", "expected.accuracy.high"} <= figures.keys():
        estimate = figures["expected.accuracy"]
        text = f"Without labels, the accuracy {_against(estimate, mean['accuracy'])} is expected of {{name}}; the fall"
        threshold = max(MIN_CHANGE, figures["expected.accuracy.high"] - estimate)
        yield rules.EXPECTED_ACCURACY_FELL, mean["accuracy"] - estimate, threshold, text
    if {"label_coverage"} <= figures.keys() & mean.keys() and predictions >= MIN_PREDICTIONS:
        text = "Labels for {name} are missing; the share of its predictions that have one"
        yield rules.LABELS_MISSING, figures["label_coverage"], MIN_COVERAGE_SHARE * mean["label_coverage"], text


def _against(value: float, mean: float) -> str:
    return f"{format_value(value)} (mean of the week before: {format_value(mean)})"


def _share_threshold(share: float, labels: float) -> float:
    """Return the smallest change of a share that is relevant and unlikely to be chance, for this number of labels."""
    return max(MIN_CHANGE, STANDARD_DEVIATIONS * math.sqrt(max(share * (1 - share), 0.0) / labels))


def _version_conflicts(models: Mapping[ModelKey, Figures]) -> Iterator[Condition]:
    hashes = Counter((name, version) for (name, version, _), gauges in models.items() if _MODEL_LOADED in gauges)
    for (name, version), count in hashes.items():
        if count > 1:
            summary = f"The number of different models with the version {name} {version}"
            yield _condition(rules.MODEL_VERSION_CONFLICT, (name, version, ""), float(count), 1.0, summary)


def _condition(rule: Rule, key: ModelKey, value: float, threshold: float | None, summary: str) -> Condition:
    name, version, model_hash = key
    labels = make_labels(ml_model_name=name, ml_model_version=version, ml_model_hash=model_hash)
    text = compare_text(summary, value, threshold)
    return Condition(rule.name, labels, value, threshold, text, f"models?{urlencode({'model': name})}")


def _read_gauges(reader: Reader, now_ns: int) -> Mapping[ModelKey, Figures]:
    """Return the newest gauges of each model: the macro mean of a mean over classes, the lowest of values by class."""
    names = [_MODEL_LOADED, _LEVEL, *(f"{_EVALUATION}{name}" for name in _GAUGES)]
    window = {"since_ns": now_ns - GAUGE_LOOKBACK_NS, "until_ns": now_ns, "lookback_ns": 0}
    models: dict[ModelKey, dict[str, float]] = defaultdict(dict)
    newest: dict[tuple[ModelKey, str], int] = {}
    for row in reader.fetch_all("get_model_gauges", gauges=names, **window):
        attributes = text_attributes(row["attributes"])
        key = row["model"], row["version"], attributes.get("ml.model.hash", "")
        name, value, time_ns = row["name"].removeprefix(_EVALUATION), row["value"], row["time_ns"]
        known_ns = newest.get((key, name), -1)
        if attributes.get("ml.evaluation.average", "macro") != "macro" or time_ns < known_ns:
            continue
        if time_ns == known_ns:
            value = min(value, models[key][name])
        newest[key, name], models[key][name] = time_ns, value
    return models


def _read_means(reader: Reader, now_ns: int) -> Mapping[ModelKey, Figures]:
    """Return the means of the figures of each model in the week that ended a day ago."""
    until_ns = now_ns - MEAN_OFFSET_NS
    rows = reader.fetch_all(
        "average_evaluations",
        since_ns=until_ns - MEAN_LENGTH_NS,
        until_ns=until_ns,
        min_labels=MIN_LABELS,
        min_class_labels=MIN_CLASS_LABELS,
        min_predictions=MIN_PREDICTIONS,
    )
    return {
        (row.pop("model"), row.pop("version"), row.pop("hash")): {
            name: value for name, value in row.items() if value is not None
        }
        for row in rows
    }
