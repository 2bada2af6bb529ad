"""Run the service as a real process on a free port, alone or with a hub, and run its command line."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from tests.helpers.hubs import HubProcess, running_hub
from tests.helpers.processes import Process, free_port, run, running

ID_KEY: Final = "a key that only the tests use"

# Flush timeout in seconds for tests of complete delivery. The default of 2 s is too short on a busy machine.
LONG_FLUSH: Final = {"MODELTRACE_FLUSH_TIMEOUT": "60"}


class Service(NamedTuple):
    """The process and the URL of a service that is ready."""

    process: Process
    url: str


def otlp_environment(otlp: str) -> dict[str, str]:
    """Return the environment of a service that exports to `otlp` within a second."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "MODELTRACE_ID_KEY": ID_KEY,
    }


@contextmanager
def running_service(
    bundle: Path, otlp: str | None = None, *options: str, fresh: bool = False, seconds: float = 120.0, **env: str
) -> Iterator[Service]:
    """Run the service and wait until it is ready.

    Args:
        bundle: the bundle that is served.
        otlp: the endpoint that telemetry is exported to within a second; without one, as `env` configures it.
        *options: options of `modeltrace serve`.
        fresh: start a new interpreter, as in `running`.
        seconds: how long to wait until the service is ready.
        **env: environment variables of the process.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    exporting = {} if otlp is None else otlp_environment(otlp)
    arguments = ["modeltrace", "serve", str(bundle), "--port", str(port), *options]
    with running(arguments, env={**exporting, **env}, fresh=fresh) as process:
        process.wait_for(f"{url}/readyz", seconds)
        yield Service(process, url)


@dataclass(frozen=True)
class ServiceAndHub:
    """A service and the hub to which it exports."""

    service: Service
    hub: HubProcess


@contextmanager
def running_service_and_hub(bundle: Path, *, hub_key: str = "") -> Iterator[ServiceAndHub]:
    """Run a hub in memory, with an API key if one is given, and the service that exports to it."""
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(f'Bearer {hub_key}')}"} if hub_key else {}
    with (
        running_hub(env={"MODELTRACE_HUB_KEY": hub_key}) as hub,
        running_service(bundle, hub.otlp_url, **headers) as service,
    ):
        yield ServiceAndHub(service, hub)


def run_modeltrace(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with `env` added to `clean_environment`."""
    return run(["modeltrace", *arguments], env=env)


def stop_service_and_hub(service: Process, hub: Process, signum: int = signal.SIGTERM) -> None:
    """Send a signal to a service started with `LONG_FLUSH`, wait for it, then stop the hub."""
    service.stop(signum)
    hub.stop(signal.SIGTERM)
