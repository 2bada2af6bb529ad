"""The exporter process beside the service is killed, stopped or cut off: no prediction fails, and none is lost."""

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
PAUSE = 0.01
SPANS_A_REQUEST = 4


@pytest.fixture
def hub(tmp_path: Path) -> RestartableHub:
    """A hub that is not started yet."""
    return RestartableHub(tmp_path / "hub", HubPorts.reserve())


def test_a_process_that_dies_while_nobody_asks_is_replaced_at_once(
    bundle: Path, rows: Rows, hub: RestartableHub
) -> None:
    """No record has to meet a broken pipe first: what had gathered in it is told by the next one."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        slow = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "otlp"}
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url, **slow, **LONG_FLUSH))
        (exporter,) = wait_until(lambda: sidecars(service), description="the exporter process")
        answer = httpx.post(f"{url}/predict", json={"features": rows[0]}).raise_for_status().json()
        wait_until(lambda: answer["prediction_id"] in service.log, description="its line")
        os.kill(exporter, signal.SIGKILL)
        wait_until(lambda: sidecars(service) not in ([], [exporter]), description="another one")
        stop_service_and_hub(service, process)
        log = service.log

    assert hub.prediction_records() == {answer["prediction_id"]: 1}
    assert set(hub.span_counts().values()) == {1}
    assert log.count(answer["prediction_id"]) == 1  # its line is not written again


@pytest.mark.parametrize("more", [20, 1000], ids=["the pipe takes it", "the pipe is full"])
def test_a_stop_does_not_wait_for_a_stopped_exporter_process(
    bundle: Path, rows: Rows, hub: RestartableHub, more: int
) -> None:
    """SIGSTOP of the exporter process: predictions go on, the service ends, and it goes on by itself afterwards."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url))
        with LoadClients(url, rows) as load:
            load.wait_for_answers(100)
            (exporter,) = sidecars(service)
            os.kill(exporter, signal.SIGSTOP)
            stack.callback(kill_leftover, exporter)
            load.wait_for_answers(more)
        service.stop(signal.SIGTERM)
        os.kill(exporter, signal.SIGCONT)
        wait_until(lambda: has_ended(exporter), description="the exporter process to end by itself")
        process.stop(signal.SIGTERM)
        log = service.log

    lost = counts_in_log(log, "not delivered").get("audit records", 0)
    audited = hub.prediction_records()
    print(f"{len(load.prediction_ids)} answered, {lost} lost and told")  # noqa: T201
    assert load.rejected_statuses == []
    assert "goes on by itself" in log
    assert len(load.prediction_ids) - len(audited) == lost
    assert set(audited.values()) == {1}


