"""OpenAPI descriptions of the routes, with the features and classes of the bundle and example bodies."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from modeltrace.api.batch_formats import ARROW_TYPE, PARQUET_TYPE
from modeltrace.api.request_target import INTERVAL, PROBABILITIES
from modeltrace.inference.external_ids import PATTERN
from modeltrace.inference.model import Label, Model
from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.tags import MAX_TAG_LENGTH, TAG_PATTERN
from modeltrace.inference.validate import MAX_FLOAT, MAX_INTEGER

Parameters = Sequence[Mapping[str, Any]]  # descriptions of query parameters
JSON_TYPES = {
    "number": "number", "integer": "integer", "boolean": "boolean", "text": "string", "datetime": "string",
    "timedelta": "string",
}  # fmt: skip


def _object(properties: Mapping[str, Any], *, optional: Collection[str] = ()) -> dict[str, Any]:
    """Describe an object."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


STRING: dict[str, Any] = {"type": "string"}
TRACE_ID: dict[str, Any] = {"type": ["string", "null"]}
MODEL = _object({"name": STRING, "version": STRING})
VIOLATION = _object({"feature": STRING, "reason": STRING, "message": STRING})
ERROR = _object(
    {"type": STRING, "message": STRING, "violations": {"type": "array", "items": VIOLATION}}, optional=["violations"]
)
EXTERNAL_ID: dict[str, Any] = {
    "type": "string",
    "pattern": PATTERN,
    "description": "An ID of your own for the prediction: for labels, searches and erasure.",
}
# A classifier returns the optional members `label`, `confidence` and `probabilities`, a regressor `value` and
# `interval`. Other models return `outputs`, with or without `label`.
PREDICTION: dict[str, Any] = {
    "prediction_id": STRING,
    "id": {**EXTERNAL_ID, "description": "The ID of the request."},
    "label": {"type": ["string", "number", "boolean"]},
    "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "value": {"type": "number"},
    "interval": {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 2,
        "maxItems": 2,
        "description": "The lower and the upper bound of the prediction interval, on request.",
    },
    "outputs": {
        "type": "object",
        "additionalProperties": {"type": ["number", "string", "boolean"]},
        "description": "The named outputs: the score of an outlier detector, the distance of a row to the centre of "
        "its cluster, a value for each target, or an embedding.",
    },
    "probabilities": {
        "type": ["object", "null"],
        "additionalProperties": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "description": "The probability of each class, on request; null if the classifier has no probabilities.",
    },
}
OPTIONAL = ("id", "label", "confidence", "value", "interval", "outputs", "probabilities")
PROBABILITIES_PARAMETER = {
    "name": PROBABILITIES,
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "Return the probability of each class. The default is the setting MODELTRACE_PROBABILITIES.",
}
INTERVAL_PARAMETER = {
    "name": INTERVAL,
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "Return the prediction interval. The default is false.",
}
NUMBER_LABEL: Final[dict[str, Any]] = {"type": "number", "minimum": -MAX_FLOAT, "maximum": MAX_FLOAT}
# An invalid row or label is reported in its position, so the routes accept rows and labels of any shape.
ROW_OF_ANY_SHAPE = {"description": "A row, as `features` of POST /predict. The result of a rejected row is its error."}
LABEL_OF_ANY_SHAPE = {
    "description": "A label, as in a body with a single label. The result of a rejected label is its error."
}

BATCH_ERRORS = {
    400: "The body is not JSON, or has the wrong shape.",
    413: "More bytes or rows than the limits allow.",
    415: "A Content-Encoding other than gzip, deflate or zstd.",
    500: "The model failed.",
    503: "Too many requests wait for the model.",
}
PREDICT_ERRORS = {**BATCH_ERRORS, 422: "Values that violate the feature schema."}
FEEDBACK_ERRORS = {
    400: BATCH_ERRORS[400],
    404: "The prediction ID is not one of this service, or no stored prediction has the ID.",
    409: "The prediction already has another label, which is kept; or several predictions have the ID.",
    413: "More bytes or labels than the limits allow.",
    415: BATCH_ERRORS[415],
    422: "The model cannot predict this label.",
    503: "Labels cannot be stored now; send them again.",
}


