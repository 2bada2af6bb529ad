"""uvicorn's HTTP/1.1 protocol with limits that uvicorn and httptools do not have.

- The request head (request line and headers) is limited in bytes and time. The byte limit also covers data that is
  neither head nor body: trailers, chunk extensions, blank lines.
- A timer runs whenever no response is in progress, and while a response is written.
- `Upgrade` headers are ignored (RFC 9110, section 7.8), and the request is processed as HTTP/1.1 with its body.
  httptools stops after a head with `Upgrade`, so the head is parsed again without it.
"""

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from modeltrace_http.limits import HttpLimits

# Seconds that a client may take to read an error response before the connection is closed.
LINGER_TIMEOUT: Final = 2.0
# Headers of a protocol upgrade; `Connection` lists their names.
_UPGRADE_HEADERS: Final = frozenset({b"upgrade", b"http2-settings"})

_MESSAGES: Final = {
    400: "This is not an HTTP/1.1 request, or its URL is not percent-encoded.",
    408: "The request did not arrive in time.",
    414: "The request's URL is too long.",
    431: "The request's headers are too long.",
}


class LimitExceededError(Exception):
    """Stops the parser; `status` is the status of the response."""

    def __init__(self, status: int) -> None:
        super().__init__(_MESSAGES[status])
        self.status = status


