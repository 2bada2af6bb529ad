"""A live service and live backends, all of them real processes, shared by the suite."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pandas as pd
import pytest

from service.inference.example import build_example
from stack.run import Stack
from tests.contract.backends import Backend, Hub, RealStack
from tests.helpers.processes import Process, free_port, running, until
from tests.helpers.stack import running_stack

# At a stop a busy machine may not deliver in the 2 s of the default what waits; that is said and counted. For tests of
# what arrives, not of how long a stop takes.
PATIENT: Final = {"MODELTRACE_FLUSH_TIMEOUT": "60"}


@dataclass(frozen=True)
class Service:
    """A live service."""

    process: Process
    url: str


def hub_arguments(page: int, http: int, grpc: int, *storage: str) -> list[str]:
    """How a hub is started on given ports."""
    return ["hub", "--port", str(page), "--http-port", str(http), "--grpc-port", str(grpc), *storage]


def telemetry_to(otlp: str) -> dict[str, str]:
    """The environment in which telemetry goes to `otlp` quickly."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "MODELTRACE_ID_KEY": "a key that only the tests use",
    }


@contextmanager
def live_service(
    bundle: Path, otlp: str, *options: str, fresh: bool = False, **env: str
) -> Iterator[tuple[Process, str]]:
    """A service that sends to `otlp`; `fresh` as in `running`."""
    port = free_port()
    arguments = ["service", "serve", str(bundle), "--port", str(port), *options]
    with running(arguments, env={**telemetry_to(otlp), **env}, fresh=fresh) as process:
        process.wait_for(f"http://127.0.0.1:{port}/readyz")
        yield process, f"http://127.0.0.1:{port}"


def stop_both(service: Process, hub: Process, signum: int = signal.SIGTERM) -> None:
    """Stop a service that is `PATIENT`, with a signal, then the hub that it sends to."""
    service.stop(signum, seconds=90)
    hub.stop(signal.SIGTERM, seconds=30)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example bundle."""
    return build_example(tmp_path_factory.mktemp("bundles") / "breast-cancer")


@pytest.fixture(scope="session")
def rows(bundle: Path) -> list[dict[str, float]]:
    """The held-out rows of the example."""
    held_out: list[dict[str, float]] = (
        pd.read_parquet(bundle / "traffic.parquet").drop(columns="target").to_dict(orient="records")
    )
    return held_out


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """A hub in memory."""
    page, http, grpc = free_port(), free_port(), free_port()
    with running(hub_arguments(page, http, grpc, "--memory"), fresh=True) as process:
        process.wait_for(f"http://127.0.0.1:{page}/healthz")
        yield Hub(process, f"http://127.0.0.1:{page}", f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}")


@pytest.fixture(scope="session")
def real_stack() -> Iterator[RealStack]:
    """The real stack, on free ports."""
    with running_stack() as stack, httpx.Client(timeout=30) as client:
        yield real_stack_of(stack, client)


def real_stack_of(stack: Stack, client: httpx.Client) -> RealStack:
    """What the suite asks, of a stack that runs."""
    address = stack.layout.address
    return RealStack(
        otlp=f"http://{address('otelcol', 'http')}",
        grpc=f"http://{address('otelcol', 'grpc')}",
        jaeger=f"http://{address('jaeger', 'query')}",
        loki=f"http://{address('loki', 'http')}",
        prometheus=f"http://{address('prometheus', 'http')}",
        sampling=f"http://{address('jaeger', 'sampling')}",
        client=client,
    )


@pytest.fixture(scope="session", params=["hub", pytest.param("real_stack", marks=pytest.mark.stack)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn: the suite is the same for all of them."""
    found: Backend = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def service(bundle: Path, backend: Backend) -> Iterator[Service]:
    """The service with the example, sending to the backend."""
    with live_service(bundle, backend.otlp, fresh=True) as (process, url):
        yield Service(process, url)


def arrived(backend: Backend, trace_id: str, kind: str, number: int = 1) -> list[dict[str, Any]]:
    """What a backend keeps of one kind under a trace ID, once there are `number` of them."""

    def enough() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = backend.trace(trace_id)[kind]
        return found if len(found) >= number else None

    return until(enough, what=f"{number} {kind} of trace {trace_id}")
