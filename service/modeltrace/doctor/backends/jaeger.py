"""Jaeger, over its OTLP-shaped API."""

from urllib.parse import urlencode

import httpx

from modeltrace.doctor.backends.api import JsonApi

# What a build without the web pages shows in their place.
PLACEHOLDER = "<title>Test Page</title>"


class Jaeger:
    """Asks for traces."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.api = JsonApi("Jaeger", url, "--jaeger", client)

    async def check(self) -> None:
        """See that it is Jaeger that answers."""
        said = await self.api.get_json("/api/v3/services")
        if not isinstance(said, dict) or "services" not in said:
            raise self.api.wrong_server_error()

    async def span_names(self, trace_id: str) -> list[str]:
        """The names of a trace's spans."""
        said = await self.api.get_json(f"/api/v3/traces/{trace_id}")
        if said is None:
            return []
        return [
            span["name"]
            for resource in said["result"]["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    async def has_trace(self, trace_id: str) -> bool:
        """Whether the trace is there."""
        return bool(await self.span_names(trace_id))

    async def has_web_ui(self) -> bool:
        """Whether this build has the web pages."""
        return await self.api.has_page("/search", placeholder=PLACEHOLDER)

    def trace_page_url(self, trace_id: str = "") -> str:
        """The page of a trace."""
        return f"{self.api.url}/trace/{trace_id}"

    def trace_json_url(self, trace_id: str = "") -> str:
        """A trace as JSON."""
        return f"{self.api.url}/api/v3/traces/{trace_id}"

    def latest_traces_json_url(self, service: str) -> str:
        """A service's latest traces as JSON."""
        return f"{self.api.url}/api/traces?{urlencode({'service': service, 'limit': 20})}"
