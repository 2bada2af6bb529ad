"""The hub as a backend, over its JSON API."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

import httpx

from modeltrace.client.service import UnreachableError, describe_error
from modeltrace.doctor.backends.backend import Link, LogRecordRef, Signal, UnresolvedExemplars


class HubBackend:
    """A hub. The client has the URL of the hub's pages as its base URL, and the hub's key in its headers."""

    receiver = "this backend"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._url = str(client.base_url).rstrip("/")

    async def check(self) -> None:
        """Check that a hub answers and accepts the key."""
        await self._get("/api/stats")

    async def span_names(self, trace_id: str) -> list[str]:
        """Return the names of the spans of a trace."""
        return [span["name"] for span in (await self._trace(trace_id)).get("spans", [])]

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Return the log records of a trace."""
        logs = (await self._trace(trace_id)).get("logs", [])
        return [LogRecordRef(log["scope_name"], log["event_name"]) for log in logs]

    async def exemplar_metrics(self, trace_id: str) -> list[str]:
        """Return the names of the metrics that have an exemplar of a trace."""
        return [exemplar["metric_name"] for exemplar in (await self._trace(trace_id)).get("exemplars", [])]

    async def links(self, trace_id: str) -> list[Link]:
        """Return the page of a trace, which shows all signals."""
        return [Link("trace", f"{self._url}/t/{trace_id}")]

    async def explain_missing(self, missing: Collection[Signal]) -> list[str]:  # noqa: ARG002  the stack uses it
        """Return an empty list: telemetry that the hub has received can be queried at once."""
        return []

    async def unresolved_exemplars(self) -> UnresolvedExemplars | None:
        """Return `None`: the hub's pages show for each exemplar whether its trace exists."""
        return None

    async def health_findings(self, trace_id: str) -> list[str]:
        """Return the findings of the hub's page `/health` about the services of a trace; an older hub has none."""
        services = {span["service_name"] for span in (await self._trace(trace_id)).get("spans", [])}
        response = await self._get("/api/health", HTTPStatus.NOT_FOUND)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return []
        findings = [finding for finding in response.json()["findings"] if finding["service"] in services]
        return [f"{finding['service']}: {finding['text']} {finding['advice']}" for finding in findings]

    async def _trace(self, trace_id: str) -> dict[str, Any]:
        response = await self._get(f"/api/traces/{trace_id}", HTTPStatus.NOT_FOUND)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return {}
        trace: dict[str, Any] = response.json()
        return trace

    async def _get(self, path: str, *accepted: HTTPStatus) -> httpx.Response:
        """Return a response with the status 200 or one of `accepted`."""
        try:
            response = await self._client.get(path)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no hub answers at {self._url} ({describe_error(error)}); start one: modeltrace-hub"
            ) from None
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise UnreachableError(f"the hub at {self._url} requires its key: set MODELTRACE_HUB_KEY")
        if response.status_code not in (HTTPStatus.OK, *accepted):
            answer = f"{response.status_code} {response.text[:200]}"
            raise UnreachableError(f"the server at {self._url} is not a hub that can be queried; it answers {answer}")
        return response
