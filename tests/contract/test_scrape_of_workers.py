"""`/metrics` of several workers: exact sums, which no end of a worker decreases."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.load import LoadClients
from tests.helpers.processes import free_port, wait_until
from tests.helpers.services import running_service

pytestmark = pytest.mark.slow
Rows = list[dict[str, float]]
WORKERS = 3
Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Scrape:
    """All samples, and those of counters and histograms."""

    samples: dict[Series, float] = field(default_factory=dict)
    counters: dict[Series, float] = field(default_factory=dict)


def scrape(url: str) -> Scrape:
    """Scrape on a new connection, so that any worker may answer."""
    answer = httpx.get(f"{url}/metrics", timeout=60)
    assert answer.status_code == 200, answer.text
    result = Scrape()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            series = sample.name, tuple(sorted(sample.labels.items()))
            result.samples[series] = sample.value
            if family.type in ("counter", "histogram"):
                result.counters[series] = sample.value
    return result


def total(scraped: Scrape, name: str) -> float:
    """Return the sum of the series of a metric."""
    return sum(value for (series, _), value in scraped.samples.items() if series == name)


def counters_that_decreased(scrapes: list[Scrape]) -> set[Series]:
    """Return the series of counters and histograms whose value is lower, or missing, in a later scrape."""
    return {
        series
        for before, after in pairwise(scrapes)
        for series, value in before.counters.items()
        if after.counters.get(series, -1.0) < value
    }


def workers_of(pid: int) -> list[int]:
    """Return the process IDs of the workers of a supervisor."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize("instrumentation", ["sidecar", pytest.param("sdk", marks=pytest.mark.extended)])
def test_scrapes_count_every_request_although_workers_are_killed(
    bundle: Path, rows: Rows, instrumentation: str
) -> None:
    """Under load and with two killed workers no counter decreases; what was answered before a kill stays counted."""
    env = {"MODELTRACE_INSTRUMENTATION": instrumentation, "OTEL_METRICS_EXPORTER": "prometheus"}
    nowhere = f"http://127.0.0.1:{free_port()}"
    with running_service(bundle, nowhere, "--workers", str(WORKERS), seconds=240, **env) as (service, url):
        service.wait_for_workers(WORKERS)
        scrapes: list[Scrape] = []
        stopping = threading.Event()

        def keep_scraping() -> None:
            while not stopping.wait(0.05):
                with suppress(httpx.TransportError):  # the worker that was to answer is killed
                    scrapes.append(scrape(url))

        scraper = threading.Thread(target=keep_scraping)
        scraper.start()
        try:
            with LoadClients(url, rows, reconnect=True) as first:
                first.wait_for_answers(150)
            answered = len(first.answers)
            wait_until(_predictions(scrapes, answered), description=f"{answered} predictions in /metrics")

            killed, under_load, _ = workers_of(service.popen.pid)
            os.kill(killed, signal.SIGKILL)  # idle, so nothing may be lost
            wait_until(lambda: service.log.count("startup complete") > WORKERS, description="its successor")
            with LoadClients(url, rows, reconnect=True) as second:
                second.wait_for_answers(150)
            answered += len(second.answers)
            wait_until(_predictions(scrapes, answered), description=f"{answered} predictions in /metrics")

            with LoadClients(url, rows, reconnect=True) as third:
                third.wait_for_answers(20)
                os.kill(under_load, signal.SIGKILL)
                wait_until(lambda: service.log.count("startup complete") > WORKERS + 1, description="its successor")
        finally:
            stopping.set()
            scraper.join()
        last = scrape(url)
        assert service.stop() in (0, -signal.SIGTERM)

    assert counters_that_decreased([*scrapes, last]) == set()
    assert total(last, "ml_predictions_total") >= answered
    loaded = [value for (name, _), value in last.samples.items() if name == "ml_model_loaded"]
    assert loaded == [1.0]  # a gauge of the bundle is shown once, and not added


def _predictions(scrapes: list[Scrape], number: int) -> Callable[[], bool]:
    """Return whether the last scrape shows exactly this number of predictions and of requests."""

    def shown() -> bool:
        last = scrapes[-1] if scrapes else Scrape()
        requests = sum(
            value
            for (name, labels), value in last.samples.items()
            if name == "http_server_request_duration_seconds_count" and ("http_route", "/predict") in labels
        )
        return total(last, "ml_predictions_total") == requests == number

    return shown
