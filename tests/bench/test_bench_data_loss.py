"""The benches data_loss and visibility_latency: how they count losses and measure latencies."""

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
from modeltrace.telemetry.providers import SCOPE_NAME, ShutdownReport, log_shutdown_report


def make_step(
    *, rows: int = 100, records: int = 100, spans: int = 400, lost: dict[str, int] | None = None, receiver: str = "hub",
    spooled: dict[str, int] | None = None,
) -> Step:  # fmt: skip
    """Make a step of 100 requests in one second."""
    received = Counter({"prediction log records": records, "spans": spans})
    return Step(
        "a step", receiver, 1.0, 100, rows, 0, received, Counter(lost or {}), Counter(spooled or {}), arrival_delay=0.0
    )


def test_the_shutdown_report_of_the_service_is_parsed() -> None:
    """The report is logged by the service itself, as a JSON line among others."""
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

    undelivered = parse_undelivered(text.getvalue().splitlines())

    assert undelivered.lost == {"spans": 12, "prediction log records": 3}
    assert undelivered.spooled == {"log records": 7}


def test_counts_of_the_collector_are_added_up() -> None:
    """Each line adds to the previous ones; an empty document counts nothing."""

    def line(metric: str, number: int) -> str:
        points = f'[{{"asInt": "{number}"}}]'
        metrics = f'[{{"name": "modeltrace.{metric}", "sum": {{"dataPoints": {points}}}}}]'
        return f'{{"resourceMetrics": [{{"scopeMetrics": [{{"metrics": {metrics}}}]}}]}}\n'

    counts = read_counts([line("spans", 4), "{}\n", line("spans", 8), line("prediction_log_records", 3)])

    assert counts == {"spans": 12, "prediction log records": 3}


def test_missing_items_must_equal_the_reported_losses() -> None:
    """The missing items are exactly those that the service reports as dropped or spooled."""
    assert make_step().accounted
    assert make_step(records=90, spans=360, lost={"requests": 10, "prediction log records": 10}).accounted
    lost, spooled = {"spans": 300, "log records": 150}, {"spans": 100, "log records": 60}
    assert make_step(records=0, spans=0, lost=lost, spooled=spooled).accounted
    assert not make_step(records=90).accounted
    assert not make_step(spans=399).accounted
    assert not make_step(lost={"prediction log records": 1}).accounted
    assert not make_step(records=0, spans=0, lost={"spans": 400, "log records": 99}).accounted


def test_the_lossless_rate_is_the_highest_rate_without_a_loss() -> None:
    """The lossy rate is the lowest rate with a loss; both are per receiver."""
    result = summarise(
        [
            make_step(),
            make_step(rows=500, records=500),
            make_step(rows=900, records=899),
            make_step(receiver="Collector"),
        ],
        [],
    )

    assert result["max_lossless_rate"] == {"hub": 500, "Collector": 100}
    assert result["min_lossy_rate"] == {"hub": 900, "Collector": None}
    assert not result["accounted"]


def test_an_item_that_does_not_appear_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends after the timeout, and the latency is missing instead of equal to the timeout."""

    async def never() -> bool:
        return False

    async def immediately() -> bool:
        return True

    start = time.perf_counter()
    assert asyncio.run(visibility_latency.poll_until(immediately, poll_interval=0.01, start=start)) is not None
    monkeypatch.setattr(visibility_latency, "TIMEOUT", 0.05)
    assert asyncio.run(visibility_latency.poll_until(never, poll_interval=0.01, start=start)) is None
    summary = visibility_latency.summarise(("hub", "hub", "hub"), [[10.0, 20.0, None], [30.0, 40.0, None]])
    assert summary["trace"] == {"source": "hub", "median_ms": 20.0, "max_ms": 30.0, "missing": 0}
    assert summary["exemplar"] == {"source": "hub", "median_ms": None, "max_ms": None, "missing": 2}
