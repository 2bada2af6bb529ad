"""When the sidecar is killed, stopped or cut off, no prediction fails and none is lost."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.helpers.hubs import HubPorts
from tests.helpers.load import LoadClients
from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.receivers import Response, otlp_http
from tests.helpers.restartable_hubs import RestartableHub
from tests.helpers.services import LONG_FLUSH, otlp_environment, running_service, stop_service_and_hub
from tests.helpers.sidecars import counts_in_log, has_ended, kill_leftover, sidecars

pytestmark = [pytest.mark.slow, pytest.mark.extended]
Rows = list[dict[str, float]]
REQUEST_INTERVAL = 0.01  # seconds
SPANS_PER_REQUEST = 4


@pytest.fixture
def hub(tmp_path: Path) -> RestartableHub:
    """Return a hub that is not running."""
    return RestartableHub(tmp_path / "hub", HubPorts.reserve())


def test_a_sidecar_that_dies_without_traffic_is_replaced_at_once(bundle: Path, rows: Rows, hub: RestartableHub) -> None:
    """The replacement does not need a new record, and it receives the records that the dead sidecar had batched."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        slow = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "otlp"}
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url, **slow, **LONG_FLUSH))
        (sidecar,) = wait_until(lambda: sidecars(service), description="the sidecar")
        answer = httpx.post(f"{url}/predict", json={"features": rows[0]}).raise_for_status().json()
        wait_until(lambda: answer["prediction_id"] in service.log, description="its log line")
        os.kill(sidecar, signal.SIGKILL)
        wait_until(lambda: sidecars(service) not in ([], [sidecar]), description="another sidecar")
        stop_service_and_hub(service, process)
        log = service.log

    assert hub.prediction_records() == {answer["prediction_id"]: 1}
    assert set(hub.span_counts().values()) == {1}
    assert log.count(answer["prediction_id"]) == 1  # its line is not written again


