"""What there is to say of one version of a model, from the counts and gauges of a window.

What no one has sent is absent, and the pages say what is missing.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from modeltrace_hub.queries.queries import Record
from modeltrace_hub.queries.values import finite
from modeltrace_hub.queries.windows import Window

# What is a number in each statistic, and above which no critical value makes sense (drift.sql has the same bound).
_OF_STATISTIC: Final = ("value", "n", "floor", "threshold")
_MOST_CRITICAL: Final = 1e6
# Fewer predictions than this say nothing of drift.
ENOUGH: Final = 200
PREDICTIONS: Final = "ml.predictions"
CONFIDENCE: Final = "ml.prediction.confidence"
LOW: Final = "ml.predictions.low_confidence"
REPEATED: Final = "ml.predictions.repeated"
REPEATED_LIMIT: Final = "ml.predictions.repeated.limit"
REPEAT: Final = "rows repeat"
VIOLATIONS: Final = "ml.data.violations"
FEEDBACK: Final = "ml.feedback"
ERRORS: Final = "ml.feedback.error"
REJECTED: Final = "ml.feedback.rejected"
LOW_CONFIDENCE: Final = "low_confidence"
THRESHOLD: Final = "ml.prediction.confidence.threshold"
COUNTERS: Final = (PREDICTIONS, REPEATED, CONFIDENCE, LOW, VIOLATIONS, FEEDBACK, ERRORS, REJECTED)
COMPARED: Final = (PREDICTIONS, VIOLATIONS, "ml.feature.observations", "ml.feature.sum")

EVALUATION: Final = "ml.evaluation."
SCORES: Final = (
    *("accuracy", "precision", "recall", "f1", "calibration_error", "brier_score"),
    *("mean_absolute_error", "root_mean_squared_error", "r2"),
)
_EVALUATED: Final = (*SCORES, "predictions", "labels", "label_coverage", "label_delay")
CONCEPT_LEVELS: Final = ("stable", "warning", "drift")
_LEVEL, _ERROR_RATE = "ml.concept_drift.level", "ml.concept_drift.error_rate"
FLOOR, CRITICAL = "ml.drift.min_effect", "ml.drift.critical_value"
GAUGES: Final = (
    THRESHOLD,
    REPEATED_LIMIT,
    FLOOR,
    CRITICAL,
    _LEVEL,
    _ERROR_RATE,
    *(f"{EVALUATION}{name}" for name in _EVALUATED),
)


def figures(window: Window, counts: list[Record], gauges: list[Record], compared: list[Record]) -> Record:
    """Compute every metric of one model version. Attributes are texts, values finite numbers."""
    named: dict[str, list[Record]] = defaultdict(list)
    for one in counts:
        named[one["name"]].append(one)
    answered = sum(one["added"] for one in named[PREDICTIONS])
    repeated = _repeated(named[REPEATED], gauges, answered)
    repeat = repeated is not None and repeated["repeat"]
    features = [_judged(one, repeat=repeat) for one in compared if one["feature"] is not None]
    answers = next((_judged(one, repeat=repeat) for one in compared if one["feature"] is None), None)
    return {
        "predictions": _traffic(window, named[PREDICTIONS], answered),
        "repeated": repeated,
        "confidence": _confidence(named[CONFIDENCE], named[LOW], gauges, answered, repeat=repeat),
        "violations": _violations(named[VIOLATIONS]),
        "missing": _missing(features),
        "features": sorted(features, key=_urgency),
        "answers": answers if answers and any(one["share"] for one in answers["bins"]) else None,
        "feedback": _feedback(named),
        "evaluation": _evaluation(gauges),
        "concept_drift": _concept_drift(gauges),
    }


def _repeated(rows: Sequence[Record], gauges: Iterable[Record], answered: float) -> Record | None:
    """How many rows equal one of those just before, and whether they are too many; None where nobody counts them.

    Thresholds of drift are those of independent rows.
    """
    limit = next((one["value"] for one in gauges if one["name"] == REPEATED_LIMIT), None)
    if limit is None:
        return None
    count = min(sum(one["added"] for one in rows), answered)
    repeat = answered >= ENOUGH and count / answered > limit
    return {"count": count, "distinct": answered - count, "limit": limit, "repeat": repeat}


def _traffic(window: Window, rows: Sequence[Record], answered: float) -> Record:
    labels: dict[str, float] = defaultdict(float)
    steps: dict[int, dict[str, float]] = defaultdict(dict)
    for one in rows:
        label = answer_of(one["attributes"])
        labels[label] += one["added"]
        step = steps[one["step"]]
        step[label] = step.get(label, 0) + one["added"]
    return {
        "count": answered,
        "binned": any("ml.prediction.bin" in one["attributes"] for one in rows),
        "per_second": answered / window.seconds,
        "labels": dict(sorted(labels.items())),
        "steps": [
            {"since_ns": since, "until_ns": until, "labels": steps.get(number, {})}
            for number, (since, until) in enumerate(window.steps)
        ],
    }


def answer_of(attributes: Mapping[str, str]) -> str:
    """The label of a classifier or the bin of a regressor that a series counts; "" when it says neither."""
    return attributes.get("ml.prediction.label", attributes.get("ml.prediction.bin", ""))


def _confidence(
    rows: Sequence[Record], low: Sequence[Record], gauges: Sequence[Record], answered: float, *, repeat: bool
) -> Record | None:
    """How sure the model was; None where it has no probabilities, or nothing was counted."""
    bounds, counts = histogram(rows)
    if not bounds:
        return None
    threshold = next((one["value"] for one in gauges if one["name"] == THRESHOLD), None)
    below = sum(one["added"] for one in low) if threshold is not None else None
    share = below / answered if below is not None and answered else None
    limit = low_confidence_limit(_said_of(gauges, FLOOR), _said_of(gauges, CRITICAL), answered)
    state = None
    if limit is not None and share is not None:
        state = "not enough data" if answered < ENOUGH else "drift" if share > limit else "ok"
        state = REPEAT if repeat else state
    return {
        "count": sum(counts),
        "bounds": bounds,
        "counts": counts,
        "threshold": threshold,
        "low": below,
        "low_share": share,
        "limit": limit,
        "state": state,
    }


def low_confidence_limit(floor: float | None, critical: float | None, n: float) -> float | None:
    """What the share of answers with low confidence must exceed of n: the floor, and what chance makes of that."""
    if floor is None or critical is None or not n or not (0 <= floor <= 1 and 0 <= critical <= _MOST_CRITICAL):
        return None
    return floor + critical**2 / (6 * n) + critical * math.sqrt(floor * (1 - floor) / n)


def _said_of(gauges: Iterable[Record], name: str) -> float | None:
    """What a gauge says of the share of answers with low confidence."""
    for one in gauges:
        said = one["attributes"]
        if one["name"] == name and said.get("ml.drift.statistic") == LOW_CONFIDENCE and "ml.feature.name" not in said:
            value: float = one["value"]
            return value
    return None


def histogram(rows: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Bounds and counts of a histogram, all series and steps together; those with other bounds are left out."""
    bounds = next((one["bounds"] for one in rows if one["bounds"]), None)
    if bounds is None:
        return [], []
    counts = [0.0] * (len(bounds) + 1)
    for one in rows:
        if one["bounds"] == bounds and one["place"] <= len(counts):
            counts[one["place"] - 1] += one["added"]
    return bounds, counts


