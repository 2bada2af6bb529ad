"""Compute the metrics of one model version from the counters and gauges of a window.

A metric that no service has sent is None or empty; the pages explain what is missing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from modeltrace_hub.queries import model_metric_names as names
from modeltrace_hub.queries.attribute_values import finite_number
from modeltrace_hub.queries.drift_states import MIN_ROWS, NO_HELD_OUT_REFERENCE, ROWS_REPEAT, STATES
from modeltrace_hub.queries.evaluation import concept_drift, evaluation
from modeltrace_hub.queries.low_confidence import low_confidence
from modeltrace_hub.queries.model_parameters import Window
from modeltrace_hub.queries.reader import Record

# The numeric fields of a drift statistic.
_NUMERIC_FIELDS: Final = ("value", "n", "independent", "min_effect", "threshold")


def version_metrics(
    window: Window,
    counts: list[Record],
    gauges: list[Record],
    drift_rows: list[Record],
    evaluated: list[Record],
    first_ns: int,
) -> Record:
    """Compute all metrics of one model version.

    Args:
        window: the window.
        counts: rows of sum_model_counters.sql; attributes are text.
        gauges: rows of get_model_gauges.sql; values are finite.
        drift_rows: rows of compute_drift.sql, one per feature, one for the output, and one per named output.
        evaluated: rows of get_model_gauges.sql with the evaluation of this model.
        first_ns: the time of the first telemetry of the version in the window.
    """
    rows_by_name: dict[str, list[Record]] = defaultdict(list)
    for row in counts:
        rows_by_name[row["name"]].append(row)
    predictions = sum(row["added"] for row in rows_by_name[names.PREDICTIONS])
    repeated = _repeated_rows(rows_by_name[names.REPEATED], gauges, predictions)
    rows_repeat = repeated is not None and repeated["exceeded"]
    compared = [_feature_drift(row, rows_repeat=rows_repeat) for row in drift_rows]
    named_outputs = [row for row in compared if row["output"] is not None]
    features = [row for row in compared if row["feature"] is not None]
    output = next((row for row in compared if row["feature"] is None and row["output"] is None), None)
    # The share of independent predictions, computed from the output, also applies to the confidence.
    independent_share = output["independent_share"] if output else 1.0
    return {
        "predictions": {
            **_traffic(window, rows_by_name[names.PREDICTIONS], predictions, first_ns),
            "synthetic": sum(row["added"] for row in rows_by_name[names.SYNTHETIC]),
        },
        "repeated_rows": repeated,
        "confidence": _confidence(rows_by_name, gauges, rows_repeat=rows_repeat, independent_share=independent_share),
        "violations": _violations(rows_by_name[names.VIOLATIONS]),
        "missing_values": _missing_values(features),
        "features": sorted(features, key=_drift_order),
        "output": output if output and any(bin_["share"] for bin_ in output["bins"]) else None,
        "named_outputs": sorted(named_outputs, key=_drift_order),
        "feedback": _feedback(rows_by_name),
        "evaluation": evaluation(evaluated),
        "concept_drift": concept_drift(evaluated),
    }


def _repeated_rows(rows: Sequence[Record], gauges: Iterable[Record], predictions: float) -> Record | None:
    """Count the rows that equal a recent row; None if the service does not count such rows.

    Drift thresholds assume independent rows. If too many rows repeat, no drift state is valid.
    """
    limit = next((gauge["value"] for gauge in gauges if gauge["name"] == names.REPEATED_LIMIT), None)
    if limit is None:
        return None
    count = min(sum(row["added"] for row in rows), predictions)
    exceeded = predictions >= MIN_ROWS and count / predictions > limit
    return {"count": count, "distinct": predictions - count, "limit": limit, "exceeded": exceeded}


def _traffic(window: Window, rows: Sequence[Record], predictions: float, first_ns: int) -> Record:
    outputs: dict[str, float] = defaultdict(float)
    steps: dict[int, dict[str, float]] = defaultdict(dict)
    for row in rows:
        output = output_of(row["attributes"])
        outputs[output] += row["added"]
        step = steps[row["step"]]
        step[output] = step.get(output, 0) + row["added"]
    return {
        "count": predictions,
        "binned": any("ml.prediction.bin" in row["attributes"] for row in rows),
        "per_second": predictions / window.seconds_since(first_ns),
        "outputs": dict(sorted(outputs.items())),
        "steps": [
            {"since_ns": since, "until_ns": until, "outputs": steps.get(number, {})}
            for number, (since, until) in enumerate(window.steps)
        ],
    }


def output_of(attributes: Mapping[str, str]) -> str:
    """Return the label of a classifier or the bin of a regressor that a series counts; "" if it has neither."""
    return attributes.get("ml.prediction.label", attributes.get("ml.prediction.bin", ""))


def _confidence(
    rows_by_name: Mapping[str, list[Record]],
    gauges: Sequence[Record],
    *,
    rows_repeat: bool,
    independent_share: float,
) -> Record | None:
    """Return the distribution of confidence; None without probabilities or predictions."""
    bounds, counts = merge_histograms(rows_by_name[names.CONFIDENCE])
    if not bounds:
        return None
    n = sum(row["added"] for row in rows_by_name[names.CONFIDENCE])
    low = low_confidence(
        rows_by_name[names.LOW_CONFIDENCE_PREDICTIONS],
        gauges,
        n,
        rows_repeat=rows_repeat,
        independent_share=independent_share,
    )
    return {"count": n, "bounds": bounds, "counts": counts, **low}


def merge_histograms(rows: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Return bounds and counts, summed over series and steps. Rows whose bounds differ from the first are ignored."""
    bounds = next((row["bounds"] for row in rows if row["bounds"]), None)
    if bounds is None:
        return [], []
    counts = [0.0] * (len(bounds) + 1)
    for row in rows:
        if row["bounds"] == bounds and row["bucket"] <= len(counts):
            counts[row["bucket"] - 1] += row["added"]
    return bounds, counts


