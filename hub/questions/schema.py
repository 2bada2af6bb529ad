"""What a model said of its features when it was loaded: where the bins of its training data begin and end."""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from hub.questions.queries import Reader

MISSING: Final = "missing"
OTHER: Final = "other"

# Ways of treating a value that leave it as it was sent.
PLAIN: Final = "plain"


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
        if self.edges is None or not bin_.isdecimal() or int(bin_) > len(self.edges):
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
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        return text if text in self.bins else OTHER


def read_schema(reader: Reader, model: str, version: str | None) -> dict[str, Feature]:
    """The features of a model by name; empty when its start has not been heard of, or is not kept any more."""
    said = next(iter(reader.records("model_said", model=model, version=version)), None)
    if said is None:
        return {}
    features = _schema(said["attributes"]).get("features")
    found = [_feature(one) for one in features if isinstance(one, Mapping)] if isinstance(features, list) else []
    return {one.name: one for one in found if one is not None}


def _schema(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    said = attributes.get("ml.model.schema")
    if isinstance(said, str):
        try:
            said = orjson.loads(said)
        except orjson.JSONDecodeError:
            said = None
    if isinstance(said, list):
        return {"features": said}
    return said if isinstance(said, Mapping) else {}


def _feature(said: Mapping[str, Any]) -> Feature | None:
    """A feature as the event describes it; None for what is none."""
    name, reference = said.get("name"), said.get("reference")
    if not isinstance(name, str):
        return None
    reference = reference if isinstance(reference, Mapping) else {}
    edges = said.get("edges", reference.get("edges"))
    bins = said.get("bins", [*reference.get("shares", {})])
    low, high = said.get("training_range") or (None, None)
    return Feature(
        name=name,
        edges=tuple(edges) if edges is not None else None,
        bins=tuple(map(str, bins)),
        low=low,
        high=high,
        privacy=str(said.get("privacy", PLAIN)),
    )
