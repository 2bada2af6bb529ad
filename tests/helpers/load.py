"""Clients that ask for predictions and remember every answer."""

import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import httpx

from tests.helpers.processes import wait_until

Rows = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class AnsweredPrediction:
    """One answered prediction: its ID and trace, and how long it took in seconds."""

    prediction_id: str
    trace_id: str
    seconds: float


class LoadClients:
    """Clients that ask for predictions, each as soon as it has its answer or after a `pause` in seconds."""

    def __init__(self, url: str, rows: Rows, clients: int = 4, *, reconnect: bool = False, pause: float = 0.0) -> None:
        self.answers: list[AnsweredPrediction] = []
        self.rejected_statuses: list[int] = []
        self._pause = pause
        self._keepalive_connections = 0 if reconnect else 1
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send_requests, args=(url, rows)) for _ in range(clients)]

    @property
    def prediction_ids(self) -> list[str]:
        """The IDs of the predictions that were answered."""
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
                    answer = client.post("/predict", json={"features": rows[number % len(rows)]})
                except httpx.HTTPError:
                    return  # the service has gone: what was not answered was not promised
                self._record_answer(answer, time.perf_counter() - start)

    def _record_answer(self, answer: httpx.Response, seconds: float) -> None:
        if answer.status_code == 200:
            said: dict[str, Any] = answer.json()
            self.answers.append(AnsweredPrediction(said["prediction_id"], said["trace_id"], seconds))
        else:
            self.rejected_statuses.append(answer.status_code)

    def wait_for_answers(self, number: int) -> None:
        """Wait until that many more were answered."""
        goal = len(self.answers) + number
        wait_until(lambda: len(self.answers) >= goal, description=f"{number} more predictions")
