"""What /docs says about the calls: the bundle's own features and classes, with an example of each body."""

from collections.abc import Sequence
from typing import Any

from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.validate import MAX_FLOAT, MAX_INTEGER

JSON_TYPES = {"number": "number", "integer": "integer", "boolean": "boolean", "text": "string"}

ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error", "trace_id"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "violations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["feature", "reason", "message"],
                        "properties": {name: {"type": "string"} for name in ("feature", "reason", "message")},
                    },
                },
            },
        },
        "trace_id": {"type": ["string", "null"]},
    },
}
PREDICTION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prediction_id": {"type": "string"},
        "label": {"type": ["string", "number", "boolean"]},
        "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "value": {"type": "number"},
    },
}
MODEL: dict[str, Any] = {
    "type": "object",
    "required": ["name", "version"],
    "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
}
# A row that breaks the feature schema is answered in its place, so the call takes any.
ROW_OF_ANY_SHAPE = {
    "description": "A row, as `features` of POST /predict. One that is refused has its error in its place."
}
ERROR_DESCRIPTIONS = {
    400: "Not JSON, or not the shape that the call takes.",
    413: "More bytes or rows than the limits allow.",
    415: "A Content-Encoding other than gzip, deflate or zstd.",
    422: "Values that break the feature schema.",
    500: "The model failed.",
    503: "Too many requests wait for the model.",
}

# A label that is refused has its error in its place, so the call takes any.
LABEL_OF_ANY_SHAPE = {
    "description": "A label, as it would be sent by itself. A rejected label has its error in its place."
}
FEEDBACK_ERROR_DESCRIPTIONS: dict[int | str, str] = {
    400: ERROR_DESCRIPTIONS[400],
    404: "No prediction ID of this service.",
    409: "The prediction has another label already, and the first one stays.",
    413: "More bytes or labels than the limits allow.",
    415: ERROR_DESCRIPTIONS[415],
    422: "The model cannot answer that label.",
    503: "Labels cannot be stored for now: send them again.",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a call, for its documentation."""
    return {
        status: {"description": ERROR_DESCRIPTIONS[status], "content": {"application/json": {"schema": ERROR}}}
        for status in statuses
    }


def predict_operation(schema: Schema) -> dict[str, Any]:
    """How `POST /predict` is documented."""
    body = {
        "type": "object",
        "required": ["features"],
        "additionalProperties": False,
        "properties": {"features": _row(schema)},
        "example": {"features": _example(schema)},
    }
    answer = {
        "type": "object",
        "required": ["prediction_id", "model", "trace_id"],
        "properties": {**PREDICTION["properties"], "model": MODEL, "trace_id": {"type": ["string", "null"]}},
    }
    return _operation(body, answer, error_responses(400, 413, 415, 422, 500, 503))


def batch_operation(schema: Schema) -> dict[str, Any]:
    """How `POST /predict/batch` is documented. A row that is refused does not refuse the others."""
    body = {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {"rows": {"type": "array", "items": ROW_OF_ANY_SHAPE}},
        "example": {"rows": [_example(schema)]},
    }
    answer = {
        "type": "object",
        "required": ["predictions", "model", "trace_id"],
        "properties": {
            "predictions": {"type": "array", "items": {"anyOf": [PREDICTION, ERROR["properties"]["error"]]}},
            "model": MODEL,
            "trace_id": {"type": ["string", "null"]},
        },
    }
    return _operation(body, answer, error_responses(400, 413, 415, 500, 503))


def refresh(
    document: dict[str, Any], title: str, schema: Schema, classes: Sequence[str | float | bool] | None
) -> dict[str, Any]:
    """The description of the API, as it is of the version that is served now."""
    document["info"]["title"] = title
    operations = predict_operation(schema), batch_operation(schema), feedback_operation(classes)
    for path, operation in zip(("/predict", "/predict/batch", "/feedback"), operations, strict=True):
        document["paths"][path]["post"] |= operation["openapi_extra"]
    return document


def feedback_operation(classes: Sequence[str | float | bool] | None) -> dict[str, Any]:
    """How `POST /feedback` is documented; `classes`: `None` for a regressor."""
    label: dict[str, Any] = {"type": "number", "minimum": -MAX_FLOAT, "maximum": MAX_FLOAT}
    if classes is not None:
        label = {"enum": list(classes)}
    one = {
        "type": "object",
        "required": ["prediction_id", "label"],
        "additionalProperties": False,
        "properties": {"prediction_id": {"type": "string"}, "label": label},
    }
    many = {
        "type": "object",
        "required": ["items"],
        "additionalProperties": False,
        "properties": {"items": {"type": "array", "items": LABEL_OF_ANY_SHAPE}},
    }
    example = {"prediction_id": "as POST /predict answered it", "label": classes[0] if classes else 0.0}
    trace_id = {"type": ["string", "null"]}
    taken = {
        "type": "object",
        "required": ["prediction_id", "status", "trace_id"],
        "properties": {
            "prediction_id": {"type": "string"},
            "status": {"enum": ["new", "same"]},
            "trace_id": {**trace_id, "description": "The prediction's; the request's own is in the header X-Trace-Id."},
        },
    }
    each = {
        "type": "object",
        "required": ["results", "trace_id"],
        "properties": {
            "results": {"type": "array", "items": {"anyOf": [taken, {"type": "object", "required": ["error"]}]}},
            "trace_id": trace_id,
        },
    }
    refusals = {
        status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
        for status, text in FEEDBACK_ERROR_DESCRIPTIONS.items()
    }
    return _operation({"anyOf": [one, many], "example": example}, {"anyOf": [taken, each]}, refusals)


def _operation(
    body: dict[str, Any], answer: dict[str, Any], refusals: dict[int | str, dict[str, Any]]
) -> dict[str, Any]:
    answered = {"description": "Answered.", "content": {"application/json": {"schema": answer}}}
    return {
        "responses": {200: answered, **refusals},
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    }


def _row(schema: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": schema.on_unknown == "count",
        "required": [feature.name for feature in schema.features if not _may_lack(feature)],
        "properties": {feature.name: _value(feature) for feature in schema.features},
    }


def _value(feature: Feature) -> dict[str, Any]:
    """What is answered of it: what is in order, and what is let through."""
    kind, let_through = JSON_TYPES[feature.level_kind or feature.type], feature.on_violation
    described: dict[str, Any] = {}
    if let_through.type == "reject":
        described["type"] = [kind, "null"] if _may_lack(feature) else kind
    elif not _may_lack(feature):
        described["not"] = {"type": "null"}
    if kind in ("number", "integer"):
        largest = MAX_FLOAT if kind == "number" else MAX_INTEGER
        enforced = feature.valid_range if let_through.range == "reject" else None
        described["minimum"], described["maximum"] = enforced or (-largest, largest)
    if feature.is_text:
        described["maxLength"] = feature.max_text_length
    if feature.categories and feature.enforce_categories and "count" not in (let_through.category, let_through.type):
        described["enum"] = [*feature.categories, *([None] if _may_lack(feature) else [])]
    return described


def _may_lack(feature: Feature) -> bool:
    return feature.nullable or feature.on_violation.missing == "count"


def _example(schema: Schema) -> dict[str, Any]:
    return {feature.name: feature.example for feature in schema.features}
