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

from modeltrace.client.service import reason
from modeltrace.traffic.fault_injection import SLOW_PIECES, SLOW_SECONDS, Spoiler
from modeltrace.traffic.rows import Sample
from modeltrace.traffic.tally import Tally

REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to send: requests a second, rows in each, when to stop, and how many may be in flight."""

    rate: float
    batch: int | None = None
    count: int | None = None
    duration: float | None = None
    concurrency: int = 64


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to send."""

    path: str
    body: bytes
    slow: bool
    labels: tuple[object, ...]
    spoilt_rows: tuple[bool, ...]
    error: bool


def build_call(samples: Sequence[Sample], spoiler: Spoiler, *, batch: bool) -> Call:
    """Build one request from copies of the rows, spoilt as asked."""
    rows = [dict(sample.row) for sample in samples]
    spoilt = tuple(spoiler.spoil_row(row) for row in rows)
    fault = spoiler.spoil_request(rows)
    body = orjson.dumps({"rows": rows} if batch else {"features": rows[0]})
    return Call(
        path="/predict/batch" if batch else "/predict",
        body=body[:-1] if fault.malformed else body,
        slow=fault.slow,
        labels=tuple(sample.label for sample in samples),
        spoilt_rows=spoilt,
        error=fault.error,
    )


class Load:
    """Drives one client at one service."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        samples: Iterator[Sample],
        spoiler: Spoiler,
        plan: Plan,
        tally: Tally,
        learn: Callable[[object, object], object] = lambda *_: None,
    ) -> None:
        """`learn` is told of each answered prediction its ID and its true label."""
        self._client = client
        self._samples = samples
        self._spoiler = spoiler
        self._plan = plan
        self._tally = tally
        self._learn = learn
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, *, drain: float) -> None:
        """Send until the plan is done or `stop` is set, then give requests in flight `drain` seconds to end.

        Those that do not have failed.
        """
        start = time.perf_counter()
        turn = 0
        while not stop.is_set() and (self._plan.count is None or self._tally.sent < self._plan.count):
            elapsed = turn / self._plan.rate
            turn += 1
            if self._plan.duration is not None and elapsed >= self._plan.duration:
                break
            await _sleep_until(start + elapsed, stop)
            if stop.is_set():
                break
            self._send(start + elapsed)
        self._tally.duration = time.perf_counter() - start
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=drain)
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _send(self, due: float) -> None:
        if len(self._in_flight) >= self._plan.concurrency:
            self._tally.behind += 1
            return
        samples = [next(self._samples) for _ in range(self._plan.batch or 1)]
        call = build_call(samples, self._spoiler, batch=self._plan.batch is not None)
        self._tally.sent += 1
        task = asyncio.create_task(self._call(call, due))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _call(self, call: Call, due: float) -> None:
        try:
            response = await self._client.post(
                call.path,
                content=_dripping(call.body) if call.slow else call.body,
                headers={"content-type": "application/json"},
            )
        except httpx.HTTPError as error:
            self._tally.fail(reason(error))
            return
        except asyncio.CancelledError:
            self._tally.fail("no answer when the time to wait for the last ones was over")
            raise
        if not call.slow:
            self._tally.latencies.append(time.perf_counter() - due)
        self._tally.last_trace = response.headers.get("x-trace-id", self._tally.last_trace)
        self._judge(call, response)

    def _judge(self, call: Call, response: httpx.Response) -> None:
        """Tell answers, refusals of what was spoilt on purpose, and failures apart."""
        spoilt = call.error or any(call.spoilt_rows)
        if response.status_code in REFUSALS and spoilt:
            self._tally.refused += 1
        elif response.status_code != HTTPStatus.OK:
            self._tally.fail(f"HTTP {response.status_code}: {response.text[:200]}")
        else:
            self._judge_rows(call, response)

    def _judge_rows(self, call: Call, response: httpx.Response) -> None:
        try:
            entries = _entries(response, len(call.labels))
        except ValueError as error:
            self._tally.fail(f"the answer is not understood: {error}")
            return
        excused = [spoilt or (call.error and index == 0) for index, spoilt in enumerate(call.spoilt_rows)]
        unexpected = [e["error"] for e, spoilt in zip(entries, excused, strict=True) if "error" in e and not spoilt]
        if unexpected:
            self._tally.fail(f"row refused: {str(unexpected[0])[:200]}")
            return
        self._tally.answered += 1
        for entry, truth in zip(entries, call.labels, strict=True):
            if "error" in entry:
                continue
            self._tally.rows += 1
            self._learn(entry.get("prediction_id"), truth)
            if truth is not None and entry.get("label") is not None:
                self._tally.labelled += 1
                self._tally.agreed += entry["label"] == truth


def _entries(response: httpx.Response, rows: int) -> list[dict[str, Any]]:
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


async def _dripping(body: bytes) -> AsyncIterator[bytes]:
    size = max(1, -(-len(body) // SLOW_PIECES))
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(SLOW_SECONDS / SLOW_PIECES)
