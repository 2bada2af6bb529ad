"""When a process stops or an endpoint fails, no prediction fails and none is lost uncounted."""

import importlib
import signal
import socket
import sys
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
    """Return a hub that is not running."""
    return RestartableHub(tmp_path, HubPorts.reserve())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_every_answered_prediction_survives_a_shutdown_once(
    bundle: Path, rows: Rows, file_hub: RestartableHub, signum: signal.Signals
) -> None:
    """After a shutdown under load each answered prediction is in the hub exactly once."""
    with (
        file_hub.running() as hub,
        running_service(bundle, hub.otlp_url, **LONG_FLUSH) as (service, url),
        LoadClients(url, rows) as load,
    ):
        load.wait_for_answers(300)
        stop_service_and_hub(service, hub.process, signum)

    records = file_hub.prediction_records()
    assert set(load.prediction_ids) <= set(records)
    assert set(records.values()) == {1}


@pytest.fixture(params=["dead", "silent"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of an endpoint that refuses connections or never responds."""
    if request.param == "dead":
        yield f"http://127.0.0.1:{free_port()}"
        return
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shutdown_does_not_wait_for_an_endpoint(bundle: Path, rows: Rows, endpoint: str, workers: int) -> None:
    """Predictions succeed, the service ends, and the log reports the spooled telemetry."""
    with running_service(bundle, endpoint, "--workers", str(workers)) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(200)
        service.stop(signal.SIGTERM)
        log = service.log

    assert load.rejected_statuses == []
    assert "telemetry kept on disk for the next start" in log
    assert "Traceback" not in log


# Packing also predicts single rows, so the model blocks only when the file says so.
BLOCKING_MODEL = """
import threading
from pathlib import Path

def work(X):
    if Path(__file__).with_name("block").exists():
        threading.Event().wait(600)
    return X
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_shutdown_does_not_wait_for_a_blocked_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    """The service waits a limited time for a request in flight, then ends even if the model blocks."""
    (tmp_path / "stuck.py").write_text(BLOCKING_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stuck", raising=False)  # that of the other signal, in another folder
    training = pd.DataFrame({"a": range(50)})
    step = FunctionTransformer(importlib.import_module("stuck").work)
    estimator = make_pipeline(step, LinearRegression()).fit(training.to_numpy(), range(50))
    bundle = pack(estimator, training, name="stuck", out=tmp_path / "bundle", artifact_format="joblib")
    env = {"PYTHONPATH": str(tmp_path), "MODELTRACE_TRUST_PICKLE": "true"}

    with running_service(bundle, f"http://127.0.0.1:{free_port()}", **env) as (service, url):
        (tmp_path / "block").touch()
        client = threading.Thread(target=_request_prediction, args=(url,))
        client.start()
        wait_until(lambda: _has_active_request(service, url), description="the request to reach the model")
        service.stop(signum)
        client.join()


def _request_prediction(url: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/predict", json={"features": {"a": 1}}, timeout=600)


def _has_active_request(service: Process, url: str) -> bool:
    """Return whether a request other than that for the metrics is active."""
    assert service.popen.poll() is None, service.log
    active = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if "http_server_active_requests{" in line]
    return any(line.endswith(" 1.0") for line in active)


def test_the_counts_of_all_workers_add_up(bundle: Path, rows: Rows, file_hub: RestartableHub) -> None:
    """Two workers have two `service.instance.id`s, and their counts add up to the answered predictions."""
    resource = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=mine", **LONG_FLUSH}
    with ExitStack() as stack:
        hub = stack.enter_context(file_hub.running())
        service, url = stack.enter_context(running_service(bundle, file_hub.otlp_url, "--workers", "2", **resource))
        service.wait_for_workers(2)
        # A connection stays with its worker, so only new connections reach both workers.
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
