"""Describe the inputs of a prediction: each with its position in the distribution of the training data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.model_schema import OTHER, UNCHANGED, Feature
from modeltrace_hub.web.model_charts import Strip, draw_strip

# The note next to a private input, by its privacy rule.
_PRIVACY_NOTES: Final = {"hash": "hashed", "bucket": "bin only", "drop": "not recorded"}
_PRIVACY_TITLE: Final = "The feature schema of the bundle excludes the value from telemetry."


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `strip` shows the position of a number among the training data; `note` and `title` explain it."""

    name: str
    value: Any
    strip: Strip | None
    note: str
    title: str


def describe_inputs(inputs: Mapping[str, Any], schema: Mapping[str, Feature]) -> list[Input]:
    """Return the inputs in their order, followed by the private features that are not among them."""
    recorded = [_describe_input(name, value, schema.get(name)) for name, value in inputs.items()]
    private = [
        feature.name for feature in schema.values() if feature.name not in inputs and feature.privacy != UNCHANGED
    ]
    return recorded + [Input(name, None, None, _PRIVACY_NOTES["drop"], _PRIVACY_TITLE) for name in private]


def _describe_input(name: str, value: Any, feature: Feature | None) -> Input:  # noqa: ANN401  any JSON
    if feature is not None and feature.privacy != UNCHANGED:
        note = _PRIVACY_NOTES.get(feature.privacy, feature.privacy) if value is not None else "missing"
        return Input(name, value, None, note, _PRIVACY_TITLE)
    if value is None:
        return Input(name, value, None, "missing", "")
    if feature is None or (feature.edges is None and not feature.bins):
        return Input(name, value, None, "", "")
    strip = draw_strip(value, feature)
    if feature.edges is None or strip.position is None:
        is_other = feature.bin_of(value) == OTHER
        title = "The value is rare in the training data, or not in it." if is_other else ""
        return Input(name, value, None, OTHER if is_other else "", title)
    bins = len(feature.edges) + 1
    title = f"{strip.label}: bin {feature.bin_of(value)} of {bins}. Each bin has about 1/{bins} of the training data."
    return Input(name, value, strip, "", title)
