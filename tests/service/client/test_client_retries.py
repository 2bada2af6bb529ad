"""Which requests the clients send again, and after which delay."""

import httpx
import pytest

from modeltrace.client.messages import ServiceError
from modeltrace.client.service import UnreachableError
from tests.helpers.client_calls import URL, Call, Responses, busy, predicted


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retryable_statuses_are_repeated(call: Call, delays: list[float], status: int) -> None:
    """The same request is sent again, after growing delays."""
    failures = [httpx.Response(status, json={"error": {"type": "x", "message": "y"}}) for _ in range(3)]
    responses = Responses(*failures, predicted())

    assert call("predict", ({"a": 1},), responses).label == "a"

    assert len({(request.method, request.url, request.content) for request in responses.requests}) == 1
    assert len(responses.requests) == 4
    assert [pytest.approx(delay, rel=0.21) for delay in (0.2, 0.4, 0.8)] == delays


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.RemoteProtocolError]
)
def test_connection_errors_are_repeated(call: Call, delays: list[float], error: type[httpx.TransportError]) -> None:
    """A connection that fails once does not fail the call."""
    assert call("predict", ({"a": 1},), Responses(error, predicted())).label == "a"
    assert len(delays) == 1


def test_last_failure_is_raised(call: Call, delays: list[float]) -> None:
    """After three repetitions, the service's error, or the connection error, is raised."""
    with pytest.raises(ServiceError, match="answers 503: later") as raised:
        call("predict", ({"a": 1},), Responses(*(busy() for _ in range(4))))
    error = raised.value
    assert (error.status, error.error_type, error.trace_id) == (503, "busy", "t")

    with pytest.raises(UnreachableError, match=URL):
        call("predict", ({"a": 1},), Responses(*[httpx.ConnectError] * 4))
    assert len(delays) == 6


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.2),
        ("86400", 30.0),
        ("Tue, 31 Dec 2999 23:59:59 GMT", 30.0),
        ("soon", pytest.approx(0.2, rel=0.21)),
    ],
)
def test_service_sets_the_delay(call: Call, delays: list[float], value: str, seconds: float) -> None:
    """Retry-After takes precedence, within limits; a malformed one is ignored."""
    call("predict", ({"a": 1},), Responses(busy(**{"retry-after": value}), predicted()))

    assert delays == [seconds]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(400, json={"error": {"type": "malformed_request", "message": "no"}}), "answers 400: no"),
        (httpx.Response(401, json={"error": {"type": "unauthorized", "message": "key"}}), "answers 401: key"),
        (httpx.Response(500, text="oops"), "answers 500: oops"),
        (httpx.Response(200, text="<html>"), "answers 200"),
        (httpx.Response(404, json=["x"]), "answers 404"),
    ],
)
def test_other_failures_are_not_repeated(call: Call, delays: list[float], response: httpx.Response, error: str) -> None:
    """The error has the status and the message of the response, whatever answers."""
    with pytest.raises(ServiceError, match=error):
        call("predict", ({"a": 1},), Responses(httpx.Response(response.status_code, content=response.content)))
    assert delays == []


def test_response_that_takes_too_long_is_not_repeated(call: Call, delays: list[float]) -> None:
    """The service may still be busy with the request."""
    with pytest.raises(UnreachableError):
        call("predict", ({"a": 1},), Responses(httpx.ReadTimeout))
    assert delays == []
