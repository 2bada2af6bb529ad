"""HTTP/1.1 by uvicorn and httptools, with limits that neither of them has.

- A head is limited in bytes and in time; so is everything that is no progress: trailers, chunk extensions, blank lines.
- While no response is in progress, a timer runs, whatever arrives. Writing has a timer, too.
- An offer to upgrade is ignored (RFC 9110, section 7.8): the request is processed as HTTP/1.1, with its body. httptools
  ends a message that offers an upgrade at its head, so the head is parsed again without the offer.
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

# Seconds that a refused client may take to read why.
LINGER_TIMEOUT: Final = 2.0
# What offers an upgrade: these headers, and their names in `Connection`.
_OFFERS: Final = frozenset({b"upgrade", b"http2-settings"})

_MESSAGES: Final = {
    400: "This is no HTTP/1.1 request, or its URL is not percent-encoded.",
    408: "The request did not arrive in time.",
    414: "The request's URL is too long.",
    431: "The request's headers are too long.",
}


class LimitExceededError(Exception):
    """The parser is told to stop; `status` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(_MESSAGES[status])
        self.status = status


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection.

    `timeout_keep_alive_task`, uvicorn's timer of an idle connection, is here the timer of whatever is waited for: a
    head, the rest of a body that was answered early, or the next request.
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
        self._progress = False  # whether the last data completed a head, or was of a body
        self._unfinished = 0  # bytes that arrived since there was progress
        self._received = 0  # bytes that have just arrived
        self._write_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Expect a head."""
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
        """Parse what has arrived, and see that it leads somewhere."""
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
                self._feed_again(data, upgrade)
        except httptools.HttpParserError as error:
            reason = error.__context__
            self._refuse(reason.status if isinstance(reason, LimitExceededError) else 400)
            return
        if self._progress:
            self._unfinished = 0
        else:
            self._unfinished += len(data)
            if self._unfinished > self.limits.header_bytes:
                self._refuse(self._excess())
                return
        if self.timeout_keep_alive_task is None and (self._in_head or self.cycle is None or self._responded):
            self._wait(self.limits.header_timeout, self._on_timeout)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_message = self._in_head = True

    def on_headers_complete(self) -> None:
        """Start the request, unless it is to be parsed again, its head is too long, or its URL is none."""
        self._in_head = False
        self._progress = True
        if self.parser.should_upgrade():
            return
        if not self.url.isascii():
            raise LimitExceededError(400)
        if self._unfinished + self._received > self.limits.header_bytes:
            self._check_head()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        super().on_headers_complete()
        self.headers = []  # trailers are no headers of the request

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request; if it was answered before, the connection is idle now."""
        if self.parser.should_upgrade():
            return
        self._in_message = False
        self._progress = True
        super().on_message_complete()
        if self._responded:
            self._unset_keepalive_if_required()
            self._wait_for_next()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
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
            self.transport.close()  # whether the body follows is up to the client, so nothing after it could be read
        else:
            self._wait(self.limits.body_timeout, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection."""
        super().timeout_keep_alive_handler()
        self._abort_unless_written()

    def pause_writing(self) -> None:
        """Wait until the client reads, for a limited time."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.body_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    @property
    def _responded(self) -> bool:
        """Whether the last request has been answered."""
        return self.cycle is not None and self.cycle.response_complete

    def _feed_again(self, data: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Parse a head that offers an upgrade once more, without the offer, and what follows it.

        Raises:
            httptools.HttpParserError: it is no HTTP/1.1, or is over a limit.
        """
        rest = memoryview(data)
        while True:
            head, rest = self._head_without_offer(), rest[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as another:  # of a request behind it
                upgrade = another
            else:
                return

    def _check_head(self) -> None:
        """See that the head that is complete is no longer than it may be.

        Raises:
            LimitExceededError: it is.
        """
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limits.header_bytes:
            raise LimitExceededError(self._excess())

    def _head_without_offer(self) -> bytes:
        """Write the parsed head once more, without what offers an upgrade.

        Raises:
            httptools.HttpParserError: the method is CONNECT, which is an upgrade by itself.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("CONNECT is for proxies")
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name in _OFFERS:
                continue
            kept = value
            if name == b"connection":
                kept = b", ".join(part for part in value.split(b",") if part.strip().lower() not in _OFFERS)
            lines.append(b"%b: %b" % (name, kept))
        return b"\r\n".join([*lines, b"", b""])

    def _excess(self) -> int:
        """The status of a head that is too long."""
        return 414 if len(self.url) > self.limits.header_bytes // 2 else 431

    def _wait(self, seconds: float, handler: Callable[[], object]) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, handler)

    def _wait_for_next(self) -> None:
        self._idle = True
        self._wait(self.limits.keep_alive_timeout, self.timeout_keep_alive_handler)

    def _on_timeout(self) -> None:
        """A head did not arrive in time."""
        self.timeout_keep_alive_task = None
        if self._in_head:
            self._refuse(408)
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Answer what cannot be a request, and close once the client has read it.

        Where a response is in progress, it is the last one; where this request's own has begun, the connection is lost.
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
        self.logger.info("refused a request with %d: %s", status, _MESSAGES[status])
        headers = [*self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8")]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(
            b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (STATUS_LINE[status], head, len(body), body)
        )
        if cycle is not None and not cycle.response_complete:
            self.transport.close()  # its application learns that the client is gone
            return
        # Closed at once, the connection would be reset where the client still sends, and the answer with it.
        self.transport.write_eof()
        self._wait(LINGER_TIMEOUT, self.timeout_keep_alive_handler)

    def _abort_unless_written(self) -> None:
        """Give a client that does not read what is left a limited time."""
        if self.transport.get_write_buffer_size():
            self._wait(self.limits.body_timeout, self.transport.abort)
