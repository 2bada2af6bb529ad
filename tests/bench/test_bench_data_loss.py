"""How bench/data_loss.py and what it uses read what was lost, and how bench/visibility_latency.py waits."""

import asyncio
import io
import logging
import time
from collections import Counter

import pytest
from pythonjsonlogger.orjson import OrjsonFormatter

from bench import visibility_latency
from bench.data_loss import Step, summarise
from bench.null_receivers import read_counts
from bench.subject import parse_undelivered
from modeltrace.telemetry.provider import SCOPE_NAME, ShutdownReport, log_shutdown_report


def a_step(
    *, rows: int = 100, records: int = 100, spans: int = 400, lost: dict[str, int] | None = None, sink: str = "hub",
    kept: dict[str, int] | None = None,
) -> Step:  # fmt: skip
    """A step of 100 requests in a second."""
    arrived = Counter({"prediction log records": records, "spans": spans})
    return Step("a step", sink, 1.0, 100, rows, 0, arrived, Counter(lost or {}), Counter(kept or {}), arrival_delay=0.0)


def test_what_the_service_says_at_its_stop_is_understood() -> None:
    """The words are the service's own, on a JSON line among others."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(OrjsonFormatter(["levelname", "message"]))
    logger = logging.getLogger(SCOPE_NAME)
    logger.addHandler(handler)
    try:
        logger.warning("something else: 12 spans")
        log_shutdown_report(ShutdownReport({"spans": 12, "prediction log records": 3}, {"log records": 7}))
    finally:
        logger.removeHandler(handler)

    found = parse_undelivered(text.getvalue().splitlines())

    assert found.lost == {"spans": 12, "prediction log records": 3}
    assert found.spooled == {"log records": 7}


def test_counts_of_the_collector_add_up() -> None:
    """Each line adds to what came before; nothing counted is an empty document."""

    def line(metric: str, number: int) -> str:
        points = f'[{{"asInt": "{number}"}}]'
        metrics = f'[{{"name": "modeltrace.{metric}", "sum": {{"dataPoints": {points}}}}}]'
        return f'{{"resourceMetrics": [{{"scopeMetrics": [{{"metrics": {metrics}}}]}}]}}\n'

    found = read_counts([line("spans", 4), "{}\n", line("spans", 8), line("prediction_log_records", 3)])

    assert found == {"spans": 12, "prediction log records": 3}


def test_a_loss_that_is_counted_adds_up_and_one_in_silence_does_not() -> None:
    """Missing is what the service says was dropped, or is on disk: no more, and no less."""
    assert a_step().accounted
    assert a_step(records=90, spans=360, lost={"requests": 10, "prediction log records": 10}).accounted
    assert a_step(records=0, spans=0, lost={"spans": 300, "log records": 150}, kept={"spans": 100, "log records": 60}
                  ).accounted  # fmt: skip
    assert not a_step(records=90).accounted
    assert not a_step(spans=399).accounted
    assert not a_step(lost={"prediction log records": 1}).accounted
    assert not a_step(records=0, spans=0, lost={"spans": 400, "log records": 99}).accounted


def test_the_rate_that_is_held_is_the_highest_without_a_loss() -> None:
    """Dropping starts at the lowest rate with one; each backend has its own."""
    result = summarise(
        [a_step(), a_step(rows=500, records=500), a_step(rows=900, records=899), a_step(sink="Collector")], []
    )

    assert result["held"] == {"hub": 500, "Collector": 100}
    assert result["dropping_from"] == {"hub": 900, "Collector": None}
    assert not result["accounted"]


def test_what_never_comes_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting ends; the figure then says that it never came, not how long was waited."""
    monkeypatch.setattr(visibility_latency, "PATIENCE", 0.05)

    async def never() -> bool:
        return False

    async def at_once() -> bool:
        return True

    since = time.perf_counter()
    found = [
        asyncio.run(visibility_latency.poll_until(question, poll_interval=0.01, start=since))
        for question in (at_once, never)
    ]

    assert found[0] is not None
    assert found[1] is None
    summary = visibility_latency.summarise(("hub", "hub", "hub"), [[10.0, 20.0, None], [30.0, 40.0, None]])
    assert summary["trace"] == {"where": "hub", "median_ms": 20.0, "max_ms": 30.0, "missing": 0}
    assert summary["exemplar"] == {"where": "hub", "median_ms": None, "max_ms": None, "missing": 2}
