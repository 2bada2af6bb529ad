"""The Open Inference Protocol V2 over gRPC: each call becomes an HTTP request to the application, in this process.

A call therefore has the same access control, limits, pipeline and telemetry as over HTTP: `ModelInfer` is recorded as
`POST /v2/models/{name}/infer` of HTTP/2, which gRPC uses.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias
from urllib.parse import quote

import grpc
import orjson
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from starlette.types import ASGIApp, Message

from modeltrace.api.predict import MAX_INLINE_BODY_BYTES
from modeltrace.api.protocol_handlers import JSON_LENGTH_HEADER
from modeltrace.api.responses import TRACE_HEADER
from modeltrace.errors import MalformedRequestError
from modeltrace.protocols.grpc_inference import to_grpc_response, to_http_request
from modeltrace.protocols.grpc_messages import SERVICE, load_messages

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Call = Callable[[bytes, Context], Awaitable[bytes]]
# The status of a call for the HTTP status of the same error. Any other status of 4xx is INVALID_ARGUMENT.
STATUS_CODES: Final[Mapping[int, grpc.StatusCode]] = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_PATH_FIELDS: Final = frozenset({"name", "model_name", "version", "model_version"})
TRACE_METADATA: Final = TRACE_HEADER.lower()
# Metadata with a meaning for HTTP bodies and connections only. gRPC has decompressed the message already.
_HTTP_ONLY: Final = ("content-", "accept-encoding", "connection", "grpc-", "host", "transfer-encoding", "x-forwarded-")
_HTTP_ONLY_NAMES: Final = (JSON_LENGTH_HEADER.decode(), "forwarded")


class HttpResponse(NamedTuple):
    """The response of the application."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class GrpcBridge:
    """Answers the calls of the service `inference.GRPCInferenceService`.

    `address` is host and port of the gRPC server, and `scheme` http or https, for the requests to the application.
    """

    def __init__(self, app: ASGIApp, address: tuple[str, int], scheme: str = "http") -> None:
        self._app = app
        self._address = address
        self._scheme = scheme
        self._messages = load_messages()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of all methods, for a gRPC server."""
        descriptions: dict[str, Callable[[Any], str]] = {
            "ServerLive": lambda _: "/v2/health/live",
            "ServerReady": lambda _: "/v2/health/ready",
            "ServerMetadata": lambda _: "/v2",
            "ModelMetadata": lambda request: _model_path(request.name, request.version),
            "ModelReady": lambda request: f"{_model_path(request.name, request.version)}/ready",
        }
        calls = {name: self._description(name, path) for name, path in descriptions.items()}
        calls["ModelInfer"] = self._infer
        methods: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _description(self, name: str, path: Callable[[Any], str]) -> Call:
        """Return the handler of a call that describes the server or a model, by the path of its HTTP request."""

        async def call(content: bytes, context: Context) -> bytes:
            request = await self._parse(f"{name}Request", content, context)
            message = self._messages[f"{name}Response"]()
            response = await self._request("GET", path(request), (), b"", context)
            if name == "ModelReady" and response.status == 404:
                return b""  # not ready, as Triton answers for an unknown model
            await _check(response, context)
            return bytes(
                ParseDict(orjson.loads(response.body), message, ignore_unknown_fields=True).SerializeToString()
            )

        return call

    async def _infer(self, content: bytes, context: Context) -> bytes:
        large = len(content) > MAX_INLINE_BODY_BYTES
        request = await self._parse("ModelInferRequest", content, context)
        try:
            document, binary = await _run(to_http_request, request, on_thread=large)
        except MalformedRequestError as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        header = orjson.dumps(document)
        path = f"{_model_path(request.model_name, request.model_version)}/infer"
        headers = [(JSON_LENGTH_HEADER, b"%d" % len(header))]
        response = await self._request("POST", path, headers, header + binary, context)
        await _check(response, context)
        raw = bool(request.raw_input_contents)
        return bytes(await _run(self._encode_response, response, raw, on_thread=large))

    def _encode_response(self, response: HttpResponse, raw: bool) -> bytes:  # noqa: FBT001  called by position
        length = int(response.headers.get(JSON_LENGTH_HEADER, len(response.body)))
        message = self._messages["ModelInferResponse"]()
        to_grpc_response(orjson.loads(response.body[:length]), response.body[length:], message, raw=raw)
        return bytes(message.SerializeToString())

    async def _parse(self, name: str, content: bytes, context: Context) -> Any:  # noqa: ANN401  a generated class
        """Parse a message, or end the call."""
        try:
            request = self._messages[name].FromString(content)
        except DecodeError:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"the message is not a {name}")
        names = {field.name for field in request.DESCRIPTOR.fields} & {"name", "model_name"}
        if empty := [field for field in names if not getattr(request, field)]:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f'"{empty[0]}" must be the name of a model')
        for field in request.DESCRIPTOR.fields:
            if field.name in _PATH_FIELDS and "/" in getattr(request, field.name):  # it would name another path
                await _abort(context, grpc.StatusCode.NOT_FOUND, f'"{field.name}" must not contain a slash')
        return request

    async def _request(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes, context: Context
    ) -> HttpResponse:
        """Send a request to the application, and the trace ID of its response to the client."""
        scope = _scope(method, path, [*headers, *_to_headers(context)], context, self._address)
        scope["scheme"] = self._scheme
        response = await self._call_app(scope, body)
        if trace_id := response.headers.get(TRACE_METADATA.encode()):
            context.set_trailing_metadata(((TRACE_METADATA, trace_id.decode()),))
        return response

    async def _call_app(self, scope: dict[str, Any], body: bytes) -> HttpResponse:
        received: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *content = sent
        return HttpResponse(
            start["status"], dict(start["headers"]), b"".join(message.get("body", b"") for message in content)
        )


def _scope(
    method: str, path: str, headers: list[tuple[bytes, bytes]], context: Context, address: tuple[str, int]
) -> dict[str, Any]:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", f"{host}:{address[1]}".encode()), *headers],
        "client": _client(context.peer()),
        "server": address,
    }


def _model_path(name: str, version: str) -> str:
    """Return the path of a model, decoded, as ASGI has it."""
    return f"/v2/models/{name}/versions/{version}" if version else f"/v2/models/{name}"


def _to_headers(context: Context) -> list[tuple[bytes, bytes]]:
    """Return the metadata of a call as headers."""
    metadata = context.invocation_metadata() or ()
    return [
        (name.encode(), value.encode())
        for name, value in metadata
        if isinstance(value, str) and not name.startswith(_HTTP_ONLY) and name not in _HTTP_ONLY_NAMES
    ]


def _client(peer: str) -> tuple[str, int] | None:
    """Return address and port of a client: `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`; `None` for a socket."""
    family, _, address = peer.partition(":")
    host, _, port = address.rpartition(":")
    if family not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.replace("%5B", "").replace("%5D", "").strip("[]"), int(port)


async def _run(call: Callable[..., Any], *arguments: Any, on_thread: bool) -> Any:  # noqa: ANN401  those of the call
    return await asyncio.to_thread(call, *arguments) if on_thread else call(*arguments)


async def _check(response: HttpResponse, context: Context) -> None:
    """End a call with the message of the error if the status of the response is not 200."""
    if response.status == 200:
        return
    code = STATUS_CODES.get(response.status)
    if code is None:
        code = grpc.StatusCode.INVALID_ARGUMENT if response.status < 500 else grpc.StatusCode.INTERNAL
    error = orjson.loads(response.body)["error"]
    await _abort(context, code, error if isinstance(error, str) else error["message"])


async def _abort(context: Context, code: grpc.StatusCode, message: str) -> NoReturn:
    await context.abort(code, message)
    raise AssertionError("abort does not return")
