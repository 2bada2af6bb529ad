"""Read the metrics that a service has computed from true labels: accuracy, comparison with held-out rows, drift.

The service selects predictions by their own time, over a period that does not depend on the window of a page. All
gauges of one evaluation have the same time; gauges with another time are of an earlier evaluation and are left out.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modeltrace_hub.queries import model_metric_names as names
from modeltrace_hub.queries.reader import Record

_SECOND: Final = 10**9
_HASH: Final = "ml.model.hash"
_OUTPUT: Final = "ml.output.name"
_MAX_SECONDS: Final = 2**63 / _SECOND
# Metrics with one value for each quantile.
_QUANTILE_METRICS: Final = ("label_delay", "absolute_error")


def gauges_of_model(gauges: Sequence[Record], model_hash: str | None) -> list[Record]:
    """Return the gauges of one of several models with the same name and version.

    Such models have the attribute `ml.model.hash`.

    Args:
        gauges: rows of get_model_gauges.sql.
        model_hash: the hash of the model; None for the evaluated model with the most predictions.
    """
    if model_hash is None:
        predictions = (gauge for gauge in gauges if gauge["name"] == names.EVALUATED_PREDICTIONS)
        most = max(predictions, key=lambda gauge: (gauge["time_ns"], gauge["value"]), default=None)
        model_hash = most["attributes"].get(_HASH) if most else None
    return [gauge for gauge in gauges if gauge["attributes"].get(_HASH, model_hash) == model_hash]


def evaluation(gauges: Sequence[Record]) -> Record | None:
    """Return the metrics of the latest evaluation of a model version; None if the service sent none.

    Its `period` has the times of the first and the last evaluated prediction, `macro` and `weighted` the means over
    classes, `classes` the metrics of each class, `intervals` those of prediction intervals, and `outputs` those of each
    named output with true labels, by name.

    Args:
        gauges: rows of get_model_gauges.sql; attributes are text and values are finite.
    """
    latest = _latest(gauges, names.EVALUATION)
    if not latest:
        return None
    by_output: dict[str | None, list[Record]] = defaultdict(list)
    for gauge in latest:
        by_output[gauge["attributes"].get(_OUTPUT)].append(gauge)
    of_model = by_output.pop(None, [])
    result: Record = {
        **_scores(of_model), "baseline": _baseline(of_model), "intervals": _intervals(of_model),
        "period": _period(of_model), "outputs": {name: _scores(by_output[name]) for name in sorted(by_output, key=str)},
        "time_ns": latest[0]["time_ns"],
    }  # fmt: skip
    return result


def _scores(gauges: Sequence[Record]) -> Record:
    result: Record = {
        "classes": {}, "label_delay": {}, "absolute_error": {}, **{average: {} for average in names.AVERAGES},
    }  # fmt: skip
    for gauge in gauges:
        name, attributes = gauge["name"].removeprefix(names.EVALUATION), gauge["attributes"]
        if name in _QUANTILE_METRICS:
            result[name][attributes.get("quantile", "")] = gauge["value"]
        elif (label := attributes.get("ml.evaluation.label")) is not None:
            result["classes"].setdefault(label, {})[name] = gauge["value"]
        elif (average := attributes.get("ml.evaluation.average")) in names.AVERAGES:
            result[average][name] = gauge["value"]
        elif name in names.SCORES:
            result[name] = gauge["value"]
    return result


def concept_drift(gauges: Sequence[Record]) -> Record | None:
    """Return the level of concept drift (an increase of the errors); None if the service sent no level."""
    latest = _latest(gauges, names.CONCEPT_DRIFT)
    # Of a model with several outputs, show the output with the highest level.
    levels = (gauge for gauge in latest if gauge["name"] == names.LEVEL)
    worst = max(levels, key=lambda gauge: gauge["value"], default=None)
    output = worst and worst["attributes"].get(_OUTPUT)
    by_name = {gauge["name"]: gauge for gauge in latest if gauge["attributes"].get(_OUTPUT) == output}
    level = by_name.get(names.LEVEL)
    if level is None:
        return None
    number = min(max(int(level["value"]), 0), len(names.CONCEPT_DRIFT_LEVELS) - 1)
    rate = by_name.get(names.ERROR_RATE)
    return {
        "level": names.CONCEPT_DRIFT_LEVELS[number],
        "error_rate": rate and rate["value"],
        "output": output,
        "time_ns": level["time_ns"],
    }


def _latest(gauges: Sequence[Record], prefix: str) -> list[Record]:
    """Return the gauges of the latest evaluation whose names begin with a prefix."""
    newest = max(
        (gauge["time_ns"] for gauge in gauges if gauge["name"].startswith((names.EVALUATION, names.CONCEPT_DRIFT))),
        default=0,
    )
    return [gauge for gauge in gauges if gauge["name"].startswith(prefix) and gauge["time_ns"] == newest]


def _values(gauges: Sequence[Record], prefix: str) -> Mapping[str, Any]:
    return {gauge["name"].removeprefix(prefix): gauge["value"] for gauge in gauges if gauge["name"].startswith(prefix)}


def _baseline(gauges: Sequence[Record]) -> Record | None:
    """Return the comparison with held-out rows; None if the bundle does not contain their errors."""
    values = _values(gauges, names.BASELINE)
    state = names.BASELINE_STATES.get(values.get("state", math.nan))
    return {**values, "state": state} if state else None


def _intervals(gauges: Sequence[Record]) -> Record | None:
    """Return the coverage of prediction intervals; None if no labelled prediction has an interval.

    `coverage_low` and `coverage_high` are the bounds of its 95 % interval, and `level` is the nominal coverage.
    """
    values = _values(gauges, names.INTERVAL)
    if not all(name in values for name in names.INTERVAL_SCORES):
        return None
    return {name.replace(".", "_"): values[name] for name in names.INTERVAL_SCORES}


def _period(gauges: Sequence[Record]) -> Record | None:
    """Return start and end of the evaluated period; None if they are unknown."""
    values = _values(gauges, names.EVALUATION)
    end, length = values.get("time", math.nan), values.get("window", math.nan)
    if not 0 <= end - length <= end < _MAX_SECONDS:
        return None
    return {"since_ns": round((end - length) * _SECOND), "until_ns": round(end * _SECOND)}
