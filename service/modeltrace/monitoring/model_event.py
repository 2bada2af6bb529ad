"""The event with which a model begins to serve: what its inputs must be, and where its bins begin and end."""

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

# Bytes of one record's body: Loki takes lines of up to 256 KB, and 64 KB of all attributes together.
MAX_BODY_BYTES = 100_000

# Ways of treating a feature with which its values may be told.
DISCLOSED_RULES = frozenset({"plain"})


def log_model_event(model: Model) -> None:
    """Log it, features and answers in the body as JSON; of a model with many features, in several records."""
    parts = list(_parts([_feature(feature) for feature in model.schema.features]))
    for number, features in enumerate(parts, 1):
        said = {
            "name": model.name,
            "version": model.version,
            "hash": model.hash,
            "task": model.task,
            "classes": model.classes,
            "output_reference": model.output_reference
            and model.output_reference.model_dump(mode="json", exclude_none=True),
            "confidence_threshold": model.confidence_threshold,
            "features": features,
        }
        logging.getLogger(MODEL_LOGGER).info(
            "%s",
            json.dumps(said, ensure_ascii=False, separators=(",", ":")),
            extra={
                OTEL_EVENT_NAME: EVENT_MODEL,
                ML_MODEL_NAME: model.name,
                ML_MODEL_VERSION: model.version,
                ML_MODEL_HASH: model.hash,
                ML_MODEL_PART: number,
                ML_MODEL_PARTS: len(parts),
            },
        )


def _feature(feature: Feature) -> dict[str, object]:
    """What may be said of a feature: of one that is not sent as it is, neither values nor where they lie."""
    said: dict[str, object] = {"name": feature.name, "type": feature.type, "nullable": feature.nullable}
    if feature.privacy not in DISCLOSED_RULES:
        return {**said, "privacy": feature.privacy}
    reference = feature.reference
    more = {
        "valid_range": feature.valid_range,
        "training_range": feature.training_range,
        "edges": reference.edges,
        "mean": reference.mean,
        "deviation": reference.deviation,
        "bins": None if reference.edges else list(reference.shares),
        "rows": reference.n,
    }
    return {**said, **{key: value for key, value in more.items() if value is not None}}


def _parts(features: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    """The same features in pieces of bounded size."""
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
