"""The changes of a page as server-sent events, with raw HTTP."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from modeltrace_hub.web.live_updates import MAX_STREAMS_PER_CLIENT, LiveUpdates, compute_delta
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_sender import Sender, span

EVENTS = {"Accept": "text/event-stream"}
StartHub = Callable[..., AbstractContextManager[InProcessHub]]


class Events:
    """The events of a response, and the lines of the page that they compose."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines: list[str] = []
        self.etag = ""
        self.parts: list[str | list[int]] = []
        self._blocks = self._read_blocks()

    def next(self) -> str:
        """Wait for the next event and return the page."""
        block = next(block for block in self._blocks if not block.startswith(":"))
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        self.etag, self.parts = fields.get("id", ""), json.loads(fields["data"])
        lines: list[str] = []
        for part in self.parts:
            lines += part.split("\n") if isinstance(part, str) else self.lines[part[0] : part[0] + part[1]]
        self.lines = lines
        return "\n".join(lines)

    def _read_blocks(self) -> Iterator[str]:
        buffer = ""
        for text in self.response.iter_text():
            *blocks, buffer = (buffer + text).split("\n\n")
            yield from blocks


@contextmanager
def follow(hub: InProcessHub, path: str, **headers: str) -> Iterator[Events]:
    """Open the stream of a page."""
    with (
        httpx.Client(base_url=hub.page_url, timeout=60) as client,
        client.stream("GET", path, headers=EVENTS | headers) as response,
    ):
        yield Events(response)


def sender(hub: InProcessHub) -> Sender:
    """Return a sender to the hub."""
    return Sender(f"http://127.0.0.1:{hub.settings.http_port}")


def test_an_event_has_only_what_changed(hub: InProcessHub) -> None:
    """The first event has the page, the next one only its changed lines. Their IDs are ETags."""
    first = sender(hub).prediction()
    with follow(hub, "/traces") as events:
        assert events.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert first in events.next()
        assert all(isinstance(part, str) for part in events.parts)

        second = sender(hub).prediction()
        while second not in (page := events.next()):
            pass

        assert first in page
        assert page.startswith("<title>Traces")
        assert page.endswith("</main>")
        kept = sum(part[1] for part in events.parts if not isinstance(part, str))
        assert kept > len(events.lines) / 2
        assert re.fullmatch('W/"[0-9a-f]{8}-[0-9]+"', events.etag)


def test_relative_times_are_no_changes(hub: InProcessHub) -> None:
    """The page of an event has no relative times, which the browser updates itself."""
    sender(hub).prediction()
    with follow(hub, "/traces") as events:
        page = events.next()

    assert "data-ns=" in page
    assert not re.search(r"data-ns=[^>]*>[^<]", page)


def test_a_page_that_is_current_gets_no_event(hub: InProcessHub) -> None:
    """With the version of the page as `Last-Event-ID`, the first event is the first change."""
    sender(hub).prediction()
    html = httpx.get(f"{hub.page_url}/traces")
    assert f'<meta name="page-version" content="{html.headers["ETag"]}">' in html.text.replace("&#34;", '"')
    with follow(hub, "/traces", **{"Last-Event-ID": html.headers["ETag"]}) as events:
        trace_id = sender(hub).prediction()

        while trace_id not in events.next():  # its log records may be stored first
            assert events.etag != html.headers["ETag"]


def test_a_page_without_updates_is_answered_as_usual(hub: InProcessHub) -> None:
    """A page that does not update itself, an API call and an error are no streams."""
    trace_id = sender(hub).prediction()
    with httpx.Client(base_url=hub.page_url, headers=EVENTS) as client:
        page = client.get("/traces?filter=duration+%3E+fast")
        api = client.get(f"/api/traces/{trace_id}")

    assert (page.status_code, page.headers["Content-Type"]) == (422, "text/html; charset=utf-8")
    assert (api.status_code, api.headers["Content-Type"]) == (200, "application/json")


def test_a_trace_that_arrives_is_an_event(hub: InProcessHub) -> None:
    """The page that waits for a trace gets the page of the trace."""
    with follow(hub, f"/t/{'ab' * 16}") as events:
        assert "Trace not found" in events.next()
        sender(hub).spans(span(b"\xab" * 16, "POST /predict", time.time_ns(), 1))
        assert "POST /predict" in events.next()


def test_other_sites_get_no_stream(hub: InProcessHub) -> None:
    """Requests with another Origin, and requests of other sites without an Origin, are refused."""
    for headers in ({"Origin": "https://example.com"}, {"Sec-Fetch-Site": "cross-site"}):
        assert httpx.get(f"{hub.page_url}/traces", headers=EVENTS | headers).status_code == 403


def test_a_stream_needs_the_key(start_hub: StartHub) -> None:
    """With a key, a stream needs it like any request."""
    with start_hub(key="k" * 16) as hub:
        assert httpx.get(f"{hub.page_url}/traces", headers=EVENTS).status_code == 401
        with follow(hub, "/traces", Authorization=f"Bearer {'k' * 16}") as events:
            assert "No traces have arrived yet" in events.next()


def test_the_streams_of_a_client_are_limited(start_hub: StartHub) -> None:
    """A client with too many streams gets 429, and a stream again once one has ended."""
    with start_hub() as hub, httpx.Client(base_url=hub.page_url, timeout=60) as client:
        with ExitStack() as streams:
            opened = [streams.enter_context(follow(hub, "/traces")) for _ in range(MAX_STREAMS_PER_CLIENT)]
            for events in opened:
                events.next()
            with client.stream("GET", "/traces", headers=EVENTS) as refused:
                assert refused.status_code == 429
                assert refused.headers["Retry-After"] == "30"
            assert client.get("/traces").status_code == 200

        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            with client.stream("GET", "/traces", headers=EVENTS) as response:
                if response.status_code == 200:
                    break
            time.sleep(0.05)


def test_a_client_that_does_not_read_causes_no_work() -> None:
    """While a client does not read, its page is not requested again. The server closes such connections."""

    async def run() -> None:
        requested = 0
        blocked, released = asyncio.Event(), asyncio.Event()

        async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
            nonlocal requested
            requested += 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b'<main data-live="1">%d</main>' % requested})

        async def receive() -> Message:
            await released.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if b"data:" in message.get("body", b""):
                blocked.set()
                await released.wait()

        headers = [(b"accept", b"text/event-stream")]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}
        stream = asyncio.create_task(LiveUpdates(app)(scope, receive, send))  # type: ignore[arg-type]  # a coroutine
        await blocked.wait()
        await asyncio.sleep(0.1)  # a hundred intervals of the page
        assert requested == 1
        released.set()
        await stream

    asyncio.run(run())


def test_streams_end_when_the_hub_stops(start_hub: StartHub) -> None:
    """A stopping hub ends its streams, with a complete response."""
    with start_hub() as hub:
        stream = follow(hub, "/traces")
        events = stream.__enter__()
        events.next()
    with pytest.raises(StopIteration):
        events.next()


@given(st.lists(st.sampled_from("abcde")), st.lists(st.sampled_from("abcdefg")))
def test_a_delta_composes_the_new_lines(old: list[str], new: list[str]) -> None:
    """The parts of a delta are the new lines; equal lists are one range."""
    parts = compute_delta(old, new)
    lines: list[str] = []
    for part in parts:
        lines += part.split("\n") if isinstance(part, str) else old[part[0] : part[0] + part[1]]
    assert lines == new
    if new and new == old and len(set(new)) == len(new):
        assert parts == [(0, len(new))]