@pytest.mark.parametrize("refusing", [True, False], ids=["refusing", "taking"])
def test_a_stop_does_not_wait_for_a_reader_of_stdout(bundle: Path, rows: Rows, tmp_path: Path, refusing: bool) -> None:
    """Nobody reads standard output: predictions go on, what can be delivered is, and the service ends."""
    port = free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MODELTRACE_"))}
    own = {"MODELTRACE_SPOOL_DIR": str(tmp_path / "spool"), "MODELTRACE_STORE": str(tmp_path / "predictions.db")}
    with ExitStack() as stack:
        endpoint = stack.enter_context(otlp_http())
        if refusing:
            endpoint.respond = lambda _: Response(503)
        service = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "modeltrace", "serve", str(bundle), "--port", str(port)],
                env={**clean, **otlp_environment(endpoint.url), **own},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        stack.callback(service.kill)
        process = Process(service, tmp_path / "nothing")
        (tmp_path / "nothing").touch()
        process.wait_for(f"http://127.0.0.1:{port}/readyz")
        with LoadClients(f"http://127.0.0.1:{port}", rows) as load:
            load.wait_for_answers(400)  # 400 kB of lines; a pipe takes 64
        (exporter,) = sidecars(process)
        process.stop(signal.SIGTERM)
        wait_until(lambda: has_ended(exporter), description="the exporter process to end")
        arrived = b"".join(endpoint.accepted) + b"".join(f.read_bytes() for f in tmp_path.glob("spool/*/*/*.logs.*"))

    assert load.rejected_statuses == []
    assert [one for one in load.prediction_ids if one.encode() not in arrived] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_predictions_that_share_calls_survive_a_stop_once(
    bundle: Path, rows: Rows, hub: RestartableHub, workers: int
) -> None:
    """With batching, and from each worker: every answered prediction arrives once, with all of its spans."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(
            running_service(bundle, hub.otlp_url, "--workers", str(workers), MODELTRACE_BATCHING="true", **LONG_FLUSH)
        )
        service.wait_for_workers(workers)
        with LoadClients(url, rows, clients=8, reconnect=workers > 1) as load:
            load.wait_for_answers(300)
            stop_service_and_hub(service, process)

    audited, spans = hub.prediction_records(), hub.span_counts()
    assert set(load.prediction_ids) <= set(audited)
    assert set(audited.values()) == set(spans.values()) == {1}
    assert len(spans) == (SPANS_A_REQUEST + 1) * len(audited)  # with `queue`
    assert hub.prediction_count() == len(audited)


def test_what_no_endpoint_took_is_kept_within_bounds_and_sent_when_there_is_one(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """No endpoint at all: nothing fails, what waits is on disk, and it is sent as soon as there is one, each once."""
    spool = tmp_path / "spool"
    with ExitStack() as stack:
        service, url = stack.enter_context(
            running_service(bundle, hub.otlp_url, MODELTRACE_SPOOL_DIR=str(spool), **LONG_FLUSH)
        )
        with LoadClients(url, rows, pause=PAUSE) as load:
            load.wait_for_answers(300)
            wait_until(lambda: in_spool(spool), description="something on disk")
            process = stack.enter_context(hub.running()).process
            load.wait_for_answers(100)
            wait_until(lambda: not in_spool(spool), description="the disk to be empty again")
        stop_service_and_hub(service, process)
        log = service.log

    audited, spans = hub.prediction_records(), hub.span_counts()
    assert load.rejected_statuses == []
    assert audited == dict.fromkeys(load.prediction_ids, 1)
    assert len(spans) == SPANS_A_REQUEST * len(audited)
    assert set(spans.values()) == {1}
    assert hub.prediction_count() == len(audited)
    assert hub.latest_sum("modeltrace.sidecar.spooled") > 0
    failed = "attributes->>'$.\"error.type\"' IS NOT NULL"
    ((attempts,),) = hub.query(
        f"SELECT count(*) FROM metric_points WHERE name = 'otel.sdk.exporter.operation.duration' AND {failed}"  # noqa: S608  our own words
    )
    assert attempts > 0
    assert "not delivered" not in log


def test_what_no_endpoint_took_is_sent_by_the_next_start(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """The service ends without an endpoint and says what it keeps; the next one sends it, each once."""
    spool = {"MODELTRACE_SPOOL_DIR": str(tmp_path / "spool")}
    with ExitStack() as stack:
        with running_service(bundle, hub.otlp_url, **spool) as (service, url), LoadClients(url, rows) as load:
            load.wait_for_answers(300)
            service.stop(signal.SIGTERM)
            log = service.log
        process = stack.enter_context(hub.running()).process
        service, _ = stack.enter_context(running_service(bundle, hub.otlp_url, **spool, **LONG_FLUSH))
        wait_until(lambda: not in_spool(tmp_path / "spool"), description="the disk to be empty")
        stop_service_and_hub(service, process)

    kept = counts_in_log(log, "kept on disk")
    audited = hub.prediction_records()
    assert set(load.prediction_ids) <= set(audited)
    assert set(audited.values()) == set(hub.span_counts().values()) == {1}
    assert kept["spans"] == SPANS_A_REQUEST * len(audited)
    assert "not delivered" not in log


def in_spool(folder: Path) -> list[Path]:
    """The requests on disk."""
    return [path for path in folder.glob("*/*/*.*.*") if not path.name.endswith((".part", ".damaged"))]


def test_a_full_spool_loses_the_oldest_and_counts_them(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """The limit holds whatever comes; what had to go for it is in the metrics and in the last words."""
    spool, limit = tmp_path / "spool", 150_000
    own = {"MODELTRACE_SPOOL_DIR": str(spool), "MODELTRACE_SPOOL_MAX_BYTES": str(limit), **LONG_FLUSH}
    with ExitStack() as stack:
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url, **own))
        (exporter,) = wait_until(lambda: sidecars(service), description="the exporter process")
        with LoadClients(url, rows, pause=PAUSE) as load:
            load.wait_for_answers(600)
            stack.callback(kill_leftover, exporter)
            os.kill(exporter, signal.SIGSTOP)  # no file comes or goes while they are counted
            sizes = [path.stat().st_size for path in in_spool(spool)]
            os.kill(exporter, signal.SIGCONT)
            process = stack.enter_context(hub.running()).process
            wait_until(lambda: not in_spool(spool), description="the disk to be empty")
        stop_service_and_hub(service, process)
        log = service.log

    lost = counts_in_log(log, "not delivered")
    spans = hub.span_counts()
    full = "attributes->>'$.\"error.type\"' = 'queue_full'"
    assert load.rejected_statuses == []
    assert 0 < sum(sizes) <= limit + max(sizes)  # the youngest is whole before the oldest go
    assert lost["spans"] == SPANS_A_REQUEST * len(load.prediction_ids) - sum_of_spans(hub)
    assert hub.latest_sum("otel.sdk.processor.span.processed", full) == lost["spans"]
    assert hub.latest_sum("otel.sdk.processor.log.processed", full) == lost["log records"]
    assert set(spans.values()) == {1}
    assert hub.prediction_count() == len(load.prediction_ids)


def sum_of_spans(hub: RestartableHub) -> int:
    """All spans of predictions, whether or not their audit record arrived."""
    ((number,),) = hub.query(
        """SELECT count(*) FROM spans WHERE trace_id IN (SELECT trace_id FROM spans WHERE name = 'POST /predict')
           OR name IN ('validate', 'features', 'inference')"""
    )
    return int(number)


@pytest.fixture(params=["unusable", "full"])
def broken_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A folder that cannot be made, or a disk that takes no more: where, and what is done to the process for it."""
    if request.param == "unusable":
        (tmp_path / "file").touch()
        yield tmp_path / "file" / "spool", lambda _: None
        return
    yield tmp_path / "spool", lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, 100)) and None


