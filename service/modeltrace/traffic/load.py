"""Send requests at a fixed rate and count the responses.

The load is open: request *n* is due *n* / rate seconds after the start, even if the service is slow. The number of
requests in flight is limited. If the limit is reached when a request is due, the request is not sent and counts as
dropped. Latency is measured from the time at which a request was due.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import orjson

from modeltrace.client.service import describe_error
from modeltrace.traffic.counts import TrafficCounts
from modeltrace.traffic.fault_injection import SLOW_BODY_CHUNKS, SLOW_BODY_SECONDS, FaultInjector, RequestFault
from modeltrace.traffic.rows import Sample

REJECTION_STATUSES = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How much to send.

    Attributes:
        rate: requests per second.
        batch: rows per batch request; `None` sends single rows.
        count: number of requests after which the run ends.
        duration: seconds after which the run ends.
        concurrency: maximum number of requests in flight.
    """

    rate: float
    batch: int | None = None
    count: int | None = None
    duration: float | None = None
    concurrency: int = 64


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request that is ready to be sent, with its true labels and its injected faults."""

    path: str
    body: bytes
    labels: tuple[object, ...]
    faulty_rows: tuple[bool, ...]
    fault: RequestFault


def build_request(samples: Sequence[Sample], faults: FaultInjector, *, batch: bool) -> PlannedRequest:
    """Build a request from copies of the rows and inject faults."""
    rows = [dict(sample.row) for sample in samples]
    faulty_rows = tuple(faults.inject_into_row(row) for row in rows)
    fault = faults.inject_into_request(rows)
    body = orjson.dumps({"rows": rows} if batch else {"features": rows[0]})
    return PlannedRequest(
        path="/predict/batch" if batch else "/predict",
        body=body[:-1] if fault.malformed else body,
        labels=tuple(sample.label for sample in samples),
        faulty_rows=faulty_rows,
        fault=fault,
    )


@dataclass(slots=True)
class LoadGenerator:
    """Send requests to one service. `on_prediction` is called with the ID and the true label of each prediction."""

    client: httpx.AsyncClient
    samples: Iterator[Sample]
    faults: FaultInjector
    plan: LoadPlan
    counts: TrafficCounts
    on_prediction: Callable[[object, object], object] = lambda *_: None
    _in_flight: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def run(self, stop: asyncio.Event, *, drain_timeout: float) -> None:
        """Send requests until the plan is done or `stop` is set.

        Then wait up to `drain_timeout` seconds for requests in flight. A request that is not answered by then failed.
        """
        start = time.perf_counter()
        number = 0
        while not stop.is_set() and (self.plan.count is None or self.counts.sent < self.plan.count):
            elapsed = number / self.plan.rate
            number += 1
            if self.plan.duration is not None and elapsed >= self.plan.duration:
                break
            await _sleep_until(start + elapsed, stop)
            if stop.is_set():
                break
            self._start_request(start + elapsed)
        self.counts.duration = time.perf_counter() - start
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=drain_timeout)
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _start_request(self, due: float) -> None:
        if len(self._in_flight) >= self.plan.concurrency:
            self.counts.dropped += 1
            return
        samples = [next(self.samples) for _ in range(self.plan.batch or 1)]
        request = build_request(samples, self.faults, batch=self.plan.batch is not None)
        self.counts.sent += 1
        task = asyncio.create_task(self._perform(request, due))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _perform(self, request: PlannedRequest, due: float) -> None:
        try:
            response = await self.client.post(
                request.path,
                content=_slow_body(request.body) if request.fault.slow else request.body,
                headers={"content-type": "application/json"},
            )
        except httpx.HTTPError as error:
            self.counts.record_failure(describe_error(error))
            return
        except asyncio.CancelledError:
            self.counts.record_failure("no response before the end of the run")
            raise
        if not request.fault.slow:
            self.counts.latencies.append(time.perf_counter() - due)
        self.counts.last_trace_id = response.headers.get("x-trace-id", self.counts.last_trace_id)
        self._count_response(request, response)

    def _count_response(self, request: PlannedRequest, response: httpx.Response) -> None:
        """Count the response as answered, rejected because of an injected fault, or failed."""
        has_fault = request.fault.error or any(request.faulty_rows)
        if response.status_code in REJECTION_STATUSES and has_fault:
            self.counts.rejected += 1
        elif response.status_code != HTTPStatus.OK:
            self.counts.record_failure(f"HTTP {response.status_code}: {response.text[:200]}")
        else:
            self._count_rows(request, response)

    def _count_rows(self, request: PlannedRequest, response: httpx.Response) -> None:
        try:
            entries = _parse_predictions(response, len(request.labels))
        except ValueError as error:
            self.counts.record_failure(f"invalid response: {error}")
            return
        # An unknown feature is in the first row.
        may_fail = (request.faulty_rows[0] or request.fault.error, *request.faulty_rows[1:])
        unexpected = [e["error"] for e, allowed in zip(entries, may_fail, strict=True) if "error" in e and not allowed]
        if unexpected:
            self.counts.record_failure(f"row rejected: {str(unexpected[0])[:200]}")
            return
        self.counts.answered += 1
        for entry, true_label in zip(entries, request.labels, strict=True):
            if "error" in entry:
                continue
            self.counts.rows += 1
            self.on_prediction(entry.get("prediction_id"), true_label)
            if true_label is not None and entry.get("label") is not None:
                self.counts.labelled += 1
                self.counts.correct += entry["label"] == true_label


def _parse_predictions(response: httpx.Response, rows: int) -> list[dict[str, Any]]:
    """Return one entry per row from a response to a single row or to a batch.

    Raises:
        ValueError: the body has another structure.
    """
    body = response.json()
    entries = body.get("predictions", [body]) if isinstance(body, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it has no predictions")
    if len(entries) != rows:
        raise ValueError(f"{len(entries)} predictions for {rows} rows")
    return entries


async def _sleep_until(due: float, stop: asyncio.Event) -> None:
    delay = due - time.perf_counter()
    if delay <= 0:
        await asyncio.sleep(0)  # late: let responses be read before the next request is sent
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
