"""Sends requests at a fixed rate, whatever the service does, and counts what came back.

The load is open: request *n* is due at *n* / rate after the start, and a slow service does not postpone it. Requests in
flight are bounded; a request that is due while the bound is reached is not sent but counted as behind, so that the
figures never hide it. Latency counts from when a request was due.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
import orjson

from modeltrace.client.service import describe_error
from modeltrace.traffic.fault_injection import SLOW_BODY_CHUNKS, SLOW_BODY_SECONDS, FaultInjector
from modeltrace.traffic.rows import Sample
from modeltrace.traffic.tally import TrafficCounts

REJECTION_STATUSES = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How much to send: requests a second, rows in each, when to stop, and how many may be in flight."""

    rate: float
    batch: int | None = None
    count: int | None = None
    duration: float | None = None
    concurrency: int = 64


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request, ready to send."""

    path: str
    body: bytes
    slow: bool
    labels: tuple[object, ...]
    faulty_rows: tuple[bool, ...]
    error: bool


def build_request(samples: Sequence[Sample], faults: FaultInjector, *, batch: bool) -> PlannedRequest:
    """Build one request from copies of the rows, spoilt as asked."""
    rows = [dict(sample.row) for sample in samples]
    spoilt = tuple(faults.inject_into_row(row) for row in rows)
    fault = faults.inject_into_request(rows)
    body = orjson.dumps({"rows": rows} if batch else {"features": rows[0]})
    return PlannedRequest(
        path="/predict/batch" if batch else "/predict",
        body=body[:-1] if fault.malformed else body,
        slow=fault.slow,
        labels=tuple(sample.label for sample in samples),
        faulty_rows=spoilt,
        error=fault.error,
    )


class LoadGenerator:
    """Drives one client at one service."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        samples: Iterator[Sample],
        faults: FaultInjector,
        plan: LoadPlan,
        counts: TrafficCounts,
        on_prediction: Callable[[object, object], object] = lambda *_: None,
    ) -> None:
        """`learn` is told of each answered prediction its ID and its true label."""
        self._client = client
        self._samples = samples
        self._faults = faults
        self._plan = plan
        self._counts = counts
        self._on_prediction = on_prediction
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, *, drain_timeout: float) -> None:
        """Send until the plan is done or `stop` is set, then give requests in flight `drain` seconds to end.

        Those that do not have failed.
        """
        start = time.perf_counter()
        turn = 0
        while not stop.is_set() and (self._plan.count is None or self._counts.sent < self._plan.count):
            elapsed = turn / self._plan.rate
            turn += 1
            if self._plan.duration is not None and elapsed >= self._plan.duration:
                break
            await _sleep_until(start + elapsed, stop)
            if stop.is_set():
                break
            self._start_request(start + elapsed)
        self._counts.duration = time.perf_counter() - start
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=drain_timeout)
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _start_request(self, due: float) -> None:
        if len(self._in_flight) >= self._plan.concurrency:
            self._counts.dropped += 1
            return
        samples = [next(self._samples) for _ in range(self._plan.batch or 1)]
        call = build_request(samples, self._faults, batch=self._plan.batch is not None)
        self._counts.sent += 1
        task = asyncio.create_task(self._perform(call, due))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _perform(self, call: PlannedRequest, due: float) -> None:
        try:
            response = await self._client.post(
                call.path,
                content=_slow_body(call.body) if call.slow else call.body,
                headers={"content-type": "application/json"},
            )
        except httpx.HTTPError as error:
            self._counts.record_failure(describe_error(error))
            return
        except asyncio.CancelledError:
            self._counts.record_failure("no answer when the time to wait for the last ones was over")
            raise
        if not call.slow:
            self._counts.latencies.append(time.perf_counter() - due)
        self._counts.last_trace_id = response.headers.get("x-trace-id", self._counts.last_trace_id)
        self._count_response(call, response)

    def _count_response(self, call: PlannedRequest, response: httpx.Response) -> None:
        """Tell answers, refusals of what was spoilt on purpose, and failures apart."""
        spoilt = call.error or any(call.faulty_rows)
        if response.status_code in REJECTION_STATUSES and spoilt:
            self._counts.rejected += 1
        elif response.status_code != HTTPStatus.OK:
            self._counts.record_failure(f"HTTP {response.status_code}: {response.text[:200]}")
        else:
            self._count_rows(call, response)

    def _count_rows(self, call: PlannedRequest, response: httpx.Response) -> None:
        try:
            entries = _parse_predictions(response, len(call.labels))
        except ValueError as error:
            self._counts.record_failure(f"the answer is not understood: {error}")
            return
        excused = [spoilt or (call.error and index == 0) for index, spoilt in enumerate(call.faulty_rows)]
        unexpected = [e["error"] for e, spoilt in zip(entries, excused, strict=True) if "error" in e and not spoilt]
        if unexpected:
            self._counts.record_failure(f"row refused: {str(unexpected[0])[:200]}")
            return
        self._counts.answered += 1
        for entry, truth in zip(entries, call.labels, strict=True):
            if "error" in entry:
                continue
            self._counts.rows += 1
            self._on_prediction(entry.get("prediction_id"), truth)
            if truth is not None and entry.get("label") is not None:
                self._counts.labelled += 1
                self._counts.correct += entry["label"] == truth


def _parse_predictions(response: httpx.Response, rows: int) -> list[dict[str, Any]]:
    """One entry a row, of an answer to one row or to a batch.

    Raises:
        ValueError: the answer is something else.
    """
    answer = response.json()
    entries = answer.get("predictions", [answer]) if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it holds no predictions")
    if len(entries) != rows:
        raise ValueError(f"{len(entries)} predictions for {rows} rows")
    return entries


async def _sleep_until(due: float, stop: asyncio.Event) -> None:
    delay = due - time.perf_counter()
    if delay <= 0:
        await asyncio.sleep(0)  # late: let answers be read before the next request goes out
        return
    try:
        async with asyncio.timeout(delay):
            await stop.wait()
    except TimeoutError:
        return


async def _slow_body(body: bytes) -> AsyncIterator[bytes]:
    size = max(1, -(-len(body) // SLOW_BODY_CHUNKS))
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(SLOW_BODY_SECONDS / SLOW_BODY_CHUNKS)
