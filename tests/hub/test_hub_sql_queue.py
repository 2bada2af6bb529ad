"""Many SQL queries at the same time: few run, the others wait without threads, and no other request waits for them."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from modeltrace_hub.errors import QueryTimeoutError
from modeltrace_hub.sql_query.runner import MAX_CONCURRENT, SqlRunner
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub

# More than the threads of each pool that other requests share.
QUERIES = 60
GROUP = {"scopeSpans": [{"spans": [{"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "imported"}]}]}
MCP_HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


class Blocker:
    """Replaces the run of a query: it blocks until `released` is set."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def run(self, *_: object, **__: object) -> Any:
        """Block, then fail like a query that took too long."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.released.wait(60)
        with self._lock:
            self.running -= 1
        raise QueryTimeoutError("late")


@pytest.fixture
def blocker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocker]:
    """Yield the queries of a hub, which block. Release them after the test."""
    blocker = Blocker()
    monkeypatch.setattr(SqlRunner, "run", blocker.run)
    yield blocker
    blocker.released.set()


def call_tool(hub: InProcessHub, name: str, **arguments: object) -> dict[str, Any]:
    """Call a tool of assistants, and return the result."""
    params = {"name": name, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    response = httpx.post(f"{hub.page_url}/mcp", json=message, headers=MCP_HEADERS, timeout=60)
    result: dict[str, Any] = response.json()["result"]
    return result


def test_waiting_queries_delay_no_other_request(blocker: Blocker) -> None:
    """While 60 queries of the API and 10 of assistants run or wait, other calls, an import and a page are answered."""
    with in_process_hub(sql_timeout="60s") as hub, ThreadPoolExecutor(QUERIES + 10) as senders:
        url = f"{hub.page_url}/api/sql"
        queries = [senders.submit(httpx.get, url, params={"q": "SELECT 1"}, timeout=90) for _ in range(QUERIES)]
        tools = [senders.submit(call_tool, hub, "query_sql", query="SELECT 1") for _ in range(10)]
        deadline = time.monotonic() + 30
        while blocker.running < MAX_CONCURRENT and time.monotonic() < deadline:
            time.sleep(0.01)
        assert blocker.running == MAX_CONCURRENT

        try:
            assert "spans" in call_tool(hub, "list_views")["content"][0]["text"]
            imported = httpx.post(f"{hub.page_url}/api/archive", json={"resourceSpans": [GROUP]}, timeout=60)
            assert imported.json()["stored"] == {"traces": 1}
            assert httpx.get(f"{hub.page_url}/traces", timeout=60).status_code == 200
            assert not any(query.done() for query in (*queries, *tools))
        finally:
            blocker.released.set()  # or the threads never end
        assert {query.result().status_code for query in queries} == {503}
        assert all(tool.result()["isError"] for tool in tools)
    assert blocker.most == MAX_CONCURRENT


def test_a_query_waits_for_a_limited_time(blocker: Blocker) -> None:
    """A query that cannot start within the time limit is refused with 503; the next one can start."""
    with in_process_hub(sql_timeout="1s") as hub, ThreadPoolExecutor(MAX_CONCURRENT + 1) as senders:
        url = f"{hub.page_url}/api/sql"
        queries = [
            senders.submit(httpx.get, url, params={"q": "SELECT 1"}, timeout=90) for _ in range(MAX_CONCURRENT + 1)
        ]
        deadline = time.monotonic() + 30
        while not any(query.done() for query in queries) and time.monotonic() < deadline:
            time.sleep(0.01)
        (refused,) = [query.result() for query in queries if query.done()]
        assert refused.status_code == 503
        assert "other SQL queries are running" in refused.json()["error"]["message"]
        blocker.released.set()
        assert {query.result().status_code for query in queries} == {503}
        assert "late" in httpx.get(url, params={"q": "SELECT 1"}).json()["error"]["message"]
