"""Each process in turn is killed under load: no prediction fails, and what was answered is not lost."""

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
PAUSE = 0.01
SPANS_A_REQUEST = 4


@pytest.fixture
def hub(tmp_path: Path) -> RestartableHub:
    """A hub that is not started yet."""
    return RestartableHub(tmp_path / "hub", HubPorts.reserve())


def test_an_exporter_process_that_is_killed_is_replaced_and_loses_nothing(
    bundle: Path, rows: Rows, hub: RestartableHub, tmp_path: Path
) -> None:
    """SIGKILL again and again under load: nothing fails, everything arrives; what comes twice is the same twice."""
    file = tmp_path / "service.jsonl"
    kills = 4
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(
            running_service(bundle, hub.otlp_url, MODELTRACE_LOG_FILE=str(file), **LONG_FLUSH)
        )
        with LoadClients(url, rows, pause=PAUSE) as load:
            for number in range(kills):
                load.wait_for_answers(150)
                latest = load.prediction_ids[-1]
                wait_until(lambda sent=latest: hub.has_prediction(sent), description="the exporter process to catch up")  # type: ignore[misc]
                (exporter,) = sidecars(service)
                os.kill(exporter, signal.SIGKILL)
                wait_until(
                    lambda n=number: service.log.count("exporter process died") > n, description="the death to be told"
                )  # type: ignore[misc]
                wait_until(lambda old=exporter: sidecars(service) not in ([], [old]), description="another one")  # type: ignore[misc]
            load.wait_for_answers(150)
        stop_service_and_hub(service, process)
        log = service.log

    audited, spans = hub.prediction_records(), hub.span_counts()
    twice = [sum(n > 1 for n in found.values()) for found in (audited, spans)]
    lines = Counter(re.findall(r'"ml\.prediction\.id":"([^"]+)"', file.read_text()))
    print(f"{len(load.prediction_ids)} answered, {kills} kills; twice: {twice[0]} audit records, {twice[1]} spans, "  # noqa: T201
          f"{sum(n > 1 for n in lines.values())} lines")  # fmt: skip
    assert load.rejected_statuses == []
    assert set(load.prediction_ids) == set(audited) == set(lines)
    assert len(spans) == SPANS_A_REQUEST * len(load.prediction_ids)
    assert hub.prediction_count() == len(load.prediction_ids)
    assert hub.latest_sum("modeltrace.sidecar.restarts") == kills
    assert "Traceback" not in log
    assert "not delivered" not in log


def test_a_service_that_is_killed_loses_the_last_moment_only(bundle: Path, rows: Rows, hub: RestartableHub) -> None:
    """SIGKILL under load: the exporter process delivers what it had got; what was answered a second before is there."""
    with ExitStack() as stack:
        process = stack.enter_context(hub.running()).process
        service, url = stack.enter_context(running_service(bundle, hub.otlp_url))
        with LoadClients(url, rows) as load:
            load.wait_for_answers(300)
            (exporter,) = sidecars(service)
            safe = list(load.prediction_ids)
            time.sleep(1)
            os.kill(service.popen.pid, signal.SIGKILL)
            service.popen.wait()
        wait_until(
            lambda: not Path(f"/proc/{exporter}").exists() or has_ended(exporter),
            description="the exporter process to end",
        )
        process.stop(signal.SIGTERM)

    audited, spans = hub.prediction_records(), hub.span_counts()
    missing = len(set(load.prediction_ids) - set(audited))
    print(f"{len(load.prediction_ids)} answered, the last {missing} of them lost")  # noqa: T201
    assert set(safe) <= set(audited)
    assert set(audited.values()) == set(spans.values()) == {1}
    assert len(spans) == SPANS_A_REQUEST * len(audited)


def test_a_hub_that_is_killed_harms_no_prediction_and_is_found_again(
    bundle: Path, rows: Rows, hub: RestartableHub
) -> None:
    """SIGKILL of the hub under load: every request is answered all the while, and telemetry arrives again after."""
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


def test_a_worker_that_is_killed_is_replaced(bundle: Path, rows: Rows) -> None:
    """SIGKILL of one worker: the service goes on with a new one."""
    with running_service(bundle, f"http://127.0.0.1:{free_port()}", "--workers", "2") as (service, url):
        children = Path(f"/proc/{service.popen.pid}/task/{service.popen.pid}/children").read_text().split()
        workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: "died" in service.log, description="the supervisor to notice")
        answer = httpx.post(f"{url}/predict", json={"features": rows[0]}, timeout=10)

    assert answer.status_code == 200
