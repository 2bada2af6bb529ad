"""Evaluate the rules about drift: each statistic whose state on the page of models is "drift"."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlencode

from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.rules import Condition, Rule, format_value, make_labels
from modeltrace_hub.queries.model_parameters import DAY_NS, MINUTE_NS, Window
from modeltrace_hub.queries.models import read_models
from modeltrace_hub.queries.reader import Reader, Record

WINDOWS: Final = {"1h": 60 * MINUTE_NS, "1d": DAY_NS}
_DRIFT: Final = "drift"
_OWN_RULES: Final = {"new_categories": rules.NEW_CATEGORIES, "missing": rules.MISSING_VALUES}


def drift_conditions(reader: Reader, now_ns: int) -> Iterator[Condition]:
    """Yield the conditions of the windows of an hour and of a day that end now."""
    for name, length_ns in WINDOWS.items():
        window = Window(now_ns - length_ns, now_ns, length_ns, now_ns)
        for model in read_models(reader, window):
            for version in model["versions"]:
                yield from _version_conditions(model["name"], version, name)


def _version_conditions(model: str, version: Record, window: str) -> Iterator[Condition]:
    identity = {
        "ml_model_name": model,
        "ml_model_version": version["version"],
        "ml_model_hash": version["hash"],
        "window": window,
    }
    name = f"{model} {version['version']}".rstrip()
    for feature in version["features"]:
        for statistic, values in feature["statistics"].items():
            rule = _OWN_RULES.get(statistic, rules.INPUT_DRIFT)
            labels = {**identity, "ml_feature_name": feature["feature"], "ml_drift_statistic": statistic}
            summary = f"{feature['feature']} of {name} differs from the training data within {window}: {statistic}"
            yield from _statistic_condition(rule, labels, values, summary)
    for statistic, values in (version["output"] or {"statistics": {}})["statistics"].items():
        labels = {**identity, "ml_drift_statistic": statistic}
        summary = f"The predictions of {name} differ from those before it was served within {window}: {statistic}"
        yield from _statistic_condition(rules.PREDICTION_DRIFT, labels, values, summary)
    if confidence := version["confidence"]:
        values = {"state": confidence["state"], "value": confidence["low_share"], "threshold": confidence["limit"]}
        labels = {**identity, "ml_drift_statistic": "low_confidence"}
        summary = f"The share of predictions of {name} with low confidence within {window}"
        yield from _statistic_condition(rules.LOW_CONFIDENCE, labels, values, summary)


def _statistic_condition(
    rule: Rule, labels: dict[str, str | None], values: Record, summary: str
) -> Iterator[Condition]:
    if values["state"] == _DRIFT:
        value, threshold = values["value"], values["threshold"]
        path = f"models?{urlencode({'model': labels['ml_model_name'], 'window': labels['window']})}"
        text = f"{summary} is {format_value(value)}, threshold {format_value(threshold)}."
        yield Condition(rule.name, make_labels(**labels), value, threshold, text, path)
