"""A live service and a live hub, both real processes, shared by the suite."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from service.inference.example import build_example
from tests.helpers.processes import Process, free_port, running, until


@dataclass(frozen=True)
class Hub:
    """What the suite asks of a backend. The same questions will be put to other backends."""

    process: Process
    page: str
    otlp: str
    grpc: str

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Everything kept under one trace ID; empty lists while nothing has arrived."""
        answer = httpx.get(f"{self.page}/api/traces/{trace_id}", timeout=10)
        if answer.status_code == 404:
            return {"spans": [], "logs": [], "exemplars": [], "predictions": []}
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


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
    with running(hub_arguments(page, http, grpc, "--memory")) as process:
        process.wait_for(f"http://127.0.0.1:{page}/healthz")
        yield Hub(process, f"http://127.0.0.1:{page}", f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}")


@pytest.fixture(scope="session")
def service(bundle: Path, hub: Hub) -> Iterator[Service]:
    """The service with the example, sending to the hub."""
    port = free_port()
    with running(["service", "serve", str(bundle), "--port", str(port)], env=telemetry_to(hub.otlp)) as process:
        process.wait_for(f"http://127.0.0.1:{port}/readyz")
        yield Service(process, f"http://127.0.0.1:{port}")


def arrived(hub: Hub, trace_id: str, kind: str, number: int = 1) -> list[dict[str, Any]]:
    """What the hub keeps of one kind under a trace ID, once there are `number` of them."""

    def enough() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = hub.trace(trace_id)[kind]
        return found if len(found) >= number else None

    return until(enough, what=f"{number} {kind} of trace {trace_id}")
