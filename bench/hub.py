"""A hub that receives telemetry in a bench."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from sys import executable
from typing import NamedTuple

from bench.processes import free_port, run_process


class HubUrls(NamedTuple):
    """The base URLs of the JSON API, of OTLP/HTTP and of OTLP/gRPC."""

    api: str
    http: str
    grpc: str


@contextmanager
def run_hub(folder: Path | None, core: int | None = None, env: Mapping[str, str] | None = None) -> Iterator[HubUrls]:
    """Run a hub on `core` until the block ends. Its database is in `folder`, or in memory if that is `None`.

    `env` has further environment variables.
    """
    api, http, grpc = (free_port() for _ in range(3))
    ports = ["--port", str(api), "--http-port", str(http), "--grpc-port", str(grpc)]
    storage = ["--data", str(folder)] if folder else ["--memory"]
    urls = HubUrls(*(f"http://127.0.0.1:{port}" for port in (api, http, grpc)))
    command = [executable, "-m", "modeltrace_hub", *storage, *ports]
    with run_process(command, ready_url=f"{urls.api}/healthz", core=core, env=env):
        yield urls
