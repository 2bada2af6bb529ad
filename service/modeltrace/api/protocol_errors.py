"""The forms in which inference protocols describe an error."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

MLFLOW_PATHS: Final = frozenset({"/invocations", "/ping", "/health", "/version"})
# MLflow's names of statuses, as its clients know them.
MLFLOW_CODES: Final[Mapping[int, str]] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


class ErrorResponse(NamedTuple):
    """An error response before it is encoded."""

    status: int
    payload: Mapping[str, Any]
    headers: Mapping[str, str]


def protocol_response(response: ErrorResponse, path: str) -> ErrorResponse:
    """Return an error response in the form of the protocol to which a path belongs.

    The protocols describe an error by its message. They answer invalid rows with 400, as any other invalid request.
    """
    status = 400 if response.status == 422 else response.status
    error = response.payload["error"]
    if path in MLFLOW_PATHS:
        code = MLFLOW_CODES.get(status, "BAD_REQUEST")
        return ErrorResponse(status, {"error_code": code, "message": error["message"]}, response.headers)
    if f"{path}/".startswith(("/v1/", "/v2/")):
        return ErrorResponse(status, {"error": error["message"]}, response.headers)
    return response
