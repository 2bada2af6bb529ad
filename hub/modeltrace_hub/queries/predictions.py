"""Find the predictions, labels or schema violations behind a number on a page, each with its trace ID."""

import math
from typing import Any, Final

import orjson

from modeltrace_hub.queries.conditions import sql_conditions
from modeltrace_hub.queries.model_parameters import LOOKBACK_NS, PredictionFilter
from modeltrace_hub.queries.model_schema import BUCKET, MISSING, OTHER, OUTPUT, UNCHANGED, Feature, read_schema
from modeltrace_hub.queries.reader import Reader, Record, json_pointer
from modeltrace_hub.queries.search_windows import collect_newest

_QUERIES: Final = {"predictions": "list_predictions", "labels": "list_labels", "violations": "list_violations"}
_EVENTS: Final = {"predictions": "ml.prediction", "labels": "ml.feedback", "violations": "ml.data.violation"}
_TRUE_CLASS: Final = "attributes ->> '/ml.feedback.label'"
_TRUE_LABEL: Final = (
    f"coalesce({_TRUE_CLASS}, attributes ->> '/ml.feedback.value', attributes ->> '/ml.feedback.class')"
)


def read_predictions(reader: Reader, filters: PredictionFilter) -> Record:
    """Return the newest predictions, labels or violations that match.

    Returns:
        A record with these keys:

        - `kind`: predictions, labels or violations.
        - `items`: the matching ones, newest first.
        - `complete`: false if `limit` cut the list.
        - `bin`: the requested bin with its bounds, or None.
        - `exemplars`: exemplars of the metric points of the bin. They replace `items`, which is then empty, if the
          values of predictions cannot be compared with the bin.
    """
    has_feature = filters.feature or filters.bin
    schema = read_schema(reader, filters.model, filters.version) if filters.model and has_feature else {}
    feature = schema.get(filters.feature or OUTPUT)
    bin_ = _describe_bin(filters, feature)
    result: Record = {"kind": filters.kind, "items": [], "exemplars": [], "complete": True, "bin": bin_}
    if bin_ is not None and not bin_["comparable"]:
        result["exemplars"] = reader.fetch_all(
            "list_bin_exemplars",
            **filters.time_range,
            lookback_ns=LOOKBACK_NS,
            model=filters.model,
            version=filters.version,
            feature=filters.feature,
            bin=filters.bin,
            limit=filters.limit,
        )
        return result
    items = _find_newest(reader, filters, feature)
    # Remove duplicates: a sender that gets no response sends the same record again.
    unique = {tuple(item.values()): item for item in items[: filters.limit]}
    for item in unique.values() if filters.kind == "predictions" else ():
        item["outputs"] = None if item["outputs"] is None else orjson.loads(item["outputs"])
    return {**result, "items": [*unique.values()], "complete": len(items) <= filters.limit}


def _find_newest(reader: Reader, filters: PredictionFilter, feature: Feature | None) -> list[Record]:
    """Return the newest matching items: up to `filters.limit`, and one more if there are more."""
    conditions, values = _build_conditions(reader, filters, feature)
    time_range = filters.time_range
    newest = reader.fetch_one("get_newest_event_time", **time_range, event=_EVENTS[filters.kind])["time_ns"]
    if newest is None:
        return []
    if filters.kind == "predictions":
        key = json_pointer("ml.prediction.inputs") + json_pointer(filters.feature) if filters.feature else None
        values["value_pointer"] = key or json_pointer("ml.prediction.value")

    def fetch(since_ns: int, until_ns: int, limit: int) -> list[Record]:
        return reader.fetch_all(
            _QUERIES[filters.kind], conditions, **values, since_ns=since_ns, until_ns=until_ns, limit=limit
        )

    return collect_newest(fetch, newest, time_range["since_ns"], filters.limit + 1)


def _build_conditions(
    reader: Reader, filters: PredictionFilter, feature: Feature | None
) -> tuple[list[str], dict[str, Any]]:
    """Return the SQL conditions of the filters and their parameters."""
    conditions, values = sql_conditions(reader, filters.conditions)
    if filters.kind == "labels" and filters.true_label is not None:
        conditions.append(f"{_TRUE_LABEL} = $true_label")
        values["true_label"] = filters.true_label
    if filters.kind == "violations":
        conditions.append("$violation IN ('any', attributes ->> '/ml.data.violation.reason')")
        values["violation"] = filters.violation
        if filters.feature is not None:
            conditions.append("attributes ->> '/ml.feature.name' = $feature")
            values["feature"] = filters.feature
    if filters.kind == "labels" and filters.outcome in {"incorrect", "correct"}:
        conditions.append(f"({_TRUE_CLASS} = attributes ->> '/ml.prediction.label') = $correct")
        values["correct"] = filters.outcome == "correct"
    if filters.kind == "predictions" and filters.bin is not None:
        condition, bin_values = bin_condition(filters.bin, feature)
        conditions.append(condition)
        values |= bin_values
    return conditions, values


def bin_condition(name: str, feature: Feature | None) -> tuple[str, dict[str, Any]]:
    """Return the condition that a value is in a bin, and its parameters."""
    value = "attributes ->> $value_pointer"
    interval = feature.interval(name) if feature else None
    if name == MISSING:
        # The service counts a category with the name "missing" in this bin, too.
        return (f"coalesce({value}, '{MISSING}') = '{MISSING}'", {})
    if feature is not None and feature.privacy == BUCKET:
        return f"{value} = $bin", {"bin": name}
    if interval is not None:
        number = f"TRY_CAST({value} AS DOUBLE)"
        return f"{number} > $low AND {number} <= $high", {"low": interval[0], "high": interval[1]}
    if name == OTHER and feature is not None:
        known = [MISSING, *(bin_ for bin_ in feature.bins if bin_ != OTHER)]
        return f"{value} IS NOT NULL AND NOT list_contains($known, {value})", {"known": known}
    return f"{value} = $bin", {"bin": name}


def _describe_bin(filters: PredictionFilter, feature: Feature | None) -> Record | None:
    """Return the requested bin: its bounds, and whether stored values can be compared with them."""
    if filters.bin is None or filters.kind != "predictions":
        return None
    interval = feature.interval(filters.bin) if feature else None
    low, high = interval or (None, None)
    privacy = feature.privacy if feature and feature.privacy != UNCHANGED else None
    has_bounds = feature is not None or filters.bin == MISSING or not filters.bin.isdecimal()
    return {
        "feature": filters.feature,
        "bin": filters.bin,
        "low": low if low is not None and math.isfinite(low) else None,
        "high": high if high is not None and math.isfinite(high) else None,
        "privacy": privacy,
        "comparable": has_bounds and privacy in {None, BUCKET} and (feature is not None or filters.bin != OTHER),
    }
