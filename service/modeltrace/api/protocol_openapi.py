"""OpenAPI descriptions of the routes of inference protocols."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modeltrace.api.openapi import (
    BATCH_ERRORS,
    MODEL,
    PREDICTION,
    STRING,
    TRACE_ID,
    describe_route,
    json_content,
    query_parameters,
)
from modeltrace.inference.model import Model
from modeltrace.protocols.mlflow_kserve import MLFLOW_FORMATS
from modeltrace.protocols.open_inference import DATATYPES, output_datatypes
from modeltrace.protocols.tensors import DTYPES

OPEN_INFERENCE: Final = "open inference protocol v2"
V1: Final = "kserve v1"

MODEL_NAME: Final[dict[str, Any]] = {"name": "name", "in": "path", "required": True, "schema": STRING}
MODEL_VERSION: Final[dict[str, Any]] = {"name": "version", "in": "path", "required": True, "schema": STRING}

PARAMETERS: Final[dict[str, Any]] = {"type": "object"}
TENSOR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": STRING,
        "datatype": {"enum": list(DTYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
        "parameters": PARAMETERS,
        "data": {"type": "array"},
    },
}
INFER_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": STRING,
        "parameters": PARAMETERS,
        "inputs": {"type": "array", "items": TENSOR, "minItems": 1},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": STRING}}},
    },
}
INFER_RESPONSE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": STRING,
        "model_version": STRING,
        "id": STRING,
        "parameters": PARAMETERS,
        "outputs": {"type": "array", "items": TENSOR},
    },
}
SCORING_RESPONSE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["predictions", "prediction_ids", "model", "trace_id"],
    "properties": {
        "predictions": {"type": "array", "items": {"type": ["string", "number", "boolean", "array"]}},
        "prediction_ids": {"type": "array", "items": STRING},
        "confidences": {"type": "array", "items": {"type": ["number", "null"]}},
        "outputs": {"type": "array", "items": PREDICTION["outputs"]},
        "intervals": {"type": "array", "items": PREDICTION["interval"]},
        "probabilities": {"type": "array", "items": PREDICTION["probabilities"]},
        "model": MODEL,
        "trace_id": TRACE_ID,
    },
}
MESSAGE: Final = {"type": "object", "required": ["error"], "properties": {"error": STRING}}
MLFLOW_ERROR: Final = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": STRING, "message": STRING},
}
ERRORS: Final[Mapping[int, str]] = {
    **BATCH_ERRORS,
    400: "The body has the wrong shape, or values violate the feature schema.",
}
MLFLOW_ERRORS: Final = {**ERRORS, 415: "A Content-Encoding or Content-Type that is not supported."}
NO_MODEL: Final = "The service has no such model or version."


def describe_get(tag: str, summary: str, parameters: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the arguments of `FastAPI.add_api_route` of a GET route, whose path parameters name a model."""
    if not parameters:
        return {"tags": [tag], "summary": summary}
    responses = {404: {"description": NO_MODEL, "content": json_content(MESSAGE)}}
    return {"tags": [tag], "summary": summary, "responses": responses, "openapi_extra": {"parameters": parameters}}


def describe_protocols(model: Model) -> dict[str, dict[str, Any]]:
    """Return the arguments of `FastAPI.add_api_route` of the POST routes by path."""
    name = {**MODEL_NAME, "schema": {"enum": [model.name]}}
    version = {**MODEL_VERSION, "schema": {"enum": [model.version]}}
    scoring, errors = json_content(SCORING_RESPONSE), {**ERRORS, 404: NO_MODEL}
    infer_response = {
        **json_content(INFER_RESPONSE),
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    infer_body = json_content({**INFER_REQUEST, "example": _infer_example(model)})
    row = {feature.name: feature.example for feature in model.features}
    v1_body = json_content({"type": "object", "example": {"instances": [row]}})
    mlflow_body: dict[str, Any] = {
        "application/json": {
            "schema": {
                "type": "object",
                "oneOf": [{"required": [key]} for key in MLFLOW_FORMATS],
                "example": {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
            }
        },
        "text/csv": {"schema": STRING},
    }
    query = query_parameters(model)
    infer = (OPEN_INFERENCE, "Predict the rows of tensors")
    return {
        "/v2/models/{name}/infer": describe_route(*infer, infer_body, infer_response, errors, MESSAGE, [name, *query]),
        "/v2/models/{name}/versions/{version}/infer": describe_route(
            *infer, infer_body, infer_response, errors, MESSAGE, [name, version, *query]
        ),
        "/v1/models/{name}:predict": describe_route(
            V1, "Predict rows", v1_body, scoring, errors, MESSAGE, [name, *query]
        ),
        "/invocations": describe_route(
            "mlflow", "Predict rows", mlflow_body, scoring, MLFLOW_ERRORS, MLFLOW_ERROR, query
        ),
    }


def _infer_example(model: Model) -> dict[str, Any]:
    inputs = [
        {
            "name": feature.name,
            "datatype": DATATYPES[feature.level_kind or feature.type],
            "shape": [1],
            "data": [feature.example],
        }
        for feature in model.features
    ]
    return {"inputs": inputs, "outputs": [{"name": name} for name in output_datatypes(model)]}
