"""The hub as a backend, over its JSON API."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

import httpx

from modeltrace.client.service import UnreachableError, describe_error
from modeltrace.doctor.backends.backend import Link, LogRecordRef, Signal, UnresolvedExemplars


class HubBackend:
    """Asks a hub. The client's base URL is the hub's page; its headers carry the key where one is needed."""

    receiver = "this backend"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._url = str(client.base_url).rstrip("/")

    async def check(self) -> None:
        """See that a hub answers, and takes the key."""
        answer = await self._get("/api/stats")
        if answer.status_code != HTTPStatus.OK:
            raise self._unexpected_answer_error(answer)

    async def span_names(self, trace_id: str) -> list[str]:
        """The names of its spans."""
        return [span["name"] for span in (await self._trace(trace_id)).get("spans", [])]

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Its log records."""
        return [
            LogRecordRef(log["scope_name"], log["event_name"]) for log in (await self._trace(trace_id)).get("logs", [])
        ]

    async def exemplar_metrics(self, trace_id: str) -> list[str]:
        """The names of the metrics with an exemplar of it."""
        return [exemplar["metric_name"] for exemplar in (await self._trace(trace_id)).get("exemplars", [])]

    async def links(self, trace_id: str) -> list[Link]:
        """Its page, which has everything."""
        return [Link("look", f"{self._url}/t/{trace_id}")]

    async def explain_missing(self, missing: Collection[Signal]) -> list[str]:  # noqa: ARG002  what other backends need
        """Nothing: what the hub has taken is there to be asked for."""
        return []

    async def unresolved_exemplars(self) -> UnresolvedExemplars | None:
        """It does not keep count: its pages say it of each trace."""
        return None

    async def _trace(self, trace_id: str) -> dict[str, Any]:
        answer = await self._get(f"/api/traces/{trace_id}")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return {}
        if answer.status_code != HTTPStatus.OK:
            raise self._unexpected_answer_error(answer)
        found: dict[str, Any] = answer.json()
        return found

    async def _get(self, path: str) -> httpx.Response:
        try:
            answer = await self._client.get(path)
        except httpx.HTTPError as error:
            raise UnreachableError(f"no hub answers at {self._url} ({describe_error(error)}); start one: hub") from None
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise UnreachableError(f"the hub at {self._url} wants its key: set MODELTRACE_HUB_KEY to the one it has")
        return answer

    def _unexpected_answer_error(self, answer: httpx.Response) -> UnreachableError:
        said = f"{answer.status_code} {answer.text[:200]}"
        return UnreachableError(f"what answers at {self._url} is no hub that can be asked; it says: {said}")
