"""From a figure to the predictions behind it: audit records, labels, violations, each with its trace ID."""

import math
from typing import Any, Final

from modeltrace_hub.queries.model_schema import ANSWERS, BUCKET, MISSING, OTHER, PLAIN, Feature, read_schema
from modeltrace_hub.queries.queries import Reader, Record, pointer
from modeltrace_hub.queries.windows import LOOKBACK_NS, MINUTE, PredictionFilter

# The newest predictions are looked for in spans of time that grow until there are enough.
SPANS_NS: Final = (MINUTE, 10 * MINUTE, 60 * MINUTE, 6 * 60 * MINUTE, 48 * 60 * MINUTE)

_QUESTIONS: Final = {"predictions": "predictions", "labels": "prediction_labels", "violations": "prediction_violations"}
_EVENTS: Final = {"predictions": "prediction", "labels": "feedback", "violations": "data.violation"}
_TRUTH: Final = "coalesce(attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value')"


def read_predictions(reader: Reader, asked: PredictionFilter) -> Record:
    """`kind` says what is listed in `found`; `whole` is false when `limit` cut it off.

    `bin` is the bin asked for with its bounds. Where values cannot be compared, `exemplars` holds the few traces that
    metric points name, and `found` is empty.
    """
    schema = read_schema(reader, asked.model, asked.version) if asked.model and (asked.feature or asked.bin) else {}
    feature = schema.get(asked.feature or ANSWERS)
    place = _bin(asked, feature)
    answer: Record = {"kind": asked.kind, "found": [], "exemplars": [], "whole": True, "bin": place}
    if place is not None and not place["comparable"]:
        answer["exemplars"] = reader.records(
            "bin_exemplars",
            **asked.between,
            lookback_ns=LOOKBACK_NS,
            model=asked.model,
            version=asked.version,
            feature=asked.feature,
            bin=asked.bin,
            limit=asked.limit,
        )
        return answer
    filters, values = _conditions(asked, feature)
    found = _newest(reader, asked, filters, values)
    # A sender that got no answer sends again, so the same record may be there twice.
    once = {tuple(one.values()): one for one in found[: asked.limit]}
    return {**answer, "found": [*once.values()], "whole": len(found) <= asked.limit}


def _newest(reader: Reader, asked: PredictionFilter, filters: list[str], values: dict[str, Any]) -> list[Record]:
    """The newest of them, and one more than asked for if there are more."""
    between = asked.between
    newest = reader.one("newest_event", **between, event=f"ml.{_EVENTS[asked.kind]}")["time_ns"]
    if newest is None:
        return []
    if asked.kind == "predictions":
        of_feature = f"{pointer('ml.prediction.inputs')}{pointer(asked.feature)}" if asked.feature else None
        values["value_at"] = of_feature or pointer("ml.prediction.value")
    found: list[Record] = []
    for span in (*SPANS_NS, math.inf):
        since = max(between["since_ns"], newest - span) if span != math.inf else between["since_ns"]
        found = reader.records(
            _QUESTIONS[asked.kind],
            filters,
            **values,
            since_ns=int(since),
            until_ns=between["until_ns"],
            limit=asked.limit + 1,
        )
        if len(found) > asked.limit or since == between["since_ns"]:
            break
    return found


# The conditions that a filter stands for, by what is listed. The values have the filter's name.
_OF_ALL: Final = {
    "model": "attributes ->> '/ml.model.name' = $model",
    "version": "attributes ->> '/ml.model.version' = $version",
}
_CONDITIONS: Final = {
    "predictions": {
        "label": "attributes ->> '/ml.prediction.label' = $label",
        "above": "TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE) > $above",
        "below": "TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE) <= $below",
    },
    "labels": {
        "label": "attributes ->> '/ml.prediction.label' = $label",
        "truth": f"{_TRUTH} = $truth",
    },
    "violations": {
        "violation": "$violation IN ('any', attributes ->> '/ml.data.violation.reason')",
        "feature": "attributes ->> '/ml.feature.name' = $feature",
    },
}


def _conditions(asked: PredictionFilter, feature: Feature | None) -> tuple[list[str], dict[str, Any]]:
    """What is asked for, as fixed conditions and their values."""
    known = _OF_ALL | _CONDITIONS[asked.kind]
    values: dict[str, Any] = {name: value for name in known if (value := getattr(asked, name)) is not None}
    filters = [known[name] for name in values]
    if asked.kind == "labels" and asked.outcome in {"wrong", "right"}:
        filters.append(f"({_TRUTH} = attributes ->> '/ml.prediction.label') = $right")
        values["right"] = asked.outcome == "right"
    if asked.kind == "predictions" and asked.bin is not None:
        condition, of_bin = _in_bin(asked.bin, feature)
        filters.append(condition)
        values |= of_bin
    return filters, values


def _in_bin(name: str, feature: Feature | None) -> tuple[str, dict[str, Any]]:
    """The condition that a value falls into a bin, and its values."""
    value = "attributes ->> $value_at"
    interval = feature.interval(name) if feature else None
    if name == MISSING:
        # A category of that very name counts there, too.
        return (f"coalesce({value}, '{MISSING}') = '{MISSING}'", {})
    if feature is not None and feature.privacy == BUCKET:
        return f"{value} = $bin", {"bin": name}
    if interval is not None:
        number = f"TRY_CAST({value} AS DOUBLE)"
        return f"{number} > $low AND {number} <= $high", {"low": interval[0], "high": interval[1]}
    if name == OTHER and feature is not None:
        known = [MISSING, *(one for one in feature.bins if one != OTHER)]
        return f"{value} IS NOT NULL AND NOT list_contains($known, {value})", {"known": known}
    return f"{value} = $bin", {"bin": name}


def _bin(asked: PredictionFilter, feature: Feature | None) -> Record | None:
    """The bin asked for: its bounds, and whether values of audit records can be compared with them."""
    if asked.bin is None or asked.kind != "predictions":
        return None
    interval = feature.interval(asked.bin) if feature else None
    low, high = interval or (None, None)
    private = feature.privacy if feature and feature.privacy != PLAIN else None
    known = feature is not None or asked.bin == MISSING or not asked.bin.isdecimal()
    return {
        "feature": asked.feature,
        "bin": asked.bin,
        "low": low if low is not None and math.isfinite(low) else None,
        "high": high if high is not None and math.isfinite(high) else None,
        "privacy": private,
        "comparable": known and private in {None, BUCKET} and (feature is not None or asked.bin != OTHER),
    }