def _half(bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The bound that half of what was counted does not exceed; None beyond the last."""
    seen = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        if 2 * seen >= sum(counts):
            return bound
    return None


def _violations(rows: Iterable[Record]) -> list[Record]:
    """Values that broke the schema, by feature and reason, the most frequent first; some may have been let through."""
    found: dict[tuple[str | None, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in rows:
        said = one["attributes"]
        actions = found[said.get("ml.feature.name"), said.get("ml.data.violation.reason", "")]
        actions[said.get("ml.data.violation.action", "rejected")] += one["added"]
    listed = [
        {"feature": feature, "reason": reason, "count": sum(by.values()), "allowed": by.get("counted", 0.0)}
        for (feature, reason), by in found.items()
    ]
    return sorted(listed, key=lambda one: (-one["count"], one["feature"] or "", one["reason"]))


def _missing(features: Iterable[Record]) -> list[Record]:
    """Where values are missing, now or in the training data, the largest rise first; refused rows count, too."""
    found = []
    for one in features:
        was = next((part for part in one["bins"] if part["bin"] == "missing"), None)
        judged = one["statistics"].get("missing", {})
        rise = judged.get("value")
        if was is None or not (rise or was["share"]):
            continue
        found.append(
            {
                "feature": one["feature"],
                "share": was["share"] + rise if rise is not None else None,
                "reference": was["share"],
                "rise": rise,
                "threshold": judged.get("threshold"),
                "state": judged.get("state"),
            }
        )
    return sorted(found, key=lambda one: -(one["rise"] if one["rise"] is not None else -1))


def _judged(one: Record, *, repeat: bool) -> Record:
    """A feature with one state for all its statistics; None where nobody said what would be drift.

    Where rows `repeat`, no statistic says anything.
    """
    statistics = [
        {**entry, **{name: finite(entry[name]) for name in _OF_STATISTIC}} for entry in one["statistics"] or []
    ]
    for statistic in statistics if repeat else ():
        if statistic["state"] in ("drift", "ok"):
            statistic["state"] = REPEAT
    states = {statistic["state"] for statistic in statistics}
    state = next((state for state in ("drift", REPEAT, "not enough data", "ok") if state in states), None)
    if one["n"] is None or one["n"] < ENOUGH:
        state = "not enough data"
    return {**one, "state": state, "statistics": {entry.pop("statistic"): entry for entry in statistics}}


def _urgency(one: Record) -> tuple[object, ...]:
    """Drifting features first, then those furthest from the training data."""
    psi = one["statistics"].get("psi", {}).get("value")
    return one["state"] != "drift", -(psi if psi is not None else -1), one["feature"]


def _feedback(named: Mapping[str, list[Record]]) -> Record:
    """The labels that arrived in the window: right and wrong ones, by true and predicted label, by age."""
    confusion: dict[tuple[str, str], float] = defaultdict(float)
    ages: dict[str, float] = defaultdict(float)
    for one in named[FEEDBACK]:
        said = one["attributes"]
        if (truth := said.get("ml.feedback.label")) is not None:
            confusion[truth, answer_of(said)] += one["added"]
        ages[said.get("ml.feedback.age", "")] += one["added"]
    labels = sum(confusion.values())
    wrong = sum(count for (truth, predicted), count in confusion.items() if truth != predicted)
    bounds, counts = histogram(named[ERRORS])
    rejected: dict[str, float] = defaultdict(float)
    for one in named[REJECTED]:
        rejected[one["attributes"].get("error.type", "")] += one["added"]
    return {
        "count": sum(ages.values()),
        "wrong": wrong,
        "accuracy": 1 - wrong / labels if labels else None,
        "confusion": [
            {"truth": truth, "predicted": predicted, "count": count}
            for (truth, predicted), count in sorted(confusion.items())
        ],
        "ages": dict(ages),
        "errors": {"bounds": bounds, "counts": counts, "half": _half(bounds, counts)} if bounds else None,
        "rejected": dict(sorted(rejected.items())),
    }


def _evaluation(gauges: Iterable[Record]) -> Record | None:
    """What the service found by the time of the predictions; None as long as it has said nothing."""
    found: Record = {"classes": {}, "time_ns": 0, "label_delay": {}}
    for one in gauges:
        if not one["name"].startswith(EVALUATION):
            continue
        name, said = one["name"].removeprefix(EVALUATION), one["attributes"]
        found["time_ns"] = max(found["time_ns"], one["time_ns"])
        if name == "label_delay":
            found["label_delay"][said.get("quantile", "")] = one["value"]
        elif (label := said.get("ml.evaluation.label")) is not None:
            found["classes"].setdefault(label, {})[name] = one["value"]
        else:
            found[name] = one["value"]
    return found if found["time_ns"] else None


def _concept_drift(gauges: Iterable[Record]) -> Record | None:
    """Whether the error rate itself has changed; None when nobody said."""
    found = {one["name"]: one for one in gauges}
    level = found.get(_LEVEL)
    if level is None:
        return None
    number = min(max(int(level["value"]), 0), len(CONCEPT_LEVELS) - 1)
    rate = found.get(_ERROR_RATE)
    return {"level": CONCEPT_LEVELS[number], "error_rate": rate and rate["value"], "time_ns": level["time_ns"]}
