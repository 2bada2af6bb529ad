"""Receive OTLP over HTTP (OTLP specification 1.x, "OTLP/HTTP").

- `POST /v1/traces`, `/v1/metrics`, `/v1/logs`: the Content-Type selects protobuf or JSON. The Content-Encoding may be
  gzip, deflate or zstd, or absent.
- "OTLP/HTTP Response": the hub answers 200 after the data is committed. If some records were rejected, the response is
  a partial success. It has the encoding of the request.
- "Failures": the hub answers with a `google.rpc.Status` in the encoding of the request. Senders drop a request after
  400 (it cannot be decoded) or 413 (it is too large). They send it again after 503 with Retry-After.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from modeltrace_hub.auth import AccessPolicy
from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import (
    HubError,
    MalformedError,
    RequestTimeoutError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
)
from modeltrace_hub.receive.ingest import Encoding, Ingester, Reservation
from modeltrace_hub.receive.rpc_status import rpc_status
from modeltrace_hub.receive.signals import SIGNALS, Signal

_ENCODINGS: Final[dict[str, Encoding]] = {"application/x-protobuf": "protobuf", "application/json": "json"}
_CONTENT_TYPES: Final[dict[Encoding, str]] = {encoding: type_ for type_, encoding in _ENCODINGS.items()}


def create_http_receiver(
    ingester: Ingester, policy: AccessPolicy, cors_origins: Sequence[str] = (), *, body_timeout: float
) -> Starlette:
    """Return the application of the OTLP/HTTP port.

    Args:
        ingester: decodes and writes requests.
        policy: checks the origin and the key of each request.
        cors_origins: origins whose web pages may send requests, too.
        body_timeout: maximum seconds until the body of a request is complete.
    """
    # Allow credentials, because browser SDKs use `navigator.sendBeacon`, which always sends them. This is safe: this
    # port does not read cookies.
    cors = Middleware(
        CORSMiddleware,
        allow_origins=cors_origins,
        allow_methods=["POST"],
        allow_headers=["*"],
        allow_credentials=True,
        allow_private_network=True,
        expose_headers=["Retry-After"],
    )
    allowed = frozenset(cors_origins)
    return Starlette(
        routes=[
            Route(signal.http_path, _export_endpoint(signal, ingester, policy, allowed, body_timeout), methods=["POST"])
            for signal in SIGNALS
        ],
        exception_handlers={HTTPException: _unknown_path_response},
        middleware=[*([cors] if cors_origins else []), Middleware(RelativeRedirectMiddleware)],
    )


def _export_endpoint(
    signal: Signal, ingester: Ingester, policy: AccessPolicy, allowed: frozenset[str], body_timeout: float
) -> Callable[[Request], Awaitable[Response]]:
    async def export(request: Request) -> Response:
        encoding = _ENCODINGS.get(_media_type(request), "json")
        try:
            with ingester.track_request(signal) as reservation:
                policy.check_origin(request.headers, allowed=allowed)
                policy.check_authorization(request.headers.get("authorization", ""))
                _check_content_type(request)
                content_encoding = request.headers.get("content-encoding", "").strip().lower()
                body = await _read_body(request, reservation, body_timeout)
                message = await ingester.ingest(signal, body, encoding, content_encoding, reservation)
        except HubError as error:
            return _error_response(error, encoding)
        return _message_response(message, encoding)

    return export


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_content_type(request: Request) -> None:
    """Check the Content-Type.

    Raises:
        UnsupportedMediaTypeError: OTLP does not have this content type.
    """
    if (type_ := _media_type(request)) not in _ENCODINGS:
        supported = "application/x-protobuf or application/json"
        raise UnsupportedMediaTypeError(f"Content-Type is {type_[:64]!r}; send {supported}.")


async def _read_body(request: Request, reservation: Reservation, seconds: float) -> bytes:
    """Read the body; stop as soon as it is too long.

    Raises:
        TooLargeError: the body is too long.
        BusyError: the bodies of all requests together are too long.
        RequestTimeoutError: the body did not arrive in time.
        MalformedError: the client disconnected.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                reservation.add(len(chunk))
                body += chunk
    except TimeoutError:
        raise RequestTimeoutError(f"The body did not arrive within {seconds:g} s. Send it again.") from None
    except ClientDisconnect:
        raise MalformedError("The client disconnected before the body was complete.") from None
    return bytes(body)


def _error_response(error: HubError, encoding: Encoding) -> Response:
    """Return the response for an error. Its status tells the sender whether to send the request again."""
    status = error_status(error)
    # RFC 7694: with this header, a client can distinguish an unsupported content coding from an unsupported media type.
    accepted = {"Accept-Encoding": SUPPORTED_ENCODINGS} if isinstance(error, UnsupportedEncodingError) else {}
    message = rpc_status(status.grpc, str(error))
    return _message_response(message, encoding, status.http, status.headers | accepted)


async def _unknown_path_response(request: Request, error: Exception) -> Response:
    """Return 404 or 405 as a `google.rpc.Status`."""
    if not isinstance(error, HTTPException):
        raise error
    encoding = _ENCODINGS.get(_media_type(request), "json")
    message = f"{error.detail}: send POST to /v1/traces, /v1/metrics or /v1/logs."
    code = grpc.StatusCode.NOT_FOUND if error.status_code == 404 else grpc.StatusCode.UNIMPLEMENTED
    return _message_response(rpc_status(code, message), encoding, error.status_code, error.headers)


def _message_response(
    message: Message, encoding: Encoding, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    body = message.SerializeToString() if encoding == "protobuf" else MessageToJson(message, indent=None)
    return Response(body, status, headers, _CONTENT_TYPES[encoding])
