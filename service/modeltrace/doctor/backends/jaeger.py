"""Client of Jaeger's query API (version 3, which returns OTLP JSON)."""

from urllib.parse import urlencode

import httpx

from modeltrace.doctor.backends.api import JsonApi

# A build without web pages serves this instead.
PLACEHOLDER = "<title>Test Page</title>"


class Jaeger:
    """A Jaeger query service."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.api = JsonApi("Jaeger", url, "--jaeger", client)

    async def check(self) -> None:
        """Check that Jaeger answers."""
        answer = await self.api.get_json("/api/v3/services")
        if not isinstance(answer, dict) or "services" not in answer:
            raise self.api.wrong_server_error()

    async def span_names(self, trace_id: str) -> list[str]:
        """Return the names of the spans of a trace."""
        answer = await self.api.get_json(f"/api/v3/traces/{trace_id}")
        if answer is None:
            return []
        return [
            span["name"]
            for resource in answer["result"]["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    async def has_web_ui(self) -> bool:
        """Return whether this build has web pages."""
        return await self.api.has_page("/search", placeholder=PLACEHOLDER)

    def trace_page_url(self, trace_id: str = "") -> str:
        """Return the URL of the page of a trace."""
        return f"{self.api.url}/trace/{trace_id}"

    def trace_json_url(self, trace_id: str = "") -> str:
        """Return the URL of a trace as JSON."""
        return f"{self.api.url}/api/v3/traces/{trace_id}"

    def latest_traces_json_url(self, service: str) -> str:
        """Return the URL of the latest traces of a service as JSON."""
        return f"{self.api.url}/api/traces?{urlencode({'service': service, 'limit': 20})}"
