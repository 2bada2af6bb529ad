"""Compute the figures of labelled predictions for charts: over time, by confidence, by threshold and by error.

Predictions are selected by their own time, as in the evaluation of the service. Accuracy, ROC AUC, average precision
and mean absolute error have the definitions of scikit-learn and are exact. A curve has the points at the bounds of its
bins.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import Final

import orjson

from modeltrace_hub.decode.values import dump_json
from modeltrace_hub.queries.model_parameters import DAY_NS, HOUR_NS, MINUTE_NS, StepName, Window
from modeltrace_hub.queries.model_schema import read_classes
from modeltrace_hub.queries.reader import Reader, Record

# The number of bins of errors, of values and of labels.
BINS: Final = 20
# The maximum number of points of a curve.
THRESHOLDS: Final = 40
# Larger values and labels are left out, as in the evaluation of the service.
MAX_VALUE: Final = 1e150
# Separates the version and the hash in a key of the classes.
_SEPARATOR: Final = "\x1f"
# The longest windows whose figures over time are by minute and by hour; those of longer windows are by day.
MAX_BY_MINUTE_NS: Final = 2 * HOUR_NS
MAX_HOURLY_NS: Final = 3 * DAY_NS
# Longer windows have no steps of a minute: each step is a point with a link.
MAX_MINUTES_NS: Final = 12 * HOUR_NS
STEP_LENGTHS_NS: Final[Mapping[str, int]] = {"minute": MINUTE_NS, "hour": HOUR_NS, "day": DAY_NS}


def read_quality(reader: Reader, model: str, window: Window, over: StepName | None = None) -> Record:
    """Return the figures of the labelled predictions of a model.

    Args:
        reader: an open reader.
        model: the name of the model.
        window: the time of the predictions.
        over: the length of a step, one of `step_names`. By default, it is a minute in windows of at most two hours, an
            hour in windows of at most three days, else a day. A longer window has no steps of a minute.

    Returns:
        A record with `over`, `step_ns`, and in `versions` a list of records with these keys:

        - `version`, its `classes` (None if they are unknown), and the numbers of `predictions`, of those of a number
          (`numbers`, by a regressor) and of those with a label (`labels`). If several models have this version, each
          has its own record with its `hash`, else None.
        - `steps`: figures over time, by minute, hour or day in UTC, each with `since_ns` (exclusive), `until_ns`
          (inclusive), `predictions`, `labels`, `accuracy`, `roc_auc`, `mean_absolute_error`; None if it cannot be
          computed.
        - `reliability`: tenths of the confidence with `low` (exclusive), `high` (inclusive), `labels`, the mean
          `confidence` and the `accuracy`, as `sklearn.calibration.calibration_curve`.
        - `ranking`: of a model with two classes, `positive_class` (the second one), `labels`, `positives`, `roc_auc`,
          `average_precision`, and in `points` the curves; None without the event `ml.model`, which has the classes. The
          probability of the positive class is the confidence, or 1 - confidence. A point has the probabilities of its
          bin, from `low` to `high` (both inclusive), with `labels` and `positives` in the bin, and the
          `false_positive_rate`, `recall` and `precision` of the rule "probability >= low".
        - `residuals`: of a regressor, bins of the error (value - label), each with `bin` (from 1), `low` (exclusive),
          `high` (inclusive) and `labels`. None means that there is no bound.
        - `values`: of a regressor, cells with `value_bin`, `true_bin`, `value_low`, `value_high`, `true_low`,
          `true_high` and `labels`.
    """
    if over is None or over not in step_names(window):
        length_ns = window.until_ns - window.since_ns
        over = "minute" if length_ns <= MAX_BY_MINUTE_NS else "hour" if length_ns <= MAX_HOURLY_NS else "day"
    step_ns = STEP_LENGTHS_NS[over]
    origin_ns = window.since_ns // step_ns * step_ns
    classes = read_classes(reader, model)
    pairs = {_SEPARATOR.join(key): names for key, names in classes.items() if len(names) == 2}
    rows = reader.fetch_all(
        "evaluate_predictions",
        model=model,
        model_text=dump_json(model),
        classes=orjson.dumps(pairs).decode(),
        since_ns=window.since_ns,
        until_ns=window.until_ns,
        origin_ns=origin_ns,
        step_ns=step_ns,
        bins=BINS,
        thresholds=THRESHOLDS,
        max_value=MAX_VALUE,
    )
    result = []
    for model_key, model_rows in groupby(rows, key=lambda row: row["model"]):
        charts = {chart: [*items] for chart, items in groupby(model_rows, key=lambda row: row["chart"])}
        version = model_key["version"]
        names = classes.get((version, model_key["hash"]), classes.get((version, "")))
        figures = _version_quality(version, charts, names, window, origin_ns, step_ns)
        result.append({**figures, "hash": model_key["hash"] or None})
    return {"over": over, "step_ns": step_ns, "versions": result}


def step_names(window: Window) -> list[str]:
    """Return the names of the steps that a window can have."""
    is_short = window.until_ns - window.since_ns <= MAX_MINUTES_NS
    return [name for name in STEP_LENGTHS_NS if name != "minute" or is_short]


def _version_quality(
    version: str,
    charts: Mapping[str, list[Record]],
    classes: list[str] | None,
    window: Window,
    origin_ns: int,
    step_ns: int,
) -> Record:
    ranking = {row["position"]: row for row in charts.get("ranking", ())}
    steps = []
    for row in charts["time"]:
        since_ns = origin_ns + row["position"] * step_ns
        # A label is the true class of a classifier or the true value of a regressor.
        is_regressor = bool(row["numbers"])
        steps.append(
            {
                "since_ns": max(since_ns, window.since_ns),
                "until_ns": min(since_ns + step_ns, window.until_ns),
                "predictions": row["predictions"],
                "labels": row["labels"],
                "accuracy": row["correct"] / row["labels"] if row["labels"] and not is_regressor else None,
                "roc_auc": ranking[row["position"]]["roc_auc"] if row["position"] in ranking else None,
                "mean_absolute_error": row["total"] / row["errors"] if row["errors"] else None,
            }
        )
    return {
        "version": version,
        "classes": classes,
        "numbers": sum(row["numbers"] for row in charts["time"]),
        "predictions": sum(step["predictions"] for step in steps),
        "labels": sum(step["labels"] for step in steps),
        "steps": steps,
        "reliability": [
            {
                "low": row["low"],
                "high": row["high"],
                "labels": row["labels"],
                "confidence": row["total"] / row["labels"],
                "accuracy": row["correct"] / row["labels"],
            }
            for row in charts.get("reliability", ())
        ],
        "ranking": _ranking(classes[1], ranking[None], charts["threshold"]) if classes and None in ranking else None,
        "residuals": [
            {"bin": row["position"], "low": row["low"], "high": row["high"], "labels": row["labels"]}
            for row in charts.get("residual", ())
        ],
        "values": [
            {
                "value_bin": row["position"],
                "true_bin": row["true_position"],
                "value_low": row["low"],
                "value_high": row["high"],
                "true_low": row["true_low"],
                "true_high": row["true_high"],
                "labels": row["labels"],
            }
            for row in charts.get("value", ())
        ],
    }


def _ranking(positive_class: str, total: Record, bins: list[Record]) -> Record:
    """Return the curves of a model with two classes."""
    positives, negatives = total["positives"], total["labels"] - total["positives"]
    points, labels_above, positives_above = [], 0, 0
    for row in bins:
        labels_above += row["labels"]
        positives_above += row["positives"]
        points.append(
            {
                "low": row["low"],
                "high": row["high"],
                "labels": row["labels"],
                "positives": row["positives"],
                "false_positive_rate": (labels_above - positives_above) / negatives if negatives else None,
                "recall": positives_above / positives if positives else None,
                "precision": positives_above / labels_above,
            }
        )
    return {
        "positive_class": positive_class,
        "labels": total["labels"],
        "positives": positives,
        "roc_auc": total["roc_auc"],
        "average_precision": total["average_precision"],
        "points": points,
    }
