"""`/metrics` of several workers: their snapshots are added, also after they have ended."""

import math
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modeltrace.errors import SettingsError
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.metrics.readers import SharedPrometheusReader
from modeltrace.telemetry.metrics.shared_folder import SharedMetrics, create_shared_folder
from modeltrace.telemetry.metrics.snapshots import add_snapshots, to_metrics_data
from tests.helpers.factories import request_record
from tests.helpers.processes import wait_until

Samples = dict[str, float]


class Worker:
    """The metrics of one worker: requests, a counter, a histogram, an up-down counter and gauges."""

    def __init__(self, folder: Path, level: float = 0.0) -> None:
        self.registry, self.level = CollectorRegistry(), level
        self.requests = PredictionMetrics(exemplar_filter="trace_based")
        resource = Resource({"service.name": "modeltrace", "service.instance.id": f"i{os.getpid()}"})
        self.reader = SharedPrometheusReader(self.registry, SharedMetrics(folder))
        self.reader.with_sources([self.requests], resource, InstrumentationScope("modeltrace"))
        meters = MeterProvider([self.reader], resource=resource, shutdown_on_exit=False)
        self.meters, meter = meters, meters.get_meter("tests")
        self.events = meter.create_counter("events")
        self.seconds = meter.create_histogram("seconds", explicit_bucket_boundaries_advisory=[1.0, 2.0])
        self.active = meter.create_up_down_counter("active")
        meter.create_observable_gauge("level", [self._observe])
        meter.create_observable_gauge("process.cpu.utilization", [self._observe])
        self.reader.start()

    def _observe(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(self.level)]

    def scrape(self) -> Samples:
        """Return the sum of each name's samples, and the buckets of the histogram."""
        samples: Samples = {}
        for family in text_string_to_metric_families(generate_latest(self.registry).decode()):
            for sample in family.samples:
                name = f"{sample.name}_{sample.labels['le']}" if sample.name == "seconds_bucket" else sample.name
                samples[name] = samples.get(name, 0.0) + sample.value
        return samples

    def count_request(self) -> None:
        """Count one request."""
        self.requests.add([request_record()[1]])
        self.reader.on_records(())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for the snapshots."""
    with create_shared_folder() as folder:
        yield folder


@pytest.fixture
def start_worker(folder: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers in this process."""
    with ExitStack() as stack:

        def start(level: float = 0.0) -> Worker:
            worker = Worker(folder, level)
            stack.callback(worker.meters.shutdown)
            return worker

        yield start


def _run_worker(folder: Path, commands: Connection) -> None:
    """Count as often as `commands` says, and answer when it is counted."""
    worker = Worker(folder, level=5.0)
    while True:
        number = commands.recv()
        for _ in range(number):
            worker.events.add(1)
            worker.seconds.record(1.5)
            worker.active.add(1)
            worker.count_request()
        commands.send(number)


