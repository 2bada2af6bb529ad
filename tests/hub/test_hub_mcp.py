"""The MCP server, called by the SDK's own client: over streamable HTTP, and over standard input and output."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from modeltrace_hub.mcp_server.answers import MAX_BYTES, bound_answer
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, span, trace_request

TRACE_ID = "ab" * 16
KEY = "a-key-of-twenty-characters"
TOOLS = {
    *("list_traces", "get_trace", "list_llm_calls", "get_llm_calls", "list_logs", "list_metrics", "get_metric_series"),
    *("list_services", "explain", "query_sql", "list_views"),
}


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """Yield a hub with a failed span and 400 others with long attributes."""
    with in_process_hub() as hub:
        failed = span(trace_id=bytes.fromhex(TRACE_ID), name="failed", status=Status(code=Status.STATUS_CODE_ERROR))
        others = [
            span(trace_id=bytes.fromhex("cd" * 16), name=f"work {number}", attributes=[attribute("text", "x" * 9000)])
            for number in range(400)
        ]
        body = trace_request(failed, *others).SerializeToString()
        headers = {"Content-Type": "application/x-protobuf"}
        hub.client.post("/v1/traces", content=body, headers=headers).raise_for_status()
        yield hub


def call(server: Any, name: str, /, **arguments: Any) -> Any:
    """Call one tool, and return its result."""

    async def run() -> Any:
        async with Client(server) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(run())


def answer(server: Any, name: str, **arguments: Any) -> dict[str, Any]:
    """Return the answer of a tool."""
    result = call(server, name, **arguments)
    assert not result.is_error, result
    assert result.structured_content is None
    (text,) = result.content
    content: dict[str, Any] = orjson.loads(text.text)
    return content


def test_tools_are_described_and_only_read(hub: InProcessHub) -> None:
    """Each tool has a description, and says that it only reads."""

    async def run() -> Any:
        async with Client(f"{hub.page_url}/mcp") as client:
            return await client.list_tools()

    tools = asyncio.run(run()).tools
    assert {tool.name for tool in tools} == TOOLS
    assert all(tool.description and tool.annotations.read_only_hint for tool in tools)


@pytest.mark.slow
def test_answers_are_those_of_the_api_with_a_link(hub: InProcessHub) -> None:
    """A filter applies, and the link opens the same on a page."""
    server = f"{hub.page_url}/mcp"
    traces = answer(server, "list_traces", error=True, since="1970-01-01T00:00:00Z")
    assert [trace["trace_id"] for trace in traces["traces"]] == [TRACE_ID]
    assert TRACE_ID in httpx.get(traces["link"], follow_redirects=True).text
    assert answer(server, "get_trace", trace_id=TRACE_ID)["link"] == f"{hub.page_url}/t/{TRACE_ID}"
    assert answer(server, "list_logs", severity="WARN")["logs"] == []
    assert answer(server, "list_metrics")["metrics"] == []
    assert answer(server, "explain", filters={"select.error": "true"})["selected"]["count"] == 1
    assert "spans" in answer(server, "list_views")["views"]
    assert answer(server, "list_llm_calls", model="gpt-4o")["llm_calls"] == []
    conversations = answer(server, "get_llm_calls", trace_id=TRACE_ID)
    assert (conversations["spans"], conversations["link"]) == ([], f"{hub.page_url}/t/{TRACE_ID}")
    assert [service["service_name"] for service in answer(server, "list_services")["services"]] == ["svc"]
    assert call(server, "get_metric_series", name="nothing").is_error


def test_large_answers_are_cut(hub: InProcessHub) -> None:
    """A trace of megabytes becomes an answer of the bounded size, which says that parts are missing."""
    trace = answer(f"{hub.page_url}/mcp", "get_trace", trace_id="cd" * 16)
    assert "open the link" in trace["omitted"]
    assert trace["span_count"] == 400


def test_bounds_hold_for_any_answer() -> None:
    """An answer with too many keys or items is truncated; a small answer is unchanged."""
    assert bound_answer({"a": [1]}, None) == '{"a":[1]}'
    assert bound_answer({"a": [1]}, "http://hub/") == '{"link":"http://hub/","a":[1]}'
    for huge in ({f"key {number}": number for number in range(50_000)}, {"k" * 30_000: 1}, {"rows": [['"'] * 90] * 90}):
        text = bound_answer(huge, None)
        assert len(orjson.dumps(text)) < MAX_BYTES
        assert "omitted" in text


def test_the_bytes_that_are_sent_are_bounded(hub: InProcessHub) -> None:
    """Rows of many quotes are much longer as a text inside JSON; the whole response is measured."""
    query = "SELECT repeat('\"', 20) AS a, span_id AS b FROM spans, range(10)"
    for name, arguments in (
        ("get_trace", {"trace_id": "cd" * 16, "limit": 200}),
        ("query_sql", {"query": query, "limit": 200}),
        ("list_traces", {"limit": 200}),
    ):
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        headers = {"Accept": "application/json, text/event-stream"}
        response = httpx.post(f"{hub.page_url}/mcp", json=message, headers=headers, timeout=60)
        assert not response.json()["result"].get("isError")
        assert len(response.content) <= MAX_BYTES


def test_errors_are_results(hub: InProcessHub) -> None:
    """The message of the API reaches the assistant."""
    result = call(f"{hub.page_url}/mcp", "list_traces", since="yesterday")
    assert result.is_error
    assert "RFC 3339" in result.content[0].text
    result = call(f"{hub.page_url}/mcp", "query_sql", query="DROP TABLE spans")
    assert result.is_error
    assert call(f"{hub.page_url}/mcp", "list_traces", limit=100_000).is_error
    assert call(f"{hub.page_url}/mcp", "get_trace", trace_id="").is_error
    assert call(f"{hub.page_url}/mcp", "get_trace", trace_id="..").is_error


def test_key_and_origin_are_checked(hub: InProcessHub) -> None:
    """Requests of pages of other sites, and requests without the key, are rejected, as for all paths."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"Accept": "application/json, text/event-stream"}
    foreign = httpx.post(f"{hub.page_url}/mcp", json=message, headers={**headers, "Origin": "https://evil.example"})
    assert foreign.status_code == 403
    with in_process_hub(key=KEY) as locked:
        assert httpx.post(f"{locked.page_url}/mcp", json=message, headers=headers).status_code == 401
        opened = httpx.post(
            f"{locked.page_url}/mcp", json=message, headers={**headers, "Authorization": f"Bearer {KEY}"}
        )
        assert {tool["name"] for tool in opened.json()["result"]["tools"]} == TOOLS


@pytest.mark.slow
def test_the_command_serves_standard_input_and_output(hub: InProcessHub) -> None:
    """`modeltrace-hub mcp` answers the client that starts it."""
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "modeltrace_hub", "mcp", "--url", hub.page_url]
    )
    trace = answer(stdio_client(parameters), "get_trace", trace_id=TRACE_ID)
    assert trace["spans"][0]["name"] == "failed"
    assert trace["link"] == f"{hub.page_url}/t/{TRACE_ID}"
