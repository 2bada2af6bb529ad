"""Clients that send prediction requests and record every response."""

import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import httpx

from tests.helpers.processes import wait_until

Rows = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class AnsweredPrediction:
    """An answered prediction: its ID, its trace ID, and its duration in seconds."""

    prediction_id: str
    trace_id: str
    seconds: float


class LoadClients:
    """Clients that send the next request when they have a response, or after a `pause` in seconds."""

    def __init__(self, url: str, rows: Rows, clients: int = 4, *, reconnect: bool = False, pause: float = 0.0) -> None:
        self.answers: list[AnsweredPrediction] = []
        self.rejected_statuses: list[int] = []
        self._pause = pause
        self._keepalive_connections = 0 if reconnect else 1
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send_requests, args=(url, rows)) for _ in range(clients)]

    @property
    def prediction_ids(self) -> list[str]:
        """The IDs of the answered predictions."""
        return [answer.prediction_id for answer in self.answers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _send_requests(self, url: str, rows: Rows) -> None:
        limits = httpx.Limits(max_keepalive_connections=self._keepalive_connections)
        with httpx.Client(base_url=url, timeout=10, limits=limits) as client:
            for number in range(1_000_000):
                if self._stopping.wait(self._pause) if self._pause else self._stopping.is_set():
                    return
                start = time.perf_counter()
                try:
                    response = client.post("/predict", json={"features": rows[number % len(rows)]})
                except httpx.HTTPError:
                    return  # the service has ended: unanswered requests do not count
                self._record_answer(response, time.perf_counter() - start)

    def _record_answer(self, response: httpx.Response, seconds: float) -> None:
        if response.status_code == 200:
            body: dict[str, Any] = response.json()
            self.answers.append(AnsweredPrediction(body["prediction_id"], body["trace_id"], seconds))
        else:
            self.rejected_statuses.append(response.status_code)

    def wait_for_answers(self, number: int) -> None:
        """Wait until this number of further predictions has been answered."""
        goal = len(self.answers) + number
        wait_until(lambda: len(self.answers) >= goal, description=f"{number} more predictions")
