"""A rolling update under load, in the order of the Helm chart: no request fails, and no prediction is lost."""

import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.helpers.bundles import iris_rows, pack_iris
from tests.helpers.hubs import HubPorts
from tests.helpers.postgres import Postgres
from tests.helpers.processes import wait_until
from tests.helpers.restartable_hubs import RestartableHub
from tests.helpers.services import LONG_FLUSH, Service, running_service

pytestmark = [pytest.mark.slow, pytest.mark.extended]

REPLICAS = 2
CLIENTS = 4
REQUEST_INTERVAL = 0.05  # seconds
# Seconds until no client uses a pod that is being removed, and the pause before its SIGTERM: shorter than in a cluster.
PROPAGATION, PRE_STOP = 0.5, 1.0


@dataclass
class LoadBalancer:
    """Clients that send predictions to the ready services in turn, over connections that stay open.

    Attributes:
        versions: the model version of each answered prediction, by prediction ID.
        failures: requests that were refused, cut off or answered with an error.
    """

    rows: list[dict[str, float]]
    endpoints: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._send, args=(first,)) for first in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _send(self, first: int) -> None:
        with httpx.Client(timeout=60) as client:
            for number in itertools.count(first):
                if self._stopping.is_set():
                    return
                endpoints = tuple(self.endpoints)
                url = endpoints[number % len(endpoints)]
                try:
                    response = client.post(f"{url}/predict", json={"features": self.rows[number % len(self.rows)]})
                    body = response.raise_for_status().json()
                except httpx.HTTPError as error:
                    self.failures.append(f"{url}: {error!r}")
                else:
                    self.versions[body["prediction_id"]] = body["model"]["version"]
                time.sleep(REQUEST_INTERVAL)

    def wait_for_answers(self, version: str, number: int) -> None:
        """Wait until this number of further predictions of a version has been answered."""
        goal = Counter(self.versions.copy().values())[version] + number
        wait_until(lambda: Counter(self.versions.copy().values())[version] >= goal, description=f"{version} to answer")


def remove(balancer: LoadBalancer, service: Service) -> int:
    """Remove a service as Kubernetes removes a pod of the chart: from the Service, preStop, SIGTERM. Return its code.

    The removal from the Service reaches the clients late. Until SIGTERM, the pod answers what they still send.
    """
    propagated = threading.Timer(PROPAGATION, balancer.endpoints.remove, [service.url])
    propagated.start()
    time.sleep(PRE_STOP)
    propagated.join()
    return service.process.stop()


@pytest.fixture
def hub(tmp_path: Path) -> RestartableHub:
    """Return a hub that is not running."""
    return RestartableHub(tmp_path / "hub", HubPorts.reserve())


@pytest.fixture
def services(postgres: Postgres) -> Iterator[tuple[ExitStack, str]]:
    """Return a stack that stops the services, and the name of the database of their prediction store."""
    with ExitStack() as stack:
        yield stack, postgres.create_database()


def test_a_rolling_update_fails_no_request_and_loses_no_prediction(
    hub: RestartableHub, services: tuple[ExitStack, str], postgres: Postgres, tmp_path: Path
) -> None:
    """Two services are replaced one after the other by a newer version, with one more service at a time."""
    stack, database = services
    bundles = {
        version: pack_iris(tmp_path / version, version, strength=strength)
        for version, strength in (("1.0.0", 1.0), ("2.0.0", 0.1))
    }
    environment = {**LONG_FLUSH, "MODELTRACE_STORE": postgres.url(database), "MODELTRACE_DRAIN_TIMEOUT": "20"}

    with hub.running() as running:

        def start(version: str) -> Service:
            return stack.enter_context(running_service(bundles[version], hub.otlp_url, **environment))

        old = [start("1.0.0") for _ in range(REPLICAS)]
        with LoadBalancer(iris_rows(50), [service.url for service in old]) as balancer:
            balancer.wait_for_answers("1.0.0", 50)
            codes, new = [], []
            for service in old:
                new.append(start("2.0.0"))
                balancer.endpoints.append(new[-1].url)
                balancer.wait_for_answers("2.0.0", 20)
                codes.append(remove(balancer, service))
            balancer.wait_for_answers("2.0.0", 50)
        codes += [service.process.stop() for service in new]
        running.process.stop()

    answered = balancer.versions
    stored = postgres.query(database, "SELECT prediction_id, model_version FROM predictions")
    records = hub.prediction_records()
    counts = Counter(answered.values())
    print(f"{counts['1.0.0']} and {counts['2.0.0']} predictions of the versions")  # noqa: T201
    assert balancer.failures == []
    assert codes == [-signal.SIGTERM] * 2 * REPLICAS  # after a complete shutdown, it ends with the signal itself
    assert sorted(stored) == sorted(answered.items())
    assert records.keys() == answered.keys()  # a request that the hub did not answer in time is sent again
