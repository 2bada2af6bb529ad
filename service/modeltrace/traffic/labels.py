"""Send true labels for a share of the predictions, in batches, some time after the predictions."""

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

import httpx

from modeltrace.client.service import describe_error
from modeltrace.traffic.counts import TrafficCounts

# Seconds between two requests.
SEND_INTERVAL: Final = 1.0
MAX_LABELS_PER_REQUEST: Final = 1000


@dataclass(frozen=True, slots=True)
class FeedbackConfig:
    """Share of predictions whose true label is sent, and the delay in seconds."""

    share: float
    delay: float


@dataclass(slots=True)
class LabelSender:
    """Queue true labels until they are due, then send them.

    Attributes:
        client: the client of the service.
        feedback: which labels are sent, and when.
        rng: selects the predictions whose label is sent.
        counts: receives the number of labels that the service accepted, and the failures.
    """

    client: httpx.AsyncClient
    feedback: FeedbackConfig
    rng: random.Random
    counts: TrafficCounts
    _pending: deque[tuple[float, dict[str, object]]] = field(default_factory=deque, init=False)

    def schedule(self, prediction_id: object, label: object) -> None:
        """Queue the true label of a prediction, if it has one and the prediction is selected."""
        if label is not None and self.rng.random() < self.feedback.share:
            self._pending.append((monotonic() + self.feedback.delay, {"prediction_id": prediction_id, "label": label}))

    async def run(self, no_more_labels: asyncio.Event) -> None:
        """Send labels when they are due. When `no_more_labels` is set, send all remaining labels at once and return."""
        while not no_more_labels.is_set():
            try:
                async with asyncio.timeout(SEND_INTERVAL):
                    await no_more_labels.wait()
            except TimeoutError:
                await self._send(monotonic())
        await self._send(float("inf"))

    async def _send(self, now: float) -> None:
        while items := list(self._pop_due(now)):
            try:
                response = await self.client.post("/feedback", json={"items": items})
                ok = response.status_code == HTTPStatus.OK
                results: list[dict[str, Any]] = response.json()["results"] if ok else []
            except httpx.HTTPError as error:
                self.counts.record_failure(f"labels: {describe_error(error)}")
                return
            except (ValueError, KeyError, TypeError) as error:
                self.counts.record_failure(f"labels: {error!r}")
                return
            if not ok:
                self.counts.record_failure(f"labels: HTTP {response.status_code}: {response.text[:200]}")
                return
            accepted = sum("status" in result for result in results)
            self.counts.labels += accepted
            if accepted < len(items):
                reason = next((result["error"] for result in results if "error" in result), "wrong number of results")
                self.counts.record_failure(f"labels: {len(items) - accepted} rejected: {str(reason)[:200]}")

    def _pop_due(self, now: float) -> Iterator[dict[str, object]]:
        for _ in range(MAX_LABELS_PER_REQUEST):
            if not self._pending or self._pending[0][0] > now:
                return
            yield self._pending.popleft()[1]
