"""The event `ml.model`: it describes the features of a model and their bins when the model begins to serve."""

import json
import logging
from collections.abc import Iterator

from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from modeltrace.inference.model import Model
from modeltrace.inference.schema import Feature
from modeltrace.telemetry.names import (
    EVENT_MODEL,
    ML_MODEL_HASH,
    ML_MODEL_NAME,
    ML_MODEL_PART,
    ML_MODEL_PARTS,
    ML_MODEL_VERSION,
)
from modeltrace.telemetry.records.prediction import MODEL_LOGGER

# Maximum size of the features in one record. Loki accepts lines of up to 256 KB, and attributes of 64 KB in total.
MAX_BODY_BYTES = 100_000

# The event contains ranges and bins only of features with one of these privacy rules.
DISCLOSED_RULES = frozenset({"plain"})


def log_model_event(model: Model) -> None:
    """Log the event. Its body describes features and outputs as JSON. Many features are split into several records."""
    shares = {} if model.importance is None else model.importance.shares()
    parts = list(_split([_describe(feature, shares.get(feature.name)) for feature in model.schema.features]))
    for number, features in enumerate(parts, 1):
        reference = model.output_reference
        body = {
            "name": model.name,
            "version": model.version,
            "hash": model.hash,
            "task": model.task,
            "classes": model.classes,
            "outputs": [output.model_dump(mode="json", exclude_none=True) for output in model.outputs],
            "output_reference": reference and reference.model_dump(mode="json", exclude_none=True),
            "confidence_threshold": model.confidence_threshold,
            "features": features,
        }
        logging.getLogger(MODEL_LOGGER).info(
            "%s",
            json.dumps(body, ensure_ascii=False, separators=(",", ":")),
            extra={
                OTEL_EVENT_NAME: EVENT_MODEL,
                ML_MODEL_NAME: model.name,
                ML_MODEL_VERSION: model.version,
                ML_MODEL_HASH: model.hash,
                ML_MODEL_PART: number,
                ML_MODEL_PARTS: len(parts),
            },
        )


def _describe(feature: Feature, importance: float | None) -> dict[str, object]:
    """Describe a feature. The description of a private feature has no ranges, bins or values.

    `importance` is its share in the importances of all features; `None` if it is unknown.
    """
    common: dict[str, object] = {"name": feature.name, "type": feature.type, "nullable": feature.nullable}
    if feature.privacy not in DISCLOSED_RULES:
        return {**common, "privacy": feature.privacy}
    reference = feature.reference
    distribution = {
        "valid_range": feature.valid_range,
        "training_range": feature.training_range,
        "edges": reference.edges,
        "mean": reference.mean,
        "deviation": reference.deviation,
        "bins": None if reference.edges else list(reference.shares),
        "rows": reference.n,
        "importance": importance,
    }
    return {**common, **{key: value for key, value in distribution.items() if value is not None}}


def _split(features: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    """Split the features into parts of at most `MAX_BODY_BYTES`."""
    part: list[dict[str, object]] = []
    size = 0
    for feature in features:
        length = len(json.dumps(feature, ensure_ascii=False).encode())
        if part and size + length > MAX_BODY_BYTES:
            yield part
            part, size = [], 0
        part.append(feature)
        size += length
    yield part
