"""Send the changes of a page as server-sent events.

A script requests the address of its page again, with `Accept: text/event-stream`. The hub then requests the page from
its own application, in the interval that the page states (`data-live`), and sends which lines have changed. Each part
of a page is therefore rendered in one place only. Other requests are passed on.

The events have the format of the HTML Living Standard, section 9.2. The ID of an event is the ETag of the page; a
request with `Last-Event-ID` gets no event until the page has another ETag. The data is a JSON array, from which the
client composes the lines of the page: a string is new lines, and `[start, count]` stands for lines of the event before.
The first event of a response has strings only.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modeltrace_hub.json_responses import json_response

EVENT_STREAM: Final = "text/event-stream"
# A browser opens at most six connections to a host, so its pages leave some of them to other requests.
MAX_STREAMS_PER_CLIENT: Final = 4
MAX_STREAMS: Final = 64
# Seconds until a page whose interval is not known yet is requested.
FIRST_INTERVAL: Final = 0.4
# Seconds without an event after which a comment is sent, because proxies close silent connections.
COMMENT_INTERVAL: Final = 15.0

_OTHER_PATHS: Final = ("/api/", "/static/", "/internal/", "/mcp", "/healthz")
_LIVE: Final = re.compile(r'<main\b[^>]*\bdata-live="(\d+)"')
_CONTENT: Final = re.compile(r"<title>.*?</title>|<main\b.*</main>", re.DOTALL)
# The browser itself updates relative times, so they are no changes.
_RELATIVE_TIME: Final = re.compile(r"(<time\b[^>]*\bdata-ns=[^>]*>)[^<]*")

Part = str | tuple[int, int]


class _Page(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def etag(self) -> str:
        """The ETag; empty if the page has none."""
        return Headers(raw=self.headers).get("etag", "")


class LiveUpdates:
    """ASGI middleware: answers requests for the changes of a page."""

    def __init__(self, app: ASGIApp, closing: asyncio.Event | None = None) -> None:
        """Wrap an application.

        Args:
            app: the application with the pages.
            closing: set it to end all streams, which would otherwise delay the end of the server.
        """
        self._app = app
        self._closing = closing or asyncio.Event()
        self._streams: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the changes of a page, or pass the request on."""
        if not _requests_events(scope):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A page of another site could send this request without an Origin header, although it cannot read the events.
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            message = "The hub sends the updates of its pages to its own pages only."
            response = json_response({"error": {"type": "forbidden", "message": message}}, 403)
            await response(scope, receive, send)
            return
        client = scope["client"][0] if scope.get("client") else ""
        if self._streams[client] >= MAX_STREAMS_PER_CLIENT or self._streams.total() >= MAX_STREAMS:
            message = "Too many pages receive updates. Request the page itself, with If-None-Match."
            response = json_response({"error": {"type": "busy", "message": message}}, 429)
            response.headers["Retry-After"] = "30"
            await response(scope, receive, send)
            return
        self._streams[client] += 1
        try:
            await self._answer(scope, receive, send, headers.get("last-event-id", ""))
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]

    async def _answer(self, scope: Scope, receive: Receive, send: Send, etag: str) -> None:
        page = await self._request_page(scope, etag)
        if page.status != 304 and _live_interval(page) is None:  # it does not update itself
            await send({"type": "http.response.start", "status": page.status, "headers": page.headers})
            await send({"type": "http.response.body", "body": page.body})
            return
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would wait for more data
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": the changes of this page\n\n", "more_body": True})
        ends = [asyncio.create_task(_wait_for_disconnect(receive)), asyncio.create_task(self._closing.wait())]
        try:
            await self._send_changes(scope, send, page, etag, ends)
        finally:
            for task in ends:
                task.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _send_changes(
        self, scope: Scope, send: Send, page: _Page, etag: str, ends: Sequence[asyncio.Task[object]]
    ) -> None:
        """Send an event for each change until a task of `ends` is done, or until the page updates itself no longer."""
        lines: list[str] = []
        interval, elapsed, sent_at = FIRST_INTERVAL, 0.0, time.monotonic()
        while page.status < 500:
            if page.status != 304:
                etag = page.etag
                content = _read_lines(page)
                if content != lines:
                    await send(_event(etag, compute_delta(lines, content)))
                    lines, sent_at = content, time.monotonic()
                milliseconds = _live_interval(page)
                if milliseconds is None:
                    return
                interval = milliseconds / 1000
            if time.monotonic() - sent_at > COMMENT_INTERVAL:
                await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
                sent_at = time.monotonic()
            # A page that takes long is requested less often.
            done, _ = await asyncio.wait(ends, timeout=interval + elapsed, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            started = time.monotonic()
            page = await self._request_page(scope, etag)
            elapsed = time.monotonic() - started

    async def _request_page(self, scope: Scope, etag: str) -> _Page:
        """Request the page from the application. An ETag is sent as `If-None-Match`."""
        headers = [(name, value) for name, value in scope["headers"] if name != b"if-none-match"]
        if etag:
            headers.append((b"if-none-match", etag.encode("latin-1", "replace")))
        status, response_headers, body = 500, [], bytearray()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, response_headers
            if message["type"] == "http.response.start":
                status, response_headers = message["status"], list(message["headers"])
            else:
                body.extend(message.get("body", b""))

        await self._app({**scope, "headers": headers, "state": {}}, receive, send)
        return _Page(status, response_headers, bytes(body))


def compute_delta(old: Sequence[str], new: Sequence[str]) -> list[Part]:
    """Return the parts from which `new` is composed: strings of new lines, and ranges of lines of `old`.

    The result is not always the shortest one, but takes time in proportion to the number of lines.
    """
    positions = {line: index for index, line in reversed([*enumerate(old)])}
    parts: list[Part] = []
    start = count = 0
    added: list[str] = []
    for line in new:
        if count and start + count < len(old) and old[start + count] == line:
            count += 1
            continue
        if count:
            parts.append((start, count))
            count = 0
        if (position := positions.get(line)) is None:
            added.append(line)
            continue
        if added:
            parts.append("\n".join(added))
            added = []
        start, count = position, 1
    if count:
        parts.append((start, count))
    elif added:
        parts.append("\n".join(added))
    return parts


def _requests_events(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and not scope["path"].startswith(_OTHER_PATHS)
        and Headers(scope=scope).get("accept", "").split(";")[0].strip() == EVENT_STREAM
    )


def _live_interval(page: _Page) -> int | None:
    """Return the interval of a page in milliseconds; None if it does not update itself."""
    match = _LIVE.search(page.body.decode(errors="replace"))
    return int(match[1]) or None if match else None


def _read_lines(page: _Page) -> list[str]:
    """Return the lines of the title and the content of a page."""
    content = "\n".join(_CONTENT.findall(page.body.decode(errors="replace")))
    return _RELATIVE_TIME.sub(r"\1", content).split("\n")


def _event(etag: str, parts: Sequence[Part]) -> Message:
    identity = f"id: {etag}\n" if etag else ""
    body = f"{identity}data: ".encode("latin-1", "replace") + orjson.dumps(parts) + b"\n\n"
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
