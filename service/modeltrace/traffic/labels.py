"""True labels, sent some time after their predictions, as they come in life: late, together, not for each."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

import httpx

from modeltrace.client.service import describe_error

# Seconds between two requests with what is due.
SEND_INTERVAL: Final = 1.0
# Labels of a request.
MAX_LABELS_PER_REQUEST: Final = 1000


@dataclass(frozen=True, slots=True)
class FeedbackConfig:
    """For which share of answers a label is sent, and how many seconds after."""

    share: float
    delay: float


class LabelSender:
    """Waits with labels until they are due, and sends them."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        feedback: FeedbackConfig,
        rng: random.Random,
        *,
        on_sent: Callable[[int], object],
        on_failed: Callable[[str], object],
    ) -> None:
        """`sent` hears how many labels were taken; `failed` of each request or label that was not, and why."""
        self._client = client
        self._feedback = feedback
        self._rng = rng
        self._on_sent = on_sent
        self._on_failed = on_failed
        self._pending: deque[tuple[float, dict[str, object]]] = deque()

    def schedule(self, prediction_id: object, label: object) -> None:
        """Know what was right; whether it is told is left to chance."""
        if label is not None and self._rng.random() < self._feedback.share:
            self._pending.append((monotonic() + self._feedback.delay, {"prediction_id": prediction_id, "label": label}))

    async def run(self, no_more_labels: asyncio.Event) -> None:
        """Send what is due until the end; what is left then is sent without waiting any longer."""
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
                answer = await self._client.post("/feedback", json={"items": items})
                results: list[dict[str, Any]] = answer.json()["results"] if answer.status_code == HTTPStatus.OK else []
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                self._on_failed(
                    f"labels: {describe_error(error) if isinstance(error, httpx.HTTPError) else repr(error)}"
                )
                return
            if answer.status_code != HTTPStatus.OK:
                self._on_failed(f"labels: HTTP {answer.status_code}: {answer.text[:200]}")
                return
            taken = sum("status" in one for one in results)
            self._on_sent(taken)
            if taken < len(items):
                refused = next((one["error"] for one in results if "error" in one), "another number of results")
                self._on_failed(f"labels: {len(items) - taken} refused: {str(refused)[:200]}")

    def _pop_due(self, now: float) -> Iterator[dict[str, object]]:
        for _ in range(MAX_LABELS_PER_REQUEST):
            if not self._pending or self._pending[0][0] > now:
                return
            yield self._pending.popleft()[1]