@pytest.mark.parametrize("requests", [20, 1000], ids=["the pipe has space", "the pipe is full"])
def test_a_shutdown_does_not_wait_for_a_stopped_sidecar(
    bundle: Path, rows: Rows, hub: RestartableHub, requests: int
) -> None:
    """While the sidecar is stopped (SIGSTOP), the service predicts and ends; afterwards the sidecar continues alone."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url))
        with LoadClients(url, rows) as load:
            load.wait_for_answers(100)
            (sidecar,) = sidecars(service)
            os.kill(sidecar, signal.SIGSTOP)
            stack.callback(kill_leftover, sidecar)
            load.wait_for_answers(requests)
        service.stop(signal.SIGTERM)
        os.kill(sidecar, signal.SIGCONT)
        wait_until(lambda: has_ended(sidecar), description="the sidecar to end by itself")
        process.stop(signal.SIGTERM)
        log = service.log

    lost = counts_in_log(log, "not delivered").get("prediction log records", 0)
    records = hub.prediction_records()
    print(f"{len(load.prediction_ids)} answered, {lost} counted as lost")  # noqa: T201
    assert load.rejected_statuses == []
    assert "continues to deliver telemetry by itself" in log
    assert len(load.prediction_ids) - len(records) == lost
    assert set(records.values()) == {1}


@pytest.mark.parametrize("unavailable", [True, False], ids=["unavailable", "available"])
def test_a_shutdown_does_not_wait_for_a_reader_of_stdout(
    bundle: Path, rows: Rows, tmp_path: Path, unavailable: bool
) -> None:
    """If nobody reads standard output, the service predicts and ends, and telemetry is delivered or spooled."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MODELTRACE_"))}
    files = {"MODELTRACE_SPOOL_DIR": str(tmp_path / "spool"), "MODELTRACE_STORE": str(tmp_path / "predictions.db")}
    with ExitStack() as stack:
        endpoint = stack.enter_context(otlp_http())
        if unavailable:
            endpoint.respond = lambda _: Response(503)
        service = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "modeltrace", "serve", str(bundle), "--port", str(port)],
                env={**environment, **otlp_environment(endpoint.url), **files},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        stack.callback(service.kill)
        process = Process(service, tmp_path / "log")
        (tmp_path / "log").touch()
        process.wait_for(f"http://127.0.0.1:{port}/readyz")
        with LoadClients(f"http://127.0.0.1:{port}", rows) as load:
            load.wait_for_answers(400)  # 400 kB of lines; a pipe buffers 64 kB
        (sidecar,) = sidecars(process)
        process.stop(signal.SIGTERM)
        wait_until(lambda: has_ended(sidecar), description="the sidecar to end")
        arrived = b"".join(endpoint.accepted) + b"".join(f.read_bytes() for f in tmp_path.glob("spool/*/*/*.logs.*"))

    assert load.rejected_statuses == []
    assert [prediction_id for prediction_id in load.prediction_ids if prediction_id.encode() not in arrived] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_batched_predictions_survive_a_shutdown_once(
    bundle: Path, rows: Rows, hub: RestartableHub, workers: int
) -> None:
    """With batching, every answered prediction of each worker arrives exactly once with all its spans."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(
            running_service(bundle, hub.otlp_url, "--workers", str(workers), MODELTRACE_BATCHING="true", **LONG_FLUSH)
        )
        service.wait_for_workers(workers)
        with LoadClients(url, rows, clients=8, reconnect=workers > 1) as load:
            load.wait_for_answers(300)
            stop_service_and_hub(service, process)

    records, spans = hub.prediction_records(), hub.span_counts()
    assert set(load.prediction_ids) <= set(records)
    assert set(records.values()) == set(spans.values()) == {1}
    assert len(spans) == (SPANS_PER_REQUEST + 1) * len(records)  # with `queue`
    assert hub.prediction_count() == len(records)


def test_telemetry_is_spooled_until_an_endpoint_is_available(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """Without an endpoint predictions succeed and telemetry is spooled; it arrives once when an endpoint starts."""
    spool = tmp_path / "spool"
    with ExitStack() as stack:
        service, url = stack.enter_context(
            running_service(bundle, hub.otlp_url, MODELTRACE_SPOOL_DIR=str(spool), **LONG_FLUSH)
        )
        with LoadClients(url, rows, pause=REQUEST_INTERVAL) as load:
            load.wait_for_answers(300)
            wait_until(lambda: requests_on_disk(spool), description="a request on disk")
            process = stack.enter_context(hub.running()).process
            load.wait_for_answers(100)
            wait_until(lambda: not requests_on_disk(spool), description="an empty spool")
        stop_service_and_hub(service, process)
        log = service.log

    records, spans = hub.prediction_records(), hub.span_counts()
    assert load.rejected_statuses == []
    assert records == dict.fromkeys(load.prediction_ids, 1)
    assert len(spans) == SPANS_PER_REQUEST * len(records)
    assert set(spans.values()) == {1}
    assert hub.prediction_count() == len(records)
    assert hub.latest_sum("modeltrace.sidecar.spooled") > 0
    failed = "attributes->>'$.\"error.type\"' IS NOT NULL"
    ((attempts,),) = hub.query(
        f"SELECT count(*) FROM metric_points WHERE name = 'otel.sdk.exporter.operation.duration' AND {failed}"  # noqa: S608  a constant
    )
    assert attempts > 0
    assert "not delivered" not in log


def test_spooled_telemetry_is_sent_after_the_next_start(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """A service that ends without an endpoint logs what it has spooled; the next one sends it exactly once."""
    spool = {"MODELTRACE_SPOOL_DIR": str(tmp_path / "spool")}
    # An eighth of the flush timeout is for the end of the sidecar, which takes longer on a busy machine.
    first = {**spool, "MODELTRACE_FLUSH_TIMEOUT": "8"}
    with ExitStack() as stack:
        with running_service(bundle, hub.otlp_url, **first) as (service, url), LoadClients(url, rows) as load:
            load.wait_for_answers(300)
            service.stop(signal.SIGTERM)
            log = service.log
        process = stack.enter_context(hub.running()).process
        service, _ = stack.enter_context(running_service(bundle, hub.otlp_url, **spool, **LONG_FLUSH))
        wait_until(lambda: not requests_on_disk(tmp_path / "spool"), description="an empty spool")
        stop_service_and_hub(service, process)

    spooled = counts_in_log(log, "kept on disk")
    records = hub.prediction_records()
    assert set(load.prediction_ids) <= set(records)
    assert set(records.values()) == set(hub.span_counts().values()) == {1}
    assert spooled["spans"] == SPANS_PER_REQUEST * len(records)
    assert "not delivered" not in log


def requests_on_disk(folder: Path) -> list[Path]:
    """Return the requests on disk."""
    return [path for path in folder.glob("*/*/*.*.*") if not path.name.endswith((".part", ".damaged"))]


def test_a_full_spool_loses_the_oldest_requests_and_counts_them(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """The spool stays within its limit; lost items are counted in metrics and in the shutdown message."""
    spool, limit = tmp_path / "spool", 150_000
    own = {"MODELTRACE_SPOOL_DIR": str(spool), "MODELTRACE_SPOOL_MAX_BYTES": str(limit), **LONG_FLUSH}
    with ExitStack() as stack:
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url, **own))
        (sidecar,) = wait_until(lambda: sidecars(service), description="the sidecar")
        with LoadClients(url, rows, pause=REQUEST_INTERVAL) as load:
            load.wait_for_answers(600)
            stack.callback(kill_leftover, sidecar)
            os.kill(sidecar, signal.SIGSTOP)  # the spool does not change while it is measured
            sizes = [path.stat().st_size for path in requests_on_disk(spool)]
            os.kill(sidecar, signal.SIGCONT)
            process = stack.enter_context(hub.running()).process
            wait_until(lambda: not requests_on_disk(spool), description="an empty spool")
        stop_service_and_hub(service, process)
        log = service.log

    lost = counts_in_log(log, "not delivered")
    spans = hub.span_counts()
    full = "attributes->>'$.\"error.type\"' = 'queue_full'"
    assert load.rejected_statuses == []
    assert 0 < sum(sizes) <= limit + max(sizes)  # the newest file is written before the oldest ones are removed
    assert lost["spans"] == SPANS_PER_REQUEST * len(load.prediction_ids) - count_spans(hub)
    assert hub.latest_sum("otel.sdk.processor.span.processed", full) == lost["spans"]
    assert hub.latest_sum("otel.sdk.processor.log.processed", full) == lost["log records"]
    assert set(spans.values()) == {1}
    assert hub.prediction_count() == len(load.prediction_ids)


def count_spans(hub: RestartableHub) -> int:
    """Return the number of spans of predictions, whether or not their log record has arrived."""
    ((number,),) = hub.query(
        """SELECT count(*) FROM spans WHERE trace_id IN (SELECT trace_id FROM spans WHERE name = 'POST /predict')
           OR name IN ('validate', 'features', 'inference')"""
    )
    return int(number)


@pytest.fixture(params=["unusable", "full"])
def broken_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """Return a spool folder that cannot be created or is on a full disk, and a function that limits the sidecar."""
    if request.param == "unusable":
        (tmp_path / "file").touch()
        yield tmp_path / "file" / "spool", lambda _: None
        return
    yield tmp_path / "spool", lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, 100)) and None


def test_without_a_usable_disk_telemetry_waits_in_memory(
    bundle: Path, rows: Rows, hub: RestartableHub, broken_disk: tuple[Path, Callable[[int], None]]
) -> None:
    """If the disk is full or unusable, predictions succeed, and telemetry arrives when an endpoint starts."""
    spool, limit = broken_disk
    with ExitStack() as stack:
        # The prediction store would need the same disk; tests/contract/test_store_faults.py covers it.
        own = {"MODELTRACE_SPOOL_DIR": str(spool), "MODELTRACE_STORE": "none", **LONG_FLUSH}
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url, **own))
        (sidecar,) = wait_until(lambda: sidecars(service), description="the sidecar")
        limit(sidecar)
        with LoadClients(url, rows, pause=REQUEST_INTERVAL) as load:
            load.wait_for_answers(200)
            process = stack.enter_context(hub.running()).process
            latest = load.prediction_ids[-1]
            wait_until(lambda: hub.has_prediction(latest), description="the queued predictions")
        wait_until(lambda: hub.has_prediction(load.prediction_ids[-1]), description="the last prediction")
        stop_service_and_hub(service, process)
        log = service.log

    assert load.rejected_statuses == []
    assert requests_on_disk(spool) == []
    assert hub.prediction_records() == dict.fromkeys(load.prediction_ids, 1)
    assert len(hub.span_counts()) == SPANS_PER_REQUEST * len(load.prediction_ids)
    assert "not delivered" not in log


def test_without_a_usable_disk_the_shutdown_counts_lost_telemetry(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """Without an endpoint and a disk each span is counted as lost, and none as spooled."""
    (tmp_path / "file").touch()
    spool = str(tmp_path / "file" / "spool")
    with running_service(bundle, hub.otlp_url, MODELTRACE_SPOOL_DIR=spool) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(200)
        service.stop(signal.SIGTERM)
        log = service.log

    assert counts_in_log(log, "not delivered")["spans"] >= SPANS_PER_REQUEST * len(load.prediction_ids)
    assert "kept on disk" not in log
