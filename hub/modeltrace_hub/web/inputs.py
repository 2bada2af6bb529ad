"""The inputs of a prediction as its trace's page lists them: each with its place among the training data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.model_schema import OTHER, PLAIN, Feature
from modeltrace_hub.web.model_charts import Strip, draw_strip

# What is written of values that are not told as they were sent.
_PRIVATE: Final = {"hash": "hashed", "bucket": "its bin", "drop": "not kept"}


@dataclass(frozen=True, slots=True)
class Input:
    """One input: the value, `strip` with its place if that is a number's, `note` for what else there is to say."""

    name: str
    value: Any
    strip: Strip | None
    note: str
    title: str


def mark_inputs(inputs: Mapping[str, Any], schema: Mapping[str, Feature]) -> list[Input]:
    """The inputs in their order, then the features of which nothing is kept."""
    found = [_mark(name, value, schema.get(name)) for name, value in inputs.items()]
    kept = [one for one in schema.values() if one.name not in inputs and one.privacy != PLAIN]
    return found + [
        Input(one.name, None, None, _PRIVATE["drop"], "The schema of the bundle keeps it from all telemetry.")
        for one in kept
    ]


def _mark(name: str, value: Any, feature: Feature | None) -> Input:  # noqa: ANN401  any JSON
    if feature is not None and feature.privacy != PLAIN:
        note = _PRIVATE.get(feature.privacy, feature.privacy) if value is not None else "missing"
        return Input(name, value, None, note, "The schema of the bundle keeps the value itself from all telemetry.")
    if value is None:
        return Input(name, value, None, "missing", "")
    if feature is None or (feature.edges is None and not feature.bins):
        return Input(name, value, None, "", "")
    strip = draw_strip(value, feature)
    if feature.edges is None or strip.place is None:
        rare = feature.bin_of(value) == OTHER
        title = "The training data does not have it, or only rarely." if rare else ""
        return Input(name, value, None, OTHER if rare else "", title)
    bins = len(feature.edges) + 1
    title = f"{strip.words}: bin {feature.bin_of(value)} of {bins}, each with about a {bins}th of the training data."
    return Input(name, value, strip, "", title)
