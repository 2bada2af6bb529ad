"""When a process is killed under load, no prediction fails and no answered prediction is lost."""

import os
import re
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.helpers.hubs import HubPorts
from tests.helpers.load import LoadClients
from tests.helpers.processes import free_port, wait_until
from tests.helpers.restartable_hubs import RestartableHub
from tests.helpers.services import LONG_FLUSH, running_service, stop_service_and_hub
from tests.helpers.sidecars import has_ended, sidecars

pytestmark = pytest.mark.slow
Rows = list[dict[str, float]]
REQUEST_INTERVAL = 0.01  # seconds
SPANS_PER_REQUEST = 4


@pytest.fixture
def hub(tmp_path: Path) -> RestartableHub:
    """Return a hub that is not running."""
    return RestartableHub(tmp_path / "hub", HubPorts.reserve())


def test_a_killed_sidecar_is_replaced_and_loses_nothing(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """After repeated SIGKILL under load all predictions arrive; duplicates have the same IDs."""
    file = tmp_path / "service.jsonl"
    kills = 4
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(
            running_service(bundle, hub.otlp_url, MODELTRACE_LOG_FILE=str(file), **LONG_FLUSH)
        )
        with LoadClients(url, rows, pause=REQUEST_INTERVAL) as load:
            for number in range(kills):
                load.wait_for_answers(150)
                latest = load.prediction_ids[-1]
                wait_until(lambda sent=latest: hub.has_prediction(sent), description="the sidecar to catch up")  # type: ignore[misc]
                (sidecar,) = sidecars(service)
                os.kill(sidecar, signal.SIGKILL)
                wait_until(
                    lambda n=number: service.log.count("the sidecar died") > n,
                    description="the log message about its death",
                )  # type: ignore[misc]
                wait_until(lambda old=sidecar: sidecars(service) not in ([], [old]), description="another sidecar")  # type: ignore[misc]
            load.wait_for_answers(150)
        stop_service_and_hub(service, process)
        log = service.log

    records, spans = hub.prediction_records(), hub.span_counts()
    duplicates = [sum(n > 1 for n in counts.values()) for counts in (records, spans)]
    lines = Counter(re.findall(r'"ml\.prediction\.id":"([^"]+)"', file.read_text()))
    duplicate_lines = sum(n > 1 for n in lines.values())
    print(f"{len(load.prediction_ids)} answered, {kills} kills")  # noqa: T201
    print(f"duplicates: {duplicates[0]} log records, {duplicates[1]} spans, {duplicate_lines} lines")  # noqa: T201
    assert load.rejected_statuses == []
    assert set(load.prediction_ids) == set(records) == set(lines)
    assert len(spans) == SPANS_PER_REQUEST * len(load.prediction_ids)
    assert hub.prediction_count() == len(load.prediction_ids)
    assert hub.latest_sum("modeltrace.sidecar.restarts") == kills
    assert "Traceback" not in log
    assert "not delivered" not in log


def test_a_killed_service_loses_at_most_the_last_second(bundle: Path, rows: Rows, hub: RestartableHub) -> None:
    """After SIGKILL of the service the sidecar delivers what it has received: all but the last second."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url))
        with LoadClients(url, rows) as load:
            load.wait_for_answers(300)
            (sidecar,) = sidecars(service)
            expected = list(load.prediction_ids)
            time.sleep(1)
            os.kill(service.popen.pid, signal.SIGKILL)
            service.popen.wait()
        wait_until(
            lambda: not Path(f"/proc/{sidecar}").exists() or has_ended(sidecar),
            description="the sidecar to end",
        )
        process.stop(signal.SIGTERM)

    records, spans = hub.prediction_records(), hub.span_counts()
    missing = len(set(load.prediction_ids) - set(records))
    print(f"{len(load.prediction_ids)} answered, the last {missing} of them lost")  # noqa: T201
    assert set(expected) <= set(records)
    assert set(records.values()) == set(spans.values()) == {1}
    assert len(spans) == SPANS_PER_REQUEST * len(records)


def test_a_killed_hub_fails_no_prediction_and_receives_telemetry_after_its_restart(
    bundle: Path, rows: Rows, hub: RestartableHub
) -> None:
    """While the hub is down every request is answered; telemetry arrives again after its restart."""
    with ExitStack() as stack:
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url))
        load = stack.enter_context(LoadClients(url, rows))
        with hub.running() as running:
            load.wait_for_answers(100)
            running.process.stop(signal.SIGKILL)
        load.wait_for_answers(200)
        before = len(load.prediction_ids)
        with hub.running() as running:
            load.wait_for_answers(200)
            latest = load.prediction_ids[-1]
            wait_until(lambda: hub.has_prediction(latest), description="the latest prediction in the restarted hub")
            service.stop(signal.SIGTERM)
            running.process.stop(signal.SIGTERM)

    assert load.rejected_statuses == []
    assert len(load.prediction_ids) > before
    assert set(hub.prediction_records().values()) == {1}


def test_a_killed_worker_is_replaced(bundle: Path, rows: Rows) -> None:
    """After SIGKILL of one worker the service answers requests with a new one."""
    with running_service(bundle, f"http://127.0.0.1:{free_port()}", "--workers", "2") as (service, url):
        children = Path(f"/proc/{service.popen.pid}/task/{service.popen.pid}/children").read_text().split()
        workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: "died" in service.log, description="the supervisor to notice")
        answer = httpx.post(f"{url}/predict", json={"features": rows[0]}, timeout=10)

    assert answer.status_code == 200