def _violations(rows: Iterable[Record]) -> list[Record]:
    """Count schema violations by feature and reason, the most frequent first; `allowed` counts accepted ones."""
    by_action: dict[tuple[str | None, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        attributes = row["attributes"]
        actions = by_action[attributes.get("ml.feature.name"), attributes.get("ml.data.violation.reason", "")]
        actions[attributes.get("ml.data.violation.action", "rejected")] += row["added"]
    violations = [
        {"feature": feature, "reason": reason, "count": sum(counts.values()), "allowed": counts.get("counted", 0.0)}
        for (feature, reason), counts in by_action.items()
    ]
    return sorted(violations, key=lambda item: (-item["count"], item["feature"] or "", item["reason"]))


def _missing_values(features: Iterable[Record]) -> list[Record]:
    """Return features with missing values in the window or in the training data, the largest change first.

    The counts include rows that the service rejected because of a missing value.
    """
    result = []
    for feature in features:
        missing_bin = next((bin_ for bin_ in feature["bins"] if bin_["bin"] == "missing"), None)
        statistic = feature["statistics"].get("missing", {})
        increase = statistic.get("value")
        if missing_bin is None or not (increase or missing_bin["share"]):
            continue
        result.append(
            {
                "feature": feature["feature"],
                "share": missing_bin["share"] + increase if increase is not None else None,
                "reference": missing_bin["share"],
                "increase": increase,
                "threshold": statistic.get("threshold"),
                "state": statistic.get("state"),
            }
        )
    return sorted(result, key=lambda item: -abs(item["increase"] or 0))


def _feature_drift(row: Record, *, rows_repeat: bool) -> Record:
    """Return the drift of a feature with one state for all its statistics; None if the service sends no thresholds.

    If rows repeat, no statistic has a state of its own.
    """
    statistics = [
        {**statistic, **{name: finite_number(statistic[name]) for name in _NUMERIC_FIELDS}}
        for statistic in row["statistics"] or []
    ]
    for statistic in statistics if rows_repeat else ():
        if statistic["state"] in ("drift", "ok", "reference too small"):
            statistic["state"] = ROWS_REPEAT
    state = next((state for state in STATES if any(item["state"] == state for item in statistics)), None)
    if state != NO_HELD_OUT_REFERENCE and (row["n"] is None or row["n"] < MIN_ROWS):
        state = "not enough data"
    return {**row, "state": state, "statistics": {statistic.pop("statistic"): statistic for statistic in statistics}}


def _drift_order(feature: Record) -> tuple[object, ...]:
    """Return a sort key: drifting features first, then by PSI."""
    psi = feature["statistics"].get("psi", {}).get("value")
    return feature["state"] != "drift", -(psi if psi is not None else -1), feature["feature"] or feature["output"]


def _feedback(rows_by_name: Mapping[str, list[Record]]) -> Record:
    """Count the labels that arrived in the window, by true and predicted label and by age."""
    confusion: dict[tuple[str, str], float] = defaultdict(float)
    ages: dict[str, float] = defaultdict(float)
    for row in rows_by_name[names.FEEDBACK]:
        attributes = row["attributes"]
        if (true_label := attributes.get("ml.feedback.label")) is not None:
            confusion[true_label, output_of(attributes)] += row["added"]
        ages[attributes.get("ml.feedback.age", "")] += row["added"]
    labels = sum(confusion.values())
    incorrect = sum(count for (true_label, predicted), count in confusion.items() if true_label != predicted)
    bounds, counts = merge_histograms(rows_by_name[names.FEEDBACK_ERRORS])
    rejected: dict[str, float] = defaultdict(float)
    for row in rows_by_name[names.REJECTED_FEEDBACK]:
        rejected[row["attributes"].get("error.type", "")] += row["added"]
    return {
        "count": sum(ages.values()),
        "incorrect": incorrect,
        "accuracy": 1 - incorrect / labels if labels else None,
        "confusion": [
            {"true_label": true_label, "predicted_label": predicted, "count": count}
            for (true_label, predicted), count in sorted(confusion.items())
        ],
        "ages": dict(ages),
        "errors": {"bounds": bounds, "counts": counts} if bounds else None,
        "rejected": dict(sorted(rejected.items())),
    }
