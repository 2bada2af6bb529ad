"""Fixtures of the contract suite: a service and backends as real processes, shared by all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modeltrace.bundles.example import build_example
from tests.helpers.backends import Backend
from tests.helpers.bundles import held_out_rows
from tests.helpers.hubs import HubProcess, running_hub
from tests.helpers.services import Service, running_service


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example bundle."""
    return build_example(tmp_path_factory.mktemp("bundles") / "breast-cancer")


@pytest.fixture(scope="session")
def rows(bundle: Path) -> list[dict[str, float]]:
    """The test rows of the example."""
    return held_out_rows(bundle)


@pytest.fixture(scope="session")
def hub() -> Iterator[HubProcess]:
    """A hub in memory."""
    with running_hub(fresh=True) as hub:
        yield hub


@pytest.fixture(scope="session", params=["hub", pytest.param("real_stack", marks=pytest.mark.stack)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The hub, and the real stack where its components are built. Tests run against both."""
    backend: Backend = request.getfixturevalue(request.param)
    return backend


@pytest.fixture(scope="session")
def service(bundle: Path, backend: Backend) -> Iterator[Service]:
    """The service with the example bundle, which exports to the backend."""
    with running_service(bundle, backend.otlp_url, fresh=True) as service:
        yield service
