"""OpenAPI descriptions of the routes, with the features and classes of the bundle and example bodies."""

from collections.abc import Mapping, Sequence
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
# An invalid row is reported in its position, so the route accepts rows of any shape.
ROW_OF_ANY_SHAPE = {"description": "A row, as `features` of POST /predict. The result of a rejected row is its error."}
ERROR_DESCRIPTIONS = {
    400: "The body is not JSON, or has the wrong shape.",
    413: "More bytes or rows than the limits allow.",
    415: "A Content-Encoding other than gzip, deflate or zstd.",
    422: "Values that violate the feature schema.",
    500: "The model failed.",
    503: "Too many requests wait for the model.",
}

# An invalid label is reported in its position, so the route accepts labels of any shape.
LABEL_OF_ANY_SHAPE = {
    "description": "A label, as in a body with a single label. The result of a rejected label is its error."
}
FEEDBACK_ERROR_DESCRIPTIONS: dict[int, str] = {
    400: ERROR_DESCRIPTIONS[400],
    404: "The prediction ID is not one of this service.",
    409: "The prediction already has another label, which is kept.",
    413: "More bytes or labels than the limits allow.",
    415: ERROR_DESCRIPTIONS[415],
    422: "The model cannot predict this label.",
    503: "Labels cannot be stored now; send them again.",
}


def error_responses(descriptions: Mapping[int, str], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the error responses of a route."""
    content = {"application/json": {"schema": ERROR}}
    return {status: {"description": descriptions[status], "content": content} for status in statuses}


def predict_operation(schema: Schema) -> dict[str, Any]:
    """Describe `POST /predict`."""
    body = {
        "type": "object",
        "required": ["features"],
        "additionalProperties": False,
        "properties": {"features": _row(schema)},
        "example": {"features": _example(schema)},
    }
    response = {
        "type": "object",
        "required": ["prediction_id", "model", "trace_id"],
        "properties": {**PREDICTION["properties"], "model": MODEL, "trace_id": {"type": ["string", "null"]}},
    }
    return _operation(body, response, error_responses(ERROR_DESCRIPTIONS, 400, 413, 415, 422, 500, 503))


def batch_operation(schema: Schema) -> dict[str, Any]:
    """Describe `POST /predict/batch`. A rejected row does not affect the other rows."""
    body = {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {"rows": {"type": "array", "items": ROW_OF_ANY_SHAPE}},
        "example": {"rows": [_example(schema)]},
    }
    response = {
        "type": "object",
        "required": ["predictions", "model", "trace_id"],
        "properties": {
            "predictions": {"type": "array", "items": {"anyOf": [PREDICTION, ERROR["properties"]["error"]]}},
            "model": MODEL,
            "trace_id": {"type": ["string", "null"]},
        },
    }
    return _operation(body, response, error_responses(ERROR_DESCRIPTIONS, 400, 413, 415, 500, 503))


def refresh(
    document: dict[str, Any], title: str, schema: Schema, classes: Sequence[str | float | bool] | None
) -> dict[str, Any]:
    """Update the OpenAPI document to the current model version."""
    document["info"]["title"] = title
    operations = predict_operation(schema), batch_operation(schema), feedback_operation(classes)
    for path, operation in zip(("/predict", "/predict/batch", "/feedback"), operations, strict=True):
        document["paths"][path]["post"] |= operation["openapi_extra"]
    return document


def feedback_operation(classes: Sequence[str | float | bool] | None) -> dict[str, Any]:
    """Describe `POST /feedback`; `classes` are the classes of a classifier, `None` for a regressor."""
    label: dict[str, Any] = {"type": "number", "minimum": -MAX_FLOAT, "maximum": MAX_FLOAT}
    if classes is not None:
        label = {"enum": list(classes)}
    single = {
        "type": "object",
        "required": ["prediction_id", "label"],
        "additionalProperties": False,
        "properties": {"prediction_id": {"type": "string"}, "label": label},
    }
    several = {
        "type": "object",
        "required": ["items"],
        "additionalProperties": False,
        "properties": {"items": {"type": "array", "items": LABEL_OF_ANY_SHAPE}},
    }
    example = {"prediction_id": "the prediction_id of a response", "label": classes[0] if classes else 0.0}
    trace_id = {"type": ["string", "null"]}
    stored = {
        "type": "object",
        "required": ["prediction_id", "status", "trace_id"],
        "properties": {
            "prediction_id": {"type": "string"},
            "status": {"enum": ["new", "same"]},
            "trace_id": {
                **trace_id,
                "description": "That of the prediction; the header X-Trace-Id has that of this request.",
            },
        },
    }
    results = {
        "type": "object",
        "required": ["results", "trace_id"],
        "properties": {
            "results": {"type": "array", "items": {"anyOf": [stored, {"type": "object", "required": ["error"]}]}},
            "trace_id": trace_id,
        },
    }
    errors = error_responses(FEEDBACK_ERROR_DESCRIPTIONS, *FEEDBACK_ERROR_DESCRIPTIONS)
    return _operation({"anyOf": [single, several], "example": example}, {"anyOf": [stored, results]}, errors)


def _operation(
    body: dict[str, Any], response: dict[str, Any], errors: dict[int | str, dict[str, Any]]
) -> dict[str, Any]:
    success = {"description": "Success.", "content": {"application/json": {"schema": response}}}
    return {
        "responses": {200: success, **errors},
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    }


def _row(schema: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": schema.on_unknown == "count",
        "required": [feature.name for feature in schema.features if not _may_be_missing(feature)],
        "properties": {feature.name: _value(feature) for feature in schema.features},
    }


def _value(feature: Feature) -> dict[str, Any]:
    """Describe the values that are accepted: valid values, and violations that are allowed."""
    kind, on_violation = JSON_TYPES[feature.level_kind or feature.type], feature.on_violation
    described: dict[str, Any] = {}
    if on_violation.type == "reject":
        described["type"] = [kind, "null"] if _may_be_missing(feature) else kind
    elif not _may_be_missing(feature):
        described["not"] = {"type": "null"}
    if kind in ("number", "integer"):
        largest = MAX_FLOAT if kind == "number" else MAX_INTEGER
        enforced = feature.valid_range if on_violation.range == "reject" else None
        described["minimum"], described["maximum"] = enforced or (-largest, largest)
    if feature.is_text:
        described["maxLength"] = feature.max_text_length
    if feature.categories and feature.enforce_categories and "count" not in (on_violation.category, on_violation.type):
        described["enum"] = [*feature.categories, *([None] if _may_be_missing(feature) else [])]
    return described


def _may_be_missing(feature: Feature) -> bool:
    return feature.nullable or feature.on_violation.missing == "count"


def _example(schema: Schema) -> dict[str, Any]:
    return {feature.name: feature.example for feature in schema.features}
