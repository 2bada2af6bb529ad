"""Answer prediction and feedback requests with plain ASGI; FastAPI answers all other requests.

FastAPI's routing, dependencies and middleware take as long as the rest of a prediction. This application looks up the
handler by path, starts the trace and writes the response itself. The FastAPI routes in `modeltrace.api.application`
return equal responses; a test compares them.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.context import attach
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from modeltrace.api.body import BodyReader
from modeltrace.api.errors import error_response
from modeltrace.api.model_and_health import UNTRACED_PATHS
from modeltrace.api.predict import Handler
from modeltrace.api.protocol_routes import Endpoint
from modeltrace.api.request_target import route_path
from modeltrace.api.responses import JSON_CONTENT_TYPE, TRACE_HEADER, encode_body
from modeltrace.errors import ClientDisconnectedError
from modeltrace.inference.pipeline import record_failure
from modeltrace.telemetry.export.queue import ExportQueue
from modeltrace.telemetry.records.prediction import ACCESS_LOGGER
from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer

logger = logging.getLogger("modeltrace.api")
access_logger = logging.getLogger(ACCESS_LOGGER)

_TRACE_HEADER: Final = TRACE_HEADER.lower().encode()
_UNTRACED: Final = frozenset(f"/{path}" for path in UNTRACED_PATHS)


@dataclass(frozen=True, kw_only=True)
class PredictionASGIApp:
    """ASGI application that answers the requests of `handlers` and endpoints, and passes all others to `app`.

    Attributes:
        app: the application that answers all other requests.
        handlers: handlers of POST requests by path.
        find_endpoint: finds the handler of another POST request, by a path that may have parameters.
        tracer: starts the trace of a request.
        export_queue: receives each finished request.
        body_reader: reads request bodies.
        active_requests: requests in progress by method and scheme; updated here.
        listeners: called with each finished request after its response.
    """

    app: ASGIApp
    handlers: Mapping[str, Handler]
    find_endpoint: Callable[[str], Endpoint | None]
    tracer: RequestTracer
    export_queue: ExportQueue
    body_reader: BodyReader
    active_requests: Counter[tuple[str, str]]
    listeners: Sequence[Callable[[RequestTrace], object]] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it to the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        key = (scope["method"], scope["scheme"])
        path = route_path(scope)
        counted = path not in _UNTRACED
        self.active_requests[key] += counted
        try:
            handler = self.handlers.get(path) if scope["method"] == "POST" else None
            if handler is not None:
                await self._answer(handler, scope, receive, send)
            elif scope["method"] == "POST" and (endpoint := self.find_endpoint(path)):
                await self._answer(endpoint.handler, scope, receive, send, route=endpoint.route)
            else:
                await self.app(scope, receive, _log_access(scope, send))
        finally:
            self.active_requests[key] -= counted

    async def _answer(self, handler: Handler, scope: Scope, receive: Receive, send: Send, *, route: str = "") -> None:
        trace, context = self.tracer.start(scope)
        if route:
            trace.http = trace.http._replace(route=route)
        attach(context)  # never detached: the server runs each request in its own context
        trace_id = trace.trace_id_hex
        try:
            status, headers, own_headers = 200, None, None
            try:
                content = await handler(await self.body_reader.read(scope, receive), trace)
                if not isinstance(content, bytes):
                    content, own_headers = content
            except ClientDisconnectedError as error:
                logger.info("%s", error)
                return
            except Exception as error:  # noqa: BLE001  the client gets a response, the log the stack trace
                status, payload, headers = error_response(error, route_path(scope))
                if status == 500 and trace.failure is None:
                    record_failure(trace, "", error)
                content = encode_body(payload, trace_id)
            length = (b"content-length", b"%d" % len(content))
            fields = [JSON_CONTENT_TYPE, length] if own_headers is None else [*own_headers, length]
            if trace_id is not None:
                fields.append((_TRACE_HEADER, trace_id.encode()))
            if headers:
                fields += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": fields})
            trace.status = status
            await send({"type": "http.response.body", "body": content})
        finally:
            trace.end = trace.now()
            self.export_queue.enqueue(trace)
            for listener in self.listeners:
                listener(trace)


def _log_access(scope: Scope, send: Send) -> Send:
    """Return a `send` that writes an access log line, in the server's format, when the response starts."""

    async def logged(message: Message) -> None:
        if message["type"] == "http.response.start" and access_logger.isEnabledFor(logging.INFO):
            arguments = (
                get_client_addr(scope),  # type: ignore[arg-type]  # an HTTP scope
                scope["method"],
                get_path_with_query_string(scope),  # type: ignore[arg-type]  # an HTTP scope
                scope["http_version"],
                message["status"],
            )
            # Passed to the root logger: if the access logger had a handler, uvicorn would also log each request.
            line = '%s - "%s %s HTTP/%s" %d'
            record = access_logger.makeRecord(ACCESS_LOGGER, logging.INFO, "", 0, line, arguments, None)
            logging.getLogger().handle(record)
        await send(message)

    return logged