def test_without_a_disk_memory_keeps_what_waits(
    bundle: Path, rows: Rows, hub: RestartableHub, broken_disk: tuple[Path, Callable[[int], None]]
) -> None:
    """The disk is full or not to be used: predictions go on, and what waits arrives once there is an endpoint."""
    spool, limit = broken_disk
    with ExitStack() as stack:
        # The prediction store would find no disk either, and lose what it says it lost: that has tests of its own.
        own = {"MODELTRACE_SPOOL_DIR": str(spool), "MODELTRACE_STORE": "none", **LONG_FLUSH}
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url, **own))
        (exporter,) = wait_until(lambda: sidecars(service), description="the exporter process")
        limit(exporter)
        with LoadClients(url, rows, pause=PAUSE) as load:
            load.wait_for_answers(200)
            process = stack.enter_context(hub.running()).process
            latest = load.prediction_ids[-1]
            wait_until(lambda: hub.has_prediction(latest), description="what waited")
        wait_until(lambda: hub.has_prediction(load.prediction_ids[-1]), description="the rest")
        stop_service_and_hub(service, process)
        log = service.log

    assert load.rejected_statuses == []
    assert in_spool(spool) == []
    assert hub.prediction_records() == dict.fromkeys(load.prediction_ids, 1)
    assert len(hub.span_counts()) == SPANS_A_REQUEST * len(load.prediction_ids)
    assert "not delivered" not in log


def test_without_a_disk_a_stop_says_what_it_lost(bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path) -> None:
    """No endpoint and no disk: each span and record is counted as lost, and nothing is said to be kept."""
    (tmp_path / "file").touch()
    spool = str(tmp_path / "file" / "spool")
    with running_service(bundle, hub.otlp_url, MODELTRACE_SPOOL_DIR=spool) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(200)
        service.stop(signal.SIGTERM)
        log = service.log

    assert counts_in_log(log, "not delivered")["spans"] >= SPANS_A_REQUEST * len(load.prediction_ids)
    assert "kept on disk" not in log
