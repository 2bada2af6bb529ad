"""What a model said of its features when it was loaded: where the bins of its training data begin and end."""

import math
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from modeltrace_hub.queries.queries import Reader
from modeltrace_hub.queries.values import finite, text, text_of

MISSING: Final = "missing"
OTHER: Final = "other"

# The name under which the answers stand among the features.
ANSWERS: Final = ""

# Bins of numbers are named by their place.
_BIN: Final = re.compile(r"[0-9]{1,6}")

# Ways of treating a value that leave it as it was sent.
PLAIN: Final = "plain"
# And the one that tells the bin instead of the value.
BUCKET: Final = "bucket"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    `edges` are the inner bounds of a number's bins, None for anything else; `low` and `high` what the training data ran
    from and to, where that was said.
    """

    name: str
    edges: tuple[float, ...] | None
    bins: tuple[str, ...]
    low: float | None
    high: float | None
    privacy: str

    def interval(self, bin_: str) -> tuple[float, float] | None:
        """A bin's bounds, the lower one outside; None where it has none."""
        if self.edges is None or not _BIN.fullmatch(bin_) or int(bin_) > len(self.edges):
            return None
        bounds = (-math.inf, *self.edges, math.inf)
        return bounds[int(bin_)], bounds[int(bin_) + 1]

    def bin_of(self, value: object) -> str:
        """The bin that a value belongs to."""
        if value is None:
            return MISSING
        if self.edges is not None:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return f"{bisect_left(self.edges, value):02d}"
            return OTHER
        name = text(value)
        return name if name in self.bins else OTHER


def read_schema(reader: Reader, model: str, version: str | None) -> dict[str, Feature]:
    """The features of a model by name, and its answers; empty when its start was not heard of, or is not kept."""
    found = {}
    for record in reader.records("model_said", model=model, version=version):
        for said in _features(record["body"]):
            if (feature := _feature(said)) is not None:
                found[feature.name] = feature
    return found


def _features(body: str | None) -> list[Mapping[str, Any]]:
    """What one record says of features. Anybody may send one: what is not as ours says nothing."""
    try:
        said = orjson.loads(body or "")
    except orjson.JSONDecodeError:
        return []
    if not isinstance(said, Mapping):
        return []
    features, answers = said.get("features"), said.get("output_reference")
    found = [one for one in features if isinstance(one, Mapping)] if isinstance(features, list) else []
    if isinstance(answers, Mapping):
        shares = answers.get("shares")
        found.append({**answers, "name": ANSWERS, "bins": [*shares] if isinstance(shares, Mapping) else []})
    return found


def _feature(said: Mapping[str, Any]) -> Feature | None:
    """A feature as the event describes it; None for what is none."""
    name, edges, bins, span = (said.get(key) for key in ("name", "edges", "bins", "training_range"))
    if not isinstance(name, str):
        return None
    edges, span = _numbers(edges), _numbers(span)
    low, high = span if span and len(span) == 2 else (None, None)
    named = tuple(text(bin_) or "" for bin_ in bins) if isinstance(bins, list) else ()
    return Feature(name, edges, named, low, high, text_of(said, "privacy") or PLAIN)


def _numbers(said: Any) -> tuple[float, ...] | None:  # noqa: ANN401  any JSON
    numbers = [number for one in said if (number := finite(one)) is not None] if isinstance(said, list) else None
    return None if numbers is None or len(numbers) < len(said) else tuple(numbers)
