"""The service requires its API key, and commands that call it send the key."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.services import Service, run_modeltrace, running_service

pytestmark = pytest.mark.slow

KEY = "a key of 16 signs"
QUIET = {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}


@pytest.fixture(scope="module")
def service_with_key(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that reads its key from a file."""
    file = tmp_path_factory.mktemp("key") / "api.key"
    file.write_text(f"{KEY}\n")
    with running_service(example, MODELTRACE_API_KEY_FILE=str(file), **QUIET) as service:
        yield service


def test_service_requires_the_key(service_with_key: Service) -> None:
    """Requests without the key get 401, requests with it are answered."""
    assert httpx.get(f"{service_with_key.url}/model").status_code == 401
    assert httpx.get(f"{service_with_key.url}/model", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


@pytest.mark.parametrize("command", ["traffic", "evaluate"])
def test_commands_send_the_key(service_with_key: Service, example: Path, command: str) -> None:
    """Commands read the key from the same variable; without it, the error names the variable."""
    arguments = {
        "traffic": ("traffic", service_with_key.url, "--count", "3", "--rate", "50"),
        "evaluate": ("evaluate", str(example / "traffic.parquet"), "--url", service_with_key.url, "--target", "target"),
    }[command]
    rejected = run_modeltrace(*arguments, **QUIET)
    answered = run_modeltrace(*arguments, MODELTRACE_API_KEY=KEY, **QUIET)

    assert rejected.returncode == 1
    assert "an API key is needed" in rejected.stderr
    assert "MODELTRACE_API_KEY" in rejected.stderr
    assert answered.returncode == 0, answered.stderr


def test_service_does_not_listen_beyond_loopback_without_a_key(example: Path) -> None:
    """The error occurs before the bundle is loaded and says what to do."""
    done = run_modeltrace("serve", str(example), "--host", "0.0.0.0", **QUIET)  # noqa: S104  the service rejects it

    assert done.returncode == 1
    assert "0.0.0.0 can be reached from other machines, so an API key is needed" in done.stderr
    assert "--insecure" in done.stderr