@contextmanager
def worker_process(folder: Path) -> Iterator[tuple[int, Connection]]:
    """Run another worker, and return its process ID and its commands."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run_worker, args=(folder, there), daemon=True)
    process.start()
    try:
        assert process.pid is not None
        yield process.pid, here
    finally:
        process.kill()
        process.join()


def test_workers_are_added(start_worker: Callable[..., Worker]) -> None:
    """Counters, histograms and up-down counters are sums; a gauge has the latest value; CPU shares are added."""
    first, second = start_worker(0.25), start_worker(0.5)
    first.events.add(3)
    second.events.add(4)
    first.seconds.record(0.5)
    second.seconds.record(1.5)
    second.seconds.record(9.0)
    first.active.add(1)
    second.active.add(2)
    second.scrape()

    samples = first.scrape()

    assert samples["events_total"] == 7
    assert {name: samples[f"seconds_{name}"] for name in ("bucket_1.0", "bucket_2.0", "bucket_+Inf", "count")} == {
        "bucket_1.0": 1,
        "bucket_2.0": 2,
        "bucket_+Inf": 3,
        "count": 3,
    }
    assert samples["seconds_sum"] == pytest.approx(11.0, abs=1e-9)
    assert samples["active"] == 3
    assert samples["level"] == 0.25
    assert samples["process_cpu_utilization"] == 0.75


def test_labels_do_not_name_a_worker(start_worker: Callable[..., Worker]) -> None:
    """Scrapes by different workers have the same `target_info`."""
    worker = start_worker()
    worker.events.add(1)

    text = generate_latest(worker.registry).decode()

    assert 'target_info{service_name="modeltrace"} 1.0' in text
    assert "instance" not in text


def count_in(commands: Connection, number: int) -> None:
    """Let another worker count, and wait until it has."""
    commands.send(number)
    assert commands.recv() == number


@pytest.mark.slow
def test_a_killed_worker_is_counted_and_its_gauges_are_not(folder: Path, start_worker: Callable[..., Worker]) -> None:
    """After SIGKILL its counters stay, its active requests and gauges do not, and its files are removed."""
    worker = start_worker(1.0)
    worker.events.add(2)
    with worker_process(folder) as (pid, commands):
        count_in(commands, 15)
        before = wait_until(
            lambda: samples if (samples := worker.scrape()).get("events_total") == 17 else None,
            description="the counts of the other worker, which nobody scrapes",
        )
        os.kill(pid, signal.SIGKILL)
        after = wait_until(
            lambda: samples if "active" not in (samples := worker.scrape()) else None, description="its end"
        )

    assert (before["active"], before["process_cpu_utilization"]) == (15, 6.0)
    assert (after["events_total"], after["seconds_count"], after["seconds_sum"]) == (17, 15, 22.5)
    assert after["http_server_request_duration_seconds_count"] == 15
    assert (after["level"], after["process_cpu_utilization"]) == (1.0, 1.0)
    assert len(list(folder.glob("*.alive"))) == 1
    assert worker.scrape() == after


def test_a_stopped_worker_writes_its_last_counts(start_worker: Callable[..., Worker]) -> None:
    """A shutdown does not wait for the interval."""
    stopped, worker = start_worker(), start_worker()
    stopped.events.add(6)
    stopped.meters.shutdown()

    assert worker.scrape()["events_total"] == 6


def test_a_reader_that_is_killed_does_not_add_twice(folder: Path) -> None:
    """The files of an ended worker may still exist after its counts have been added to the sums."""
    ended, worker = SharedMetrics(folder), SharedMetrics(folder)
    key = (("tests", "", "", ()), "events", "", "", "counter", ())
    ended.write("sdk", {key: {(): 4}})
    os.close(ended._alive)  # as if its process had ended
    files = {path: path.read_bytes() for path in folder.iterdir() if path.name.startswith(ended._name)}
    assert worker.read() == {key: {(): 4}}
    for path, content in files.items():
        path.write_bytes(content)

    assert worker.read() == {key: {(): 4}}
    assert not any(path.exists() for path in files)


def test_counters_never_decrease_while_workers_scrape_at_the_same_time(start_worker: Callable[..., Worker]) -> None:
    """Scrapes that different workers answer one after the other never show fewer events."""
    workers = [start_worker() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:

        def count(worker: Worker) -> None:
            for _ in range(200):
                worker.events.add(1)

        tasks = [threads.submit(count, worker) for worker in workers]
        seen = [0.0]
        while not all(task.done() for task in tasks):
            seen += [worker.scrape().get("events_total", 0.0) for worker in workers]
        seen += [worker.scrape()["events_total"] for worker in workers]

    assert seen == sorted(seen)
    assert seen[-1] == 600


def test_without_a_temporary_folder_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several workers cannot start then."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))

    with pytest.raises(SettingsError, match=r"temporary folder: No such file or directory; name one in TMPDIR"):
        create_shared_folder().__enter__()


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=8), st.data())
def test_sums_do_not_depend_on_the_order_of_workers_and_their_ends(values: list[float], data: st.DataObject) -> None:
    """The shown sum is the correctly rounded sum of all workers, so it cannot decrease by a rounding error."""
    key = (("tests", "", "", ()), "sum", "", "", "counter", ())
    order = data.draw(st.permutations(values))
    number_ended = data.draw(st.integers(0, len(values)))
    ended = [{key: {(): value}} for value in order[:number_ended]]
    running = [{key: {(): value}} for value in order[number_ended:]]

    total = add_snapshots(running, [add_snapshots([], ended)])

    (metric,) = to_metrics_data(total, Resource({})).resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert isinstance(point, NumberDataPoint)
    assert point.value == math.fsum(values)


def test_infinite_sums_are_shown() -> None:
    """A sum beyond the largest number is infinite, and so is what is added to it."""
    key = (("tests", "", "", ()), "sum", "", "", "counter", ())
    big, infinite = {key: {(): 1.7e308}}, {key: {(): math.inf}}

    for snapshots in ([big, big], [big, infinite], [big, big, infinite]):
        (metric,) = to_metrics_data(add_snapshots(snapshots), Resource({})).resource_metrics[0].scope_metrics[0].metrics
        (point,) = metric.data.data_points
        assert isinstance(point, NumberDataPoint)
        assert point.value == math.inf
