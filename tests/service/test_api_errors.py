"""HTTP status codes of errors."""

import pytest

from modeltrace import errors
from modeltrace.api.errors import ERROR_SPECS, error_response
from modeltrace.errors import BusyError, MalformedRequestError, ModeltraceError, RequestError, StoreError


class TooManyCommasError(MalformedRequestError):
    """A subclass that the table does not list."""


class QueueFullError(BusyError):
    """A subclass whose base class has response headers."""


@pytest.mark.parametrize(
    ("error", "status", "error_type", "headers"),
    [
        (TooManyCommasError("too many"), 400, "malformed_request", {}),
        (QueueFullError("full"), 503, "busy", {"Retry-After": "1"}),
        (RequestError("wrong"), 400, "invalid_request", {}),
    ],
)
def test_an_unlisted_error_has_the_response_of_its_closest_base_class(
    error: ModeltraceError, status: int, error_type: str, headers: dict[str, str]
) -> None:
    """Status, type and headers are inherited; the message is that of the error."""
    response = error_response(error)

    assert (response.status, response.headers) == (status, headers)
    assert response.payload["error"] == {"type": error_type, "message": str(error)}


@pytest.mark.parametrize("error", [StoreError("secret"), ModeltraceError("secret"), ValueError("secret")])
def test_an_error_without_a_listed_base_class_is_500(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The response does not contain its message; the log does."""
    status, payload, _ = error_response(error)

    assert status == 500
    assert "internal_error" in str(payload)
    assert "secret" not in str(payload)
    assert "secret" in caplog.text


def test_every_request_error_is_listed() -> None:
    """No client error depends on the default of its base class."""
    defined = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RequestError)}

    assert defined <= ERROR_SPECS.keys()
