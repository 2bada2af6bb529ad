"""The API key, from the start of a service to the commands that call it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.services import Service, run_modeltrace, running_service

pytestmark = pytest.mark.slow

KEY = "a key of 16 signs"
QUIET = {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}


@pytest.fixture(scope="module")
def locked(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes its key from a file."""
    file = tmp_path_factory.mktemp("key") / "api.key"
    file.write_text(f"{KEY}\n")
    with running_service(example, MODELTRACE_API_KEY_FILE=str(file), **QUIET) as service:
        yield service


def test_the_service_asks_for_the_key(locked: Service) -> None:
    """Whoever shows it is answered."""
    assert httpx.get(f"{locked.url}/model").status_code == 401
    assert httpx.get(f"{locked.url}/model", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


@pytest.mark.parametrize("command", ["traffic", "evaluate"])
def test_commands_that_call_a_service_show_the_key(locked: Service, example: Path, command: str) -> None:
    """They take it from the same variable, and name that where the service refuses them."""
    arguments = {
        "traffic": ("traffic", locked.url, "--count", "3", "--rate", "50"),
        "evaluate": ("evaluate", str(example / "traffic.parquet"), "--url", locked.url, "--target", "target"),
    }[command]
    refused = run_modeltrace(*arguments, **QUIET)
    answered = run_modeltrace(*arguments, MODELTRACE_API_KEY=KEY, **QUIET)

    assert refused.returncode == 1
    assert "an API key is needed" in refused.stderr
    assert "MODELTRACE_API_KEY" in refused.stderr
    assert answered.returncode == 0, answered.stderr


def test_beyond_loopback_a_service_does_not_start_without_a_key(example: Path) -> None:
    """It says so before it loads anything, and what to do."""
    done = run_modeltrace("serve", str(example), "--host", "0.0.0.0", **QUIET)  # noqa: S104  what is refused

    assert done.returncode == 1
    assert "0.0.0.0 can be reached from other machines, so an API key is needed" in done.stderr
    assert "--insecure" in done.stderr
