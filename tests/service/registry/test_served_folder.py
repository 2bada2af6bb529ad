"""A folder of bundles, served by real processes."""

from pathlib import Path

import httpx
import pytest

from tests.helpers.bundles import flip_byte, pack_iris
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import running_service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three versions, of which the highest is altered."""
    folder = tmp_path_factory.mktemp("models")
    for version in ("0.9.0", "0.10.0", "0.11.0"):
        pack_iris(folder / version, version)
    flip_byte(folder / "0.11.0" / "model.skops")
    return folder


def test_the_highest_intact_version_is_served(models: Path) -> None:
    """The log says which bundle is not intact, and why; a named version is served instead of the highest."""
    with running_service(models, OTEL_SDK_DISABLED="true") as (process, url):
        assert httpx.get(f"{url}/model").json()["version"] == "0.10.0"
        assert process.log.count("skipped: ") == 1
        assert "0.11.0/model.skops is not the file that model.json describes" in process.log
    port = free_port()
    env = {"OTEL_SDK_DISABLED": "true", "MODELTRACE_BUNDLE": f"{models}@0.9.0", "MODELTRACE_PORT": str(port)}
    with running(["modeltrace", "serve"], env=env) as process:
        process.wait_for(f"http://127.0.0.1:{port}/readyz")
        assert httpx.get(f"http://127.0.0.1:{port}/model").json()["version"] == "0.9.0"


def test_up_serves_a_folder_of_bundles(models: Path, tmp_path: Path) -> None:
    """`up` chooses the same version as `serve`."""
    ports = [
        text for name in ("port", "hub-port", "grpc-port", "http-port") for text in (f"--{name}", str(free_port()))
    ]
    env = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_STATE_HOME": str(tmp_path / "state")}
    with running(["modeltrace", "up", str(models), *ports], env=env) as process:
        wait_until(
            lambda: "Ctrl-C stops everything" in process.log or process.popen.poll() is not None,
            seconds=240,
            description="up",
        )
        assert "Modeltrace · iris 0.10.0 · 4 features" in process.log
        assert process.stop() == 0


def test_a_source_without_a_bundle_ends_the_start(models: Path) -> None:
    """The message is one line, and nothing is served."""
    with running(["modeltrace", "serve", f"{models}@7"]) as process:
        assert process.popen.wait(60) == 1
        assert "has no version 7; it has 0.11.0, 0.10.0, 0.9.0" in process.log
        assert "Traceback" not in process.log
