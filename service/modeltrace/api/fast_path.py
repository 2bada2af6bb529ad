"""Answers the prediction calls ahead of FastAPI, and passes on everything else.

Routing, dependencies and middleware cost a request as much as the rest of its way together. Here a call is found by its
path, its trace is started, and its answer written, by plain ASGI. What is answered is the same as by the routes of
`modeltrace.api.predict`; a test compares the two.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from opentelemetry.context import attach
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from modeltrace.api.body import BodyReader
from modeltrace.api.errors import error_response, internal_error_response
from modeltrace.api.health import UNTRACED_PATHS
from modeltrace.api.predict import Handler
from modeltrace.api.responses import JSON_CONTENT_TYPE, TRACE_HEADER, encode_body
from modeltrace.api.route import route_path
from modeltrace.errors import ClientDisconnectedError, ModeltraceError
from modeltrace.inference.pipeline import record_failure
from modeltrace.telemetry.export.queue import ExportQueue
from modeltrace.telemetry.records.prediction import ACCESS_LOGGER
from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer

logger = logging.getLogger("modeltrace.api")
access_logger = logging.getLogger(ACCESS_LOGGER)

_TRACE_HEADER: Final = TRACE_HEADER.lower().encode()
_SILENT: Final = frozenset(f"/{path}" for path in UNTRACED_PATHS)


class PredictionASGIApp:
    """An ASGI application before another one."""

    def __init__(
        self,
        app: ASGIApp,
        calls: Mapping[str, Handler],
        tracing: RequestTracer,
        outbox: ExportQueue,
        *,
        body: BodyReader,
        active_requests: Counter[tuple[str, str]],
        on_response_sent: Callable[[RequestTrace], object],
    ) -> None:
        """`calls` by path, all of them POST; `active` counts the requests in flight by method and scheme.

        `after` takes each request once its answer is sent.
        """
        self._app = app
        self._calls = calls
        self._tracing = tracing
        self._outbox = outbox
        self._body = body
        self._active = active_requests
        self._after = on_response_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kind = (scope["method"], scope["scheme"])
        path = route_path(scope)
        counted = path not in _SILENT
        self._active[kind] += counted
        try:
            call = self._calls.get(path) if scope["method"] == "POST" else None
            if call is None:
                await self._app(scope, receive, _log_access(scope, send))
            else:
                await self._answer(call, scope, receive, send)
        finally:
            self._active[kind] -= counted

    async def _answer(self, call: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        trace, context = self._tracing.start(scope)
        attach(context)  # never detached: the server answers each request in a context of its own
        trace_id = trace.trace_id_hex
        try:
            status, headers = 200, None
            try:
                content = await call(await self._body.read(scope, receive), trace)
            except ClientDisconnectedError as error:
                logger.info("%s", error)
                return
            except ModeltraceError as error:
                status, payload, headers = error_response(error)
                content = encode_body(payload, trace_id)
            except Exception as error:  # noqa: BLE001  whatever it is, the client gets an answer and the log a stack
                if trace.failure is None:
                    record_failure(trace, "", error)
                status, payload, headers = internal_error_response(error)
                content = encode_body(payload, trace_id)
            fields = [JSON_CONTENT_TYPE, (b"content-length", b"%d" % len(content))]
            if trace_id is not None:
                fields.append((_TRACE_HEADER, trace_id.encode()))
            if headers:
                fields += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": fields})
            trace.status = status
            await send({"type": "http.response.body", "body": content})
        finally:
            trace.end = trace.now()
            self._outbox.enqueue(trace)
            self._after(trace)


def _log_access(scope: Scope, send: Send) -> Send:
    """Write the access line that the server writes by itself when nobody else does, in the server's words."""

    async def logged(message: Message) -> None:
        if message["type"] == "http.response.start" and access_logger.isEnabledFor(logging.INFO):
            said = (
                get_client_addr(scope),  # type: ignore[arg-type]  # an HTTP scope
                scope["method"],
                get_path_with_query_string(scope),  # type: ignore[arg-type]  # an HTTP scope
                scope["http_version"],
                message["status"],
            )
            # The server believes that whoever can be heard by this name wants its own lines, too.
            line = '%s - "%s %s HTTP/%s" %d'
            logging.getLogger().handle(access_logger.makeRecord(ACCESS_LOGGER, logging.INFO, "", 0, line, said, None))
        await send(message)

    return logged