def describe_routes(model: Model, tags: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the arguments of `FastAPI.add_api_route` by path."""
    parameters = query_parameters(model)
    return {
        "/predict": describe_predict(model.schema, parameters, tags),
        "/predict/batch": _describe_batch(model.schema, parameters, tags),
        "/feedback": _describe_feedback(model),
    }


def query_parameters(model: Model) -> list[dict[str, Any]]:
    """Return the query parameters of the routes that predict."""
    if model.interval is not None:
        return [INTERVAL_PARAMETER]
    return [PROBABILITIES_PARAMETER] if model.can_have_probabilities else []


def refresh(document: dict[str, Any], model: Model, descriptions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Update the OpenAPI document to the current model version, with the descriptions of its routes by path."""
    document["info"]["title"] = f"{model.name} {model.version}"
    for path, description in descriptions.items():
        document["paths"][path]["post"] |= description["openapi_extra"]
    return document


def describe_predict(schema: Schema, parameters: Parameters = (), tags: Sequence[str] = ()) -> dict[str, Any]:
    """Describe `POST /predict`."""
    members = {"features": _row(schema), "id": _nullable(EXTERNAL_ID), "tags": _describe_tags(tags)}
    body = _body(members, optional=["id", "tags"], example={"features": _example(schema)})
    response = _object({**PREDICTION, "model": MODEL, "trace_id": TRACE_ID}, optional=OPTIONAL)
    return _route("predict", "Predict one row", body, response, PREDICT_ERRORS, parameters)


def _describe_batch(schema: Schema, parameters: Parameters, tags: Sequence[str]) -> dict[str, Any]:
    members = {
        "rows": {"type": "array", "items": ROW_OF_ANY_SHAPE},
        "ids": {
            "type": ["array", "null"],
            "items": _nullable(EXTERNAL_ID),
            "description": "One for each row, or null.",
        },
        "tags": {
            "anyOf": [_describe_tags(tags), {"type": "array", "items": _describe_tags(tags)}],
            "description": "Tags of all rows, or an array with those of each row, or null.",
        },
    }
    body = _body(members, optional=["ids", "tags"], example={"rows": [_example(schema)]})
    result = {"anyOf": [{"type": "object", "properties": PREDICTION}, ERROR]}
    response = _object({"predictions": {"type": "array", "items": result}, "model": MODEL, "trace_id": TRACE_ID})
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    bodies = {**json_content(body), ARROW_TYPE: binary, PARQUET_TYPE: binary}
    responses = {**json_content(response), ARROW_TYPE: binary}
    error = _object({"error": ERROR, "trace_id": TRACE_ID})
    return describe_route("predict", "Predict many rows", bodies, responses, BATCH_ERRORS, error, parameters)


def _describe_label(classes: Sequence[Label] | None) -> dict[str, Any]:
    return {**NUMBER_LABEL} if classes is None else {"enum": list(classes)}


def _describe_true_label(model: Model) -> tuple[dict[str, Any], object]:
    """Return the schema and an example of a true label."""
    if model.task == "clusterer":
        return {"type": ["string", "number", "boolean"]}, "the true class"
    if model.task != "multi_output":
        return _describe_label(model.classes), model.classes[0] if model.classes else 0.0
    labels = {output.name: {"anyOf": [_describe_label(output.classes), {"type": "null"}]} for output in model.outputs}
    by_name = {"type": "object", "properties": labels, "additionalProperties": False}
    in_order = {"type": "array", "prefixItems": [*labels.values()], "minItems": len(labels), "maxItems": len(labels)}
    example = {output.name: output.classes[0] if output.classes else 0.0 for output in model.outputs}
    return {"anyOf": [by_name, in_order]}, example


def _describe_feedback(model: Model) -> dict[str, Any]:
    label, example_label = _describe_true_label(model)
    single, by_external_id = (
        _body({"prediction_id": STRING, "label": label}),
        _body({"id": EXTERNAL_ID, "label": label}),
    )
    several = _body({"items": {"type": "array", "items": LABEL_OF_ANY_SHAPE}})
    example = {"prediction_id": "the prediction_id of a response", "label": example_label}
    own_trace = {**TRACE_ID, "description": "That of the prediction; the header X-Trace-Id has that of this request."}
    members = {"prediction_id": STRING, "id": STRING, "status": {"enum": ["new", "same"]}, "trace_id": own_trace}
    stored = _object(members, optional=["id"])
    result = {"anyOf": [stored, {"type": "object", "required": ["error"]}]}
    results = _object({"results": {"type": "array", "items": result}, "trace_id": TRACE_ID})
    body, response = {"anyOf": [single, by_external_id, several], "example": example}, {"anyOf": [stored, results]}
    return _route("feedback", "Store true labels", body, response, FEEDBACK_ERRORS)


def _body(properties: Mapping[str, Any], *, optional: Collection[str] = (), **more: object) -> dict[str, Any]:
    """Describe an object without other members."""
    return {**_object(properties, optional=optional), "additionalProperties": False, **more}


def _nullable(described: Mapping[str, Any]) -> dict[str, Any]:
    return {**described, "type": [described["type"], "null"]}


def _route(
    tag: str,
    summary: str,
    body: Mapping[str, Any],
    response: Mapping[str, Any],
    errors: Mapping[int, str],
    parameters: Parameters = (),
) -> dict[str, Any]:
    error = _object({"error": ERROR, "trace_id": TRACE_ID})
    return describe_route(tag, summary, json_content(body), json_content(response), errors, error, parameters)


def describe_route(
    tag: str,
    summary: str,
    body: Mapping[str, Any],
    response: Mapping[str, Any],
    errors: Mapping[int, str],
    error: Mapping[str, Any],
    parameters: Parameters,
) -> dict[str, Any]:
    """Return the arguments of `FastAPI.add_api_route` that describe a route.

    `body` and `response` are contents by media type. `errors` are descriptions by status, and `error` is the schema
    that all error responses share.
    """
    return {
        "tags": [tag],
        "summary": summary,
        "responses": {
            200: {"description": "Success.", "content": response},
            **{
                status: {"description": text, "content": json_content(error)} for status, text in sorted(errors.items())
            },
        },
        "openapi_extra": {"requestBody": {"required": True, "content": body}, "parameters": [*parameters]},
    }


def json_content(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a JSON body, by media type."""
    return {"application/json": {"schema": schema}}


def _describe_tags(names: Sequence[str]) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": MAX_TAG_LENGTH, "pattern": TAG_PATTERN}
    described = _body(dict.fromkeys(names, text), optional=names)
    return {**_nullable(described), "description": "Tags of the request, with names that the service declares."}


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
    if feature.is_time and on_violation.type == "reject":
        zoned = feature.timezone is not None
        valid = feature.valid_range if on_violation.range == "reject" else None
        limits = "" if valid is None else f", from {feature.range_text(valid)}"
        described["description"] = f"Expected: {feature.time_column.expected}{limits}"
        described |= {"format": "duration"} if feature.type == "timedelta" else {"format": "date-time"} if zoned else {}
    if feature.is_text:
        described["maxLength"] = feature.max_text_length
    if feature.categories and feature.enforce_categories and "count" not in (on_violation.category, on_violation.type):
        described["enum"] = [*feature.categories, *([None] if _may_be_missing(feature) else [])]
    return described


def _may_be_missing(feature: Feature) -> bool:
    return feature.nullable or feature.on_violation.missing == "count"


def _example(schema: Schema) -> dict[str, Any]:
    return {feature.name: feature.example for feature in schema.features}
