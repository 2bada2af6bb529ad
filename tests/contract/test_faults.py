"""What happens when something dies: nothing answered is lost without a word, and no prediction fails for it."""

import importlib
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modeltrace.bundles.pack import pack
from tests.helpers.hubs import HubPorts
from tests.helpers.load import LoadClients
from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.restartable_hubs import RestartableHub
from tests.helpers.services import LONG_FLUSH, running_service, stop_service_and_hub

pytestmark = [pytest.mark.slow, pytest.mark.extended]
Rows = list[dict[str, float]]


@pytest.fixture
def file_hub(tmp_path: Path) -> RestartableHub:
    """A hub that is not started yet."""
    return RestartableHub(tmp_path, HubPorts.reserve())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_every_answered_prediction_survives_a_stop_once(
    bundle: Path, rows: Rows, file_hub: RestartableHub, signum: signal.Signals
) -> None:
    """The service is told to stop under load: each prediction that was answered is in the hub, exactly once."""
    with (
        file_hub.running() as hub,
        running_service(bundle, hub.otlp_url, **LONG_FLUSH) as (service, url),
        LoadClients(url, rows) as load,
    ):
        load.wait_for_answers(300)
        stop_service_and_hub(service, hub.process, signum)

    written = file_hub.prediction_records()
    assert set(load.prediction_ids) <= set(written)
    assert set(written.values()) == {1}


@pytest.fixture(params=["dead", "silent"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """An OTLP endpoint that refuses connections, or one that takes them and never answers."""
    if request.param == "dead":
        yield f"http://127.0.0.1:{free_port()}"
        return
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_does_not_wait_for_a_backend(bundle: Path, rows: Rows, endpoint: str, workers: int) -> None:
    """Predictions are answered, the service ends, and the log says that the telemetry is on disk."""
    with running_service(bundle, endpoint, "--workers", str(workers)) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(200)
        service.stop(signal.SIGTERM)
        log = service.log

    assert load.rejected_statuses == []
    assert "telemetry kept on disk for the next start" in log
    assert "Traceback" not in log


STUCK = """
import threading

def work(X):
    if len(X) == 1:
        threading.Event().wait(600)
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
    bundle = pack(estimator, training, name="stuck", out=tmp_path / "bundle", artifact_format="joblib")
    env = {"PYTHONPATH": str(tmp_path), "MODELTRACE_TRUST_PICKLE": "true"}

    with running_service(bundle, f"http://127.0.0.1:{free_port()}", **env) as (service, url):
        asked = threading.Thread(target=_ask_in_vain, args=(url,))
        asked.start()
        wait_until(lambda: _waits_for_the_model(service, url), description="the request to reach the model")
        service.stop(signum)
        asked.join()


def _ask_in_vain(url: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/predict", json={"features": {"a": 1}}, timeout=600)


def _waits_for_the_model(service: Process, url: str) -> bool:
    """Whether a request is being served beside the one that asks."""
    assert service.popen.poll() is None, service.log
    active = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if "http_server_active_requests{" in line]
    return any(line.endswith(" 1.0") for line in active)


def test_every_worker_counts_for_itself_and_the_totals_are_right(
    bundle: Path, rows: Rows, file_hub: RestartableHub
) -> None:
    """Two workers, two `service.instance.id`s, and their counts add up to what was answered."""
    shared = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=mine", **LONG_FLUSH}
    with ExitStack() as stack:
        hub = stack.enter_context(file_hub.running())
        service, url = stack.enter_context(running_service(bundle, file_hub.otlp_url, "--workers", "2", **shared))
        service.wait_for_workers(2)
        # A connection stays with the worker that took it: only new ones reach both.
        with LoadClients(url, rows, clients=8, reconnect=True) as load:
            load.wait_for_answers(400)
        stop_service_and_hub(service, hub.process)

    totals = file_hub.query(
        """SELECT service_instance_id, sum(latest) FROM (
               SELECT service_instance_id, series_id, max(coalesce(value_int, value)) AS latest
               FROM metric_points WHERE name = 'ml.predictions' GROUP BY ALL
           ) GROUP BY ALL""",
    )
    assert len(totals) == 2
    assert all(instance.startswith("mine-") for instance, _ in totals)
    assert sum(total for _, total in totals) == len(load.prediction_ids)
