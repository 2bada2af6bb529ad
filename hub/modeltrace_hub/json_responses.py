"""JSON responses of the API."""

from typing import Any

import orjson
from fastapi.responses import Response

from modeltrace_hub.decode.values import json_double


def json_response(content: object, status: int = 200) -> Response:
    """Return a JSON response that is never cached."""
    return Response(orjson.dumps(content), status, {"Cache-Control": "no-store"}, "application/json")


def encode_non_finite(value: Any) -> Any:  # noqa: ANN401  any record
    """Replace non-finite numbers, which JSON does not support, by "NaN", "Infinity" and "-Infinity"."""
    match value:
        case float():
            return json_double(value)
        case list() | tuple():
            return [encode_non_finite(item) for item in value]
        case dict():
            return {key: encode_non_finite(item) for key, item in value.items()}
        case _:
            return value
