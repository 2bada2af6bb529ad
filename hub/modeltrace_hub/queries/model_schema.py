"""Read the feature schema that a service logs when it loads a model: bins of the training data, privacy rules."""

import math
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from modeltrace_hub.queries.attribute_values import finite_number, to_text
from modeltrace_hub.queries.reader import Reader

MISSING: Final = "missing"
OTHER: Final = "other"

# The key of the model's output among the features.
OUTPUT: Final = ""

# The bins of a numeric feature are named by their number.
_BIN_NUMBER: Final = re.compile(r"[0-9]{1,6}")

# Privacy rule of a feature: its values are sent unchanged.
UNCHANGED: Final = "plain"
# Privacy rule of a feature: the name of the bin is sent instead of the value.
BUCKET: Final = "bucket"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature."""

    name: str
    edges: tuple[float, ...] | None  # inner bounds of the bins of a numeric feature; None for others
    bins: tuple[str, ...]  # names of the bins
    low: float | None  # smallest value of the training data, if the event says so
    high: float | None  # largest value of the training data, if the event says so
    privacy: str  # privacy rule of the values
    importance: float | None = None  # its share in the importances of all features for the model; None: unknown

    def interval(self, bin_: str) -> tuple[float, float] | None:
        """Return the bounds of a numeric bin, the lower one exclusive; None for other bins."""
        if self.edges is None or not _BIN_NUMBER.fullmatch(bin_) or int(bin_) > len(self.edges):
            return None
        bounds = (-math.inf, *self.edges, math.inf)
        return bounds[int(bin_)], bounds[int(bin_) + 1]

    def bin_of(self, value: object) -> str:
        """Return the bin that contains a value."""
        if value is None:
            return MISSING
        if self.edges is not None:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return f"{bisect_left(self.edges, value):02d}"
            return OTHER
        name = to_text(value)
        return name if name in self.bins else OTHER


def read_schema(reader: Reader, model: str, version: str | None, model_hash: str | None = None) -> dict[str, Feature]:
    """Return the features of a model by name, and its output by the key `OUTPUT`; empty if no event is stored.

    Args:
        reader: an open reader.
        model: the name of the model.
        version: the version; None selects the model that was loaded last.
        model_hash: the hash, if several models have this version; None selects the one that was loaded last.
    """
    schema = {}
    for record in reader.fetch_all("get_model_event", model=model, version=version, hash=model_hash):
        for description in _parse_event(record["body"]):
            if (feature := _parse_feature(description)) is not None:
                schema[feature.name] = feature
    return schema


def read_classes(reader: Reader, model: str) -> dict[tuple[str, str], list[str]]:
    """Return the classes of each version and hash, in the order of the model, as texts of labels.

    With an empty hash, the classes are those of the model of the version that was loaded last. Models without classes,
    and those whose `ml.model` event is not stored, are left out.
    """
    by_model: dict[tuple[str, str], list[str]] = {}
    for event in reader.fetch_all("list_model_bodies", model=model):
        classes = _parse_object(event["body"]).get("classes")
        for model_hash in {event["hash"], ""}:
            by_model.pop((event["version"], model_hash), None)
            if isinstance(classes, list):
                # A service writes a label as Python's `str` does: True, 1.0.
                by_model[event["version"], model_hash] = [str(name) for name in classes]
    return by_model


def _parse_object(body: str | None) -> Mapping[str, Any]:
    """Return the JSON object of an event. Ignore wrong types: any sender can send an event."""
    try:
        event = orjson.loads(body or "")
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, Mapping) else {}


def _parse_event(body: str | None) -> list[Mapping[str, Any]]:
    """Return the feature descriptions of an `ml.model` event."""
    event = _parse_object(body)
    features, output = event.get("features"), event.get("output_reference")
    descriptions = [item for item in features if isinstance(item, Mapping)] if isinstance(features, list) else []
    if isinstance(output, Mapping):
        shares = output.get("shares")
        descriptions.append({**output, "name": OUTPUT, "bins": [*shares] if isinstance(shares, Mapping) else []})
    return descriptions


def _parse_feature(description: Mapping[str, Any]) -> Feature | None:
    """Return the described feature; None without a name."""
    name, edges, bins, value_range = (description.get(key) for key in ("name", "edges", "bins", "training_range"))
    if not isinstance(name, str):
        return None
    edges, value_range = _parse_numbers(edges), _parse_numbers(value_range)
    low, high = value_range if value_range and len(value_range) == 2 else (None, None)
    bin_names = tuple(to_text(bin_) or "" for bin_ in bins) if isinstance(bins, list) else ()
    privacy, importance = to_text(description.get("privacy")) or UNCHANGED, finite_number(description.get("importance"))
    return Feature(name, edges, bin_names, low, high, privacy, importance)


def _parse_numbers(values: Any) -> tuple[float, ...] | None:  # noqa: ANN401  any JSON
    """Return a list of finite numbers; None for anything else."""
    if not isinstance(values, list):
        return None
    numbers = tuple(number for value in values if (number := finite_number(value)) is not None)
    return None if len(numbers) < len(values) else numbers
