"""What happens when something dies: nothing answered is lost without a word, and no prediction fails for it."""

import importlib
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from service.inference.pack import pack
from tests.contract.conftest import PATIENT, hub_arguments, live_service, stop_both
from tests.helpers.load import Load
from tests.helpers.processes import Process, free_port, running, until

pytestmark = pytest.mark.slow
Rows = list[dict[str, float]]


@contextmanager
def live_hub(data: Path, ports: tuple[int, int, int]) -> Iterator[Process]:
    """A hub with a file."""
    with running(hub_arguments(*ports, "--data", str(data))) as process:
        process.wait_for(f"http://127.0.0.1:{ports[0]}/healthz")
        yield process


def ask_file(data: Path, question: str) -> list[tuple[Any, ...]]:
    """Ask the database of a hub that has stopped."""
    with duckdb.connect(str(data / "hub.duckdb"), read_only=True) as connection:
        return connection.execute(question).fetchall()


def audited(data: Path) -> Counter[str]:
    """How often each prediction ID stands in the audit trail."""
    found = ask_file(
        data, """SELECT attributes->>'$."ml.prediction.id"' FROM logs WHERE event_name = 'ml.prediction'"""
    )
    return Counter(row[0] for row in found)


@pytest.fixture
def ports() -> tuple[int, int, int]:
    """Page, OTLP over HTTP, OTLP over gRPC."""
    return free_port(), free_port(), free_port()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_every_answered_prediction_survives_a_stop_once(
    bundle: Path, rows: Rows, tmp_path: Path, ports: tuple[int, int, int], signum: signal.Signals
) -> None:
    """The service is told to stop under load: each prediction that was answered is in the hub, exactly once."""
    with live_hub(tmp_path, ports) as hub:
        otlp = f"http://127.0.0.1:{ports[1]}"
        with live_service(bundle, otlp, **PATIENT) as (service, url), Load(url, rows) as load:
            load.grows_by(300)
            stop_both(service, hub, signum)

    written = audited(tmp_path)
    assert set(load.answered) <= set(written)
    assert set(written.values()) == {1}


def test_a_hub_that_is_killed_harms_no_prediction_and_is_found_again(
    bundle: Path, rows: Rows, tmp_path: Path, ports: tuple[int, int, int]
) -> None:
    """SIGKILL of the hub under load: every request is answered all the while, and telemetry arrives again after."""
    with ExitStack() as stack:
        service, url = stack.enter_context(live_service(bundle, f"http://127.0.0.1:{ports[1]}"))
        load = stack.enter_context(Load(url, rows))
        with live_hub(tmp_path, ports) as hub:
            load.grows_by(100)
            hub.stop(signal.SIGKILL)
        load.grows_by(200)
        before = len(load.answered)
        with live_hub(tmp_path, ports) as hub:
            load.grows_by(200)
            latest = load.answered[-1]
            until(lambda: _in_trail(ports[0], latest), seconds=30, what="the latest prediction in the restarted hub")
            service.stop(signal.SIGTERM)
            hub.stop(signal.SIGTERM)

    assert load.refused == []
    assert len(load.answered) > before
    assert set(audited(tmp_path).values()) == {1}


def _in_trail(page: int, prediction_id: str) -> bool:
    answer = httpx.get(f"http://127.0.0.1:{page}/api/logs", params={"attr.ml.prediction.id": prediction_id})
    return bool(answer.raise_for_status().json()["logs"])


@pytest.fixture(params=["dead", "silent"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """An OTLP endpoint that refuses connections, or one that takes them and never answers."""
    if request.param == "dead":
        yield f"http://127.0.0.1:{free_port()}"
        return
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_takes_no_longer_than_5_s_without_a_backend(
    bundle: Path, rows: Rows, endpoint: str, workers: int
) -> None:
    """Predictions are answered, the stop is in time, and what was not delivered is said in numbers."""
    with live_service(bundle, endpoint, "--workers", str(workers)) as (service, url):
        with Load(url, rows) as load:
            load.grows_by(200)
        service.stop(signal.SIGTERM, seconds=5)
        log = service.log

    assert load.refused == []
    assert "telemetry kept on disk for the next start" in log
    assert "Traceback" not in log


STUCK = """
import threading

def work(X):
    if len(X) == 1:
        threading.Event().wait(60)
    return X
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_does_not_wait_for_a_model_that_is_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    """A request in flight gets its time to finish; then the service goes, whatever the model does."""
    (tmp_path / "stuck.py").write_text(STUCK)
    monkeypatch.syspath_prepend(str(tmp_path))
    training = pd.DataFrame({"a": range(50)})
    step = FunctionTransformer(importlib.import_module("stuck").work)
    estimator = make_pipeline(step, LinearRegression()).fit(training.to_numpy(), range(50))
    bundle = pack(estimator, training, name="stuck", out=tmp_path / "bundle", kind="joblib")
    env = {"PYTHONPATH": str(tmp_path), "MODELTRACE_TRUST_PICKLE": "true"}

    with live_service(bundle, f"http://127.0.0.1:{free_port()}", **env) as (service, url):
        asked = threading.Thread(target=_ask_in_vain, args=(url,))
        asked.start()
        until(lambda: _waits_for_the_model(service, url), what="the request to reach the model")
        service.stop(signum, seconds=5)
        asked.join()


def _ask_in_vain(url: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/predict", json={"features": {"a": 1}}, timeout=30)


def _waits_for_the_model(service: Process, url: str) -> bool:
    """Whether a request is being served beside the one that asks."""
    assert service.popen.poll() is None, service.log
    active = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if "http_server_active_requests{" in line]
    return any(line.endswith(" 1.0") for line in active)


def test_every_worker_counts_for_itself_and_the_totals_are_right(
    bundle: Path, rows: Rows, tmp_path: Path, ports: tuple[int, int, int]
) -> None:
    """Two workers, two `service.instance.id`s, and their counts add up to what was answered."""
    shared = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=mine", **PATIENT}
    with ExitStack() as stack:
        hub = stack.enter_context(live_hub(tmp_path, ports))
        otlp = f"http://127.0.0.1:{ports[1]}"
        service, url = stack.enter_context(live_service(bundle, otlp, "--workers", "2", **shared))
        service.wait_for_workers(2)
        # A connection stays with the worker that took it: only new ones reach both.
        with Load(url, rows, clients=8, reconnect=True) as load:
            load.grows_by(400)
        stop_both(service, hub)

    totals = ask_file(
        tmp_path,
        """SELECT service_instance_id, sum(latest) FROM (
               SELECT service_instance_id, series_id, max(coalesce(value_int, value)) AS latest
               FROM metric_points WHERE name = 'ml.predictions' GROUP BY ALL
           ) GROUP BY ALL""",
    )
    assert len(totals) == 2
    assert all(instance.startswith("mine-") for instance, _ in totals)
    assert sum(total for _, total in totals) == len(load.answered)


def test_a_worker_that_is_killed_is_replaced(bundle: Path, rows: Rows) -> None:
    """SIGKILL of one worker: the service goes on with a new one."""
    with live_service(bundle, f"http://127.0.0.1:{free_port()}", "--workers", "2") as (service, url):
        children = Path(f"/proc/{service.popen.pid}/task/{service.popen.pid}/children").read_text().split()
        workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: "died" in service.log, seconds=60, what="the supervisor to notice")
        answer = httpx.post(f"{url}/predict", json={"features": rows[0]}, timeout=10)

    assert answer.status_code == 200
