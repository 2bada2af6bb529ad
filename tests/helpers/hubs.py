"""Run the hub as a real process on free ports, in memory or with a file, and query its API."""

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.helpers.otlp_messages import trace_request
from tests.helpers.processes import Process, free_port, running

PROTOBUF = {"Content-Type": "application/x-protobuf"}


@dataclass(frozen=True)
class HubPorts:
    """The ports of a hub: its pages, OTLP over HTTP, OTLP over gRPC."""

    page: int
    http: int
    grpc: int

    @classmethod
    def reserve(cls) -> Self:
        """Reserve three ports."""
        return cls(free_port(), free_port(), free_port())

    @property
    def page_url(self) -> str:
        """The URL of the pages and the JSON API."""
        return f"http://127.0.0.1:{self.page}"

    @property
    def otlp_url(self) -> str:
        """The URL of OTLP over HTTP."""
        return f"http://127.0.0.1:{self.http}"

    @property
    def grpc_url(self) -> str:
        """The URL of OTLP over gRPC."""
        return f"http://127.0.0.1:{self.grpc}"

    @property
    def options(self) -> list[str]:
        """The command line options of the hub for these ports."""
        return ["--port", str(self.page), "--http-port", str(self.http), "--grpc-port", str(self.grpc)]


@dataclass(frozen=True)
class HubProcess:
    """The process and the ports of a hub."""

    process: Process
    ports: HubPorts

    @property
    def page_url(self) -> str:
        """The URL of the pages and the JSON API."""
        return self.ports.page_url

    @property
    def otlp_url(self) -> str:
        """The URL of OTLP over HTTP."""
        return self.ports.otlp_url

    @property
    def grpc_url(self) -> str:
        """The URL of OTLP over gRPC."""
        return self.ports.grpc_url

    def send(self, *spans: Span, **headers: str) -> httpx.Response:
        """Send spans, compressed if the headers contain `Content-Encoding: gzip`.

        Raises:
            httpx.HTTPError: the hub does not answer.
        """
        body = trace_request(*spans).SerializeToString()
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.compress(body)
        return httpx.post(f"{self.otlp_url}/v1/traces", content=body, headers={**PROTOBUF, **headers}, timeout=20)

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return everything that is stored under a trace ID: spans, logs, exemplars, predictions."""
        response = httpx.get(f"{self.page_url}/api/traces/{trace_id}", timeout=10)
        if response.status_code == 404:
            return {"spans": [], "logs": [], "exemplars": [], "predictions": [], "prediction_count": 0}
        trace: dict[str, Any] = response.raise_for_status().json()
        return trace

    def prediction_count(self, trace_id: str) -> int:
        """Count the prediction log records of a trace."""
        return int(self.trace(trace_id)["prediction_count"])

    def has_metric(self, metric: str) -> bool:
        """Return whether there are points of a metric, by its OpenTelemetry name."""
        metrics = httpx.get(f"{self.page_url}/api/metrics").raise_for_status().json()["metrics"]
        return metric in {item["name"] for item in metrics}


@contextmanager
def running_hub(
    data: Path | None = None,
    ports: HubPorts | None = None,
    *,
    env: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> Iterator[HubProcess]:
    """Run a hub and wait until it is healthy.

    Args:
        data: the folder of its file; without one it stores in memory.
        ports: its ports; free ones if not given.
        env: environment variables of the process.
        fresh: start a new interpreter, as in `running`.
    """
    ports = ports or HubPorts.reserve()
    storage = ["--memory"] if data is None else ["--data", str(data)]
    with running(["modeltrace_hub", *storage, *ports.options], env=env, fresh=fresh) as process:
        hub = HubProcess(process, ports)
        process.wait_for(f"{hub.page_url}/healthz")
        yield hub


def latest_values(hub: HubProcess, metric: str, service: str) -> dict[tuple[Any, ...], float]:
    """Return the latest value of every series of a metric, by instance and attributes."""
    parameters: dict[str, str | int] = {"name": metric, "service": service, "limit": 10_000}
    points = httpx.get(f"{hub.page_url}/api/metrics", params=parameters, timeout=30).raise_for_status().json()["points"]
    points.sort(key=lambda point: point["time_ns"])
    return {(point["service_instance_id"], *sorted(point["attributes"].items())): point["value"] for point in points}