class LimitedHttpProtocol(HttpToolsProtocol):
    """The protocol of one connection.

    uvicorn uses the timer `timeout_keep_alive_task` for idle connections. This class also uses it while the connection
    waits for a head, or for the rest of a body after an early response.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: HttpLimits,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        self.limits = limits
        self.timeout_keep_alive = limits.keep_alive_timeout  # type: ignore[assignment]  # call_later takes fractions
        self.on_connection_lost: Callable[[], object] = lambda: None
        self.url = b""
        self._in_message = self._in_head = self._broken = False
        self._idle = False  # between two requests
        self._progress = False  # whether the last data completed a head, or belonged to a body
        self._unfinished = 0  # bytes received since the last progress
        self._received = 0  # bytes of the last data
        self._write_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # the signature of uvicorn
        """Start the timer of the first head."""
        super().connection_made(transport)
        self._wait(self.limits.header_timeout, self._on_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        self._unset_keepalive_if_required()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)
        self.on_connection_lost()

    def data_received(self, data: bytes) -> None:
        """Parse the data, and check the limit of data without progress."""
        if self._broken:
            return
        if self._idle:
            self._idle = False
            self._unset_keepalive_if_required()
        self._progress = False
        self._received = len(data)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._reparse_without_upgrade(data, upgrade)
        except httptools.HttpParserError as error:
            reason = error.__context__
            self._reject(reason.status if isinstance(reason, LimitExceededError) else 400)
            return
        if self._progress:
            self._unfinished = 0
        else:
            self._unfinished += len(data)
            if self._unfinished > self.limits.max_header_bytes:
                self._reject(self._too_long_status())
                return
        if self.timeout_keep_alive_task is None and (self._in_head or self.cycle is None or self._responded):
            self._wait(self.limits.header_timeout, self._on_timeout)

    def on_message_begin(self) -> None:
        """Start a message."""
        super().on_message_begin()
        self._in_message = self._in_head = True

    def on_headers_complete(self) -> None:
        """Start the request.

        Raises:
            LimitExceededError: the head is too long, or the URL is invalid.
        """
        self._in_head = False
        self._progress = True
        if self.parser.should_upgrade():
            return
        if not self.url.isascii():
            raise LimitExceededError(400)
        if self._unfinished + self._received > self.limits.max_header_bytes:
            self._check_head()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        super().on_headers_complete()
        self.headers = []  # otherwise trailers would be added to them

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body to the request."""
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the message. If its response is already complete, the connection is idle now."""
        if self.parser.should_upgrade():
            return
        self._in_message = False
        self._progress = True
        super().on_message_complete()
        if self._responded:
            self._unset_keepalive_if_required()
            self._idle = True
            self._wait(self.limits.keep_alive_timeout, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        """Start the timer for the next request, or for the rest of this request."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_unless_written()
        elif self.timeout_keep_alive_task is None:
            return  # a pipelined request has begun
        elif not self._in_message:
            self._idle = True
        elif self._in_head:
            self._wait(self.limits.header_timeout, self._on_timeout)
        elif self.expect_100_continue:
            self.transport.close()  # the client may send the body or not, so the next request cannot be parsed
        else:
            self._wait(self.limits.body_timeout, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection."""
        super().timeout_keep_alive_handler()
        self._abort_unless_written()

    def pause_writing(self) -> None:
        """Start the timer that limits how long the client may take to read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.body_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer that `pause_writing` started."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    @property
    def _responded(self) -> bool:
        """Whether the last request has been answered."""
        return self.cycle is not None and self.cycle.response_complete

    def _reparse_without_upgrade(self, data: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Parse a head again without its `Upgrade` headers, then the data after it.

        Raises:
            httptools.HttpParserError: the data is invalid, or exceeds a limit.
        """
        rest = memoryview(data)
        while True:
            head, rest = self._head_without_upgrade(), rest[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as next_upgrade:  # of a pipelined request
                upgrade = next_upgrade
            else:
                return

    def _check_head(self) -> None:
        """Check the length of a complete head.

        Raises:
            LimitExceededError: the head is too long.
        """
        length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if length > self.limits.max_header_bytes:
            raise LimitExceededError(self._too_long_status())

    def _head_without_upgrade(self) -> bytes:
        """Serialize the parsed head without its `Upgrade` headers.

        Raises:
            httptools.HttpParserError: the method is CONNECT, which httptools treats as an upgrade.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("CONNECT is for proxies")
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name in _UPGRADE_HEADERS:
                continue
            if name == b"connection":
                options = (option for option in value.split(b",") if option.strip().lower() not in _UPGRADE_HEADERS)
                lines.append(b"connection: %b" % b", ".join(options))
            else:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def _too_long_status(self) -> int:
        """Return the status for a head that is too long."""
        return 414 if len(self.url) > self.limits.max_header_bytes // 2 else 431

    def _wait(self, seconds: float, handler: Callable[[], object]) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, handler)

    def _on_timeout(self) -> None:
        """Reject an incomplete head, or close the connection if no request has started."""
        self.timeout_keep_alive_task = None
        if self._in_head:
            self._reject(408)
        elif not self.transport.is_closing():
            self.transport.close()

    def _reject(self, status: int) -> None:
        """Send an error response, and close the connection after the client has read it.

        If the response of an earlier request is in progress, no error response is sent; the connection closes after
        that response. If the response of this request has started, the connection is closed at once.
        """
        self._broken = True
        self._unset_keepalive_if_required()
        cycle, in_body = self.cycle, self._in_message and not self._in_head
        if in_body and cycle is not None and (cycle.response_started or self.pipeline):
            self.transport.close()
        if self.transport.is_closing():
            return
        if not in_body and cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        body = _MESSAGES[status].encode()
        self.logger.info("rejected a request with %d: %s", status, _MESSAGES[status])
        headers = [*self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8")]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(
            b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (STATUS_LINE[status], head, len(body), body)
        )
        if cycle is not None and not cycle.response_complete:
            self.transport.close()  # signals to the application that the client has disconnected
            return
        # Closing while the client still sends would reset the connection, and the client would lose the response.
        self.transport.write_eof()
        self._wait(LINGER_TIMEOUT, self.timeout_keep_alive_handler)

    def _abort_unless_written(self) -> None:
        """Abort the connection after a timeout if the client does not read the remaining data."""
        if self.transport.get_write_buffer_size():
            self._wait(self.limits.body_timeout, self.transport.abort)
