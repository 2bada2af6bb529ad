"""Clients that ask for predictions and remember every answer."""

import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import httpx

from tests.helpers.processes import until

Rows = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Answered:
    """One answered prediction: its ID and trace, and how long it took in seconds."""

    prediction_id: str
    trace_id: str
    seconds: float


class Load:
    """Clients that ask for predictions, each as soon as it has its answer or after a `pause` in seconds."""

    def __init__(self, url: str, rows: Rows, clients: int = 4, *, reconnect: bool = False, pause: float = 0.0) -> None:
        self.answers: list[Answered] = []
        self.refused: list[int] = []
        self._pause = pause
        self._kept_connections = 0 if reconnect else 1
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, rows)) for _ in range(clients)]

    @property
    def answered(self) -> list[str]:
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

    def _ask(self, url: str, rows: Rows) -> None:
        limits = httpx.Limits(max_keepalive_connections=self._kept_connections)
        with httpx.Client(base_url=url, timeout=10, limits=limits) as client:
            for number in range(1_000_000):
                if self._stopping.wait(self._pause) if self._pause else self._stopping.is_set():
                    return
                start = time.perf_counter()
                try:
                    answer = client.post("/predict", json={"features": rows[number % len(rows)]})
                except httpx.HTTPError:
                    return  # the service has gone: what was not answered was not promised
                self._keep(answer, time.perf_counter() - start)

    def _keep(self, answer: httpx.Response, seconds: float) -> None:
        if answer.status_code == 200:
            said: dict[str, Any] = answer.json()
            self.answers.append(Answered(said["prediction_id"], said["trace_id"], seconds))
        else:
            self.refused.append(answer.status_code)

    def grows_by(self, number: int) -> None:
        """Wait until that many more were answered."""
        goal = len(self.answers) + number
        until(lambda: len(self.answers) >= goal, what=f"{number} more predictions")
