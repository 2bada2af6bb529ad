"""OTLP over HTTP, as the OTLP specification 1.x has it ("OTLP/HTTP").

- `POST /v1/traces`, `/v1/metrics`, `/v1/logs`; protobuf or JSON by Content-Type; plain, gzip, deflate or zstd by
  Content-Encoding.
- "OTLP/HTTP Response": 200 once the data is committed, with a partial success when some of it was not kept; the
  response has the request's encoding.
- "Failures": a `google.rpc.Status` in the request's encoding. 400 for what cannot be read and 413 for what is too
  large, which senders drop; 503 with Retry-After for what may be sent again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from modeltrace_http.content_coding import SUPPORTED_ENCODINGS
from modeltrace_http.responses import RelativeRedirectMiddleware
from modeltrace_hub.auth import Guard
from modeltrace_hub.errors import HubError, MalformedError, SlowRequestError, UnsupportedCodingError, UnsupportedError
from modeltrace_hub.receive.ingest import Form, Intake, Reservation
from modeltrace_hub.receive.signals import SIGNALS, Signal
from modeltrace_hub.receive.status import RETRY_AFTER_SECONDS, codes, status

_FORMS: Final[dict[str, Form]] = {"application/x-protobuf": "protobuf", "application/json": "json"}
_TYPES: Final[dict[Form, str]] = {form: type_ for type_, form in _FORMS.items()}

# What an answer says besides.
_HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
}


def create_receiver(intake: Intake, guard: Guard, origins: Sequence[str] = (), *, body_timeout: float) -> Starlette:
    """Return the application of the OTLP/HTTP port.

    Args:
        intake: takes the requests.
        guard: decides who may send.
        origins: web pages of these origins may send, too.
        body_timeout: seconds that the bytes of one request may take to arrive.
    """
    # `navigator.sendBeacon`, which browser SDKs use, always asks with credentials; no cookie is looked at here.
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["*"],
        allow_credentials=True,
        allow_private_network=True,
        expose_headers=["Retry-After"],
    )
    allowed = frozenset(origins)
    return Starlette(
        routes=[
            Route(signal.path, _endpoint(signal, intake, guard, allowed, body_timeout), methods=["POST"])
            for signal in SIGNALS
        ],
        exception_handlers={HTTPException: _no_such_call},
        middleware=[*([cors] if origins else []), Middleware(RelativeRedirectMiddleware)],
    )


def _endpoint(
    signal: Signal, intake: Intake, guard: Guard, allowed: frozenset[str], body_timeout: float
) -> Callable[[Request], Awaitable[Response]]:
    async def export(request: Request) -> Response:
        form = _FORMS.get(_media_type(request), "json")
        try:
            with intake.request(signal) as reservation:
                guard.check_origin(request.headers, allowed=allowed)
                guard.check_bearer(request.headers.get("authorization", ""))
                _check_type(request)
                coding = request.headers.get("content-encoding", "").strip().lower()
                body = await _read(request, reservation, body_timeout)
                answer = await intake.take(signal, body, form, coding, reservation)
        except HubError as error:
            return _failure(error, form)
        return Response(_encode(answer, form), media_type=_TYPES[form])

    return export


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_type(request: Request) -> None:
    """Look at the Content-Type.

    Raises:
        UnsupportedError: it is none that OTLP has.
    """
    if (type_ := _media_type(request)) not in _FORMS:
        raise UnsupportedError(f"Content-Type is {type_[:64]!r}; send application/x-protobuf or application/json.")


async def _read(request: Request, reservation: Reservation, seconds: float) -> bytes:
    """The body, which is given up as soon as it is too long.

    Raises:
        TooLargeError: it is.
        BusyError: all requests together are.
        SlowRequestError: it did not arrive in time.
        MalformedError: it was cut off.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                reservation.add(len(chunk))
                body += chunk
    except TimeoutError:
        raise SlowRequestError(f"The body did not arrive within {seconds:g} s. Send it again.") from None
    except ClientDisconnect:
        raise MalformedError("The body was cut off.") from None
    return bytes(body)


def _failure(error: HubError, form: Form) -> Response:
    """The answer that tells the sender what was wrong, and by its status whether to send it again."""
    http, code = codes(error)
    body = _encode(status(code, str(error)), form)
    # RFC 7694: the header tells a coding that is not taken from a type that is not.
    accepted = {"Accept-Encoding": SUPPORTED_ENCODINGS} if isinstance(error, UnsupportedCodingError) else {}
    return Response(body, http, headers=_HEADERS.get(http, {}) | accepted, media_type=_TYPES[form])


async def _no_such_call(request: Request, error: Exception) -> Response:
    """404 and 405, as a Status too."""
    if not isinstance(error, HTTPException):
        raise error
    form = _FORMS.get(_media_type(request), "json")
    message = f"{error.detail}: send POST to /v1/traces, /v1/metrics or /v1/logs."
    code = grpc.StatusCode.NOT_FOUND if error.status_code == 404 else grpc.StatusCode.UNIMPLEMENTED
    return Response(
        _encode(status(code, message), form), error.status_code, headers=error.headers, media_type=_TYPES[form]
    )


def _encode(message: Message, form: Form) -> bytes:
    """A message in the form that the request has."""
    return message.SerializeToString() if form == "protobuf" else MessageToJson(message, indent=None).encode()
