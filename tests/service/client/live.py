"""A live service and a live hub for the command line's tests: real processes on free ports."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.helpers.processes import Process, free_port, run, running

KEY = "a key that only the tests use"


@dataclass(frozen=True)
class Live:
    """Where both answer, and where OTLP goes."""

    service: str
    hub: str
    otlp: str
    service_process: Process


@contextmanager
def live_stack(bundle: Path, *, hub_key: str = "") -> Iterator[Live]:
    """Start a hub in memory and the service that sends to it, soon after it arises."""
    port, page, grpc, http = (free_port() for _ in range(4))
    otlp = f"http://127.0.0.1:{http}"
    hub = ["hub", "--memory", "--port", str(page), "--grpc-port", str(grpc), "--http-port", str(http)]
    service = ["service", "serve", str(bundle), "--port", str(port)]
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        "MODELTRACE_ID_KEY": KEY,
        **({"OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(f'Bearer {hub_key}')}"} if hub_key else {}),
    }
    with running(hub, env={"MODELTRACE_HUB_KEY": hub_key}) as hub_process, running(service, env=env) as service_process:
        hub_process.wait_for(f"http://127.0.0.1:{page}/healthz")
        service_process.wait_for(f"http://127.0.0.1:{port}/readyz")
        yield Live(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page}", otlp, service_process)


def modeltrace(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, in an environment without settings but these."""
    return run(["service", *arguments], env=env)
