"""Run real OpenTelemetry Collectors on free ports, with or without a second one that stores what the first sends."""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.helpers.processes import Process, free_port
from tests.helpers.stack import binary

OTEL = Path(__file__).parents[2] / "otel"
BASE = OTEL / "collector.yaml"
SIGNALS = {"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}
# Prefixes of the variables that the files below otel/ read. The developer's values must not affect a test.
VARIABLE_PREFIXES = ("OTEL", "MODELTRACE_", "JAEGER_", "LOKI_", "PROMETHEUS_", "KAFKA_", "AWS_", "AZURE_")


def command(configs: Sequence[Path], *before: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command line of a Collector with these files merged."""
    return [str(binary("otelcol", "otelcol")), *before, *(f"--config={path}" for path in configs), *options]


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process, with the variables of Collector configurations only from the test."""
    return {k: v for k, v in os.environ.items() if not k.startswith(VARIABLE_PREFIXES)} | dict(environment)


def validate(*configs: Path, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `otelcol validate` on these files, merged: it builds every component and starts none."""
    return subprocess.run(
        command(configs, "validate"),
        env=clean(environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@dataclass
class Collector:
    """A Collector and its addresses. It can be stopped and started again with the same data folder and ports."""

    configs: Sequence[Path]
    data: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    ports: Mapping[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("GRPC", "HTTP", "HEALTH", "METRICS")}
    )
    process: Process | None = None

    @property
    def http(self) -> str:
        """The URL of OTLP over HTTP."""
        return f"http://127.0.0.1:{self.ports['HTTP']}"

    @property
    def grpc(self) -> str:
        """The address of OTLP over gRPC, in the form that the Collector's exporters accept."""
        return f"127.0.0.1:{self.ports['GRPC']}"

    @property
    def log(self) -> str:
        """Its output so far."""
        return self.process.log if self.process else ""

    def start(self) -> None:
        """Start the Collector and wait until it is healthy."""
        self.data.mkdir(parents=True, exist_ok=True)
        output = self.data / "log"
        environment = {
            "OTELCOL_DATA": str(self.data / "storage"),
            **{f"OTELCOL_{name}_PORT": str(port) for name, port in self.ports.items()},
            **self.environment,
        }
        with output.open("ab") as sink:
            popen = subprocess.Popen(
                command(self.configs, options=self.options), env=clean(environment), stdout=sink, stderr=sink
            )
        self.process = Process(popen, output)
        self.process.wait_for(f"http://127.0.0.1:{self.ports['HEALTH']}/")

    def stop(self, **options: Any) -> None:
        """Stop the Collector if it was started, with the options of `Process.stop`."""
        if self.process is not None:
            self.process.stop(**options)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of one of the Collector's own metrics over all series with these labels."""
        text = httpx.get(f"http://127.0.0.1:{self.ports['METRICS']}/metrics").raise_for_status().text
        pairs = [f'{key}="{value}"' for key, value in labels.items()]
        series = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, flags=re.MULTILINE)
        return sum(float(value) for its_labels, value in series if all(pair in its_labels for pair in pairs))


@contextmanager
def running_collector(*configs: Path, data: Path, **environment: str) -> Iterator[Collector]:
    """Run a Collector with these files merged."""
    collector = Collector(configs, data, environment)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


@dataclass
class Sink:
    """A Collector in place of all backends. It writes what it receives unchanged into one file per signal."""

    collector: Collector
    folder: Path

    @property
    def backends(self) -> dict[str, str]:
        """The variables that make another Collector send all signals to this one."""
        return {
            "JAEGER_OTLP_ENDPOINT": self.collector.grpc,
            "PROMETHEUS_OTLP_ENDPOINT": self.collector.http,
            "LOKI_OTLP_ENDPOINT": self.collector.http,
        }

    def requests(self, signal: str) -> list[dict[str, Any]]:
        """Return all requests of a signal so far, as OTLP/JSON."""
        path = self.folder / f"{signal}.json"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def text(self, signal: str) -> str:
        """Return all requests of a signal as text, to search it for values that must not occur."""
        path = self.folder / f"{signal}.json"
        return path.read_text() if path.exists() else ""

    def items(self, signal: str) -> list[dict[str, Any]]:
        """Return all spans, metrics or log records so far, each with its resource and the name of its scope."""
        return list(items_of(signal, self.requests(signal)))


def items_of(signal: str, requests: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the spans, metrics or log records of OTLP/JSON requests, with resource and name of the scope."""
    inner, leaf = {
        "traces": ("scopeSpans", "spans"),
        "metrics": ("scopeMetrics", "metrics"),
        "logs": ("scopeLogs", "logRecords"),
    }[signal]
    for request in requests:
        for resource in request[SIGNALS[signal]]:
            for scope in resource[inner]:
                for item in scope[leaf]:
                    yield {
                        **item,
                        "resource": attributes(resource["resource"]),
                        "scope": scope.get("scope", {}).get("name", ""),
                        "attributes": attributes(item),
                    }


def attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an item in OTLP/JSON as Python values."""
    return {pair["key"]: plain(pair["value"]) for pair in owner.get("attributes", [])}


def plain(value: Mapping[str, Any]) -> Any:
    """Return the value of an `AnyValue` in OTLP/JSON, which writes integers as strings."""
    for kind, inner in value.items():
        match kind:
            case "kvlistValue":
                return {pair["key"]: plain(pair["value"]) for pair in inner.get("values", [])}
            case "arrayValue":
                return [plain(item) for item in inner.get("values", [])]
            case "intValue":
                return int(inner)
            case _:
                return inner
    return None


@contextmanager
def running_sink(folder: Path) -> Iterator[Sink]:
    """Run a Collector that writes what it receives to files."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = list(SIGNALS)
    config = {
        "extensions": {"health_check": {"endpoint": "127.0.0.1:${env:OTELCOL_HEALTH_PORT}"}},
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": "127.0.0.1:${env:OTELCOL_GRPC_PORT}", "max_recv_msg_size_mib": 64},
                    "http": {"endpoint": "127.0.0.1:${env:OTELCOL_HTTP_PORT}"},
                }
            }
        },
        "exporters": {
            f"file/{signal}": {"path": str(folder / f"{signal}.json"), "flush_interval": "100ms"} for signal in signals
        },
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {signal: {"receivers": ["otlp"], "exporters": [f"file/{signal}"]} for signal in signals},
        },
    }
    path = folder / "sink.yaml"
    path.write_text(yaml.safe_dump(config))
    with running_collector(path, data=folder / "data") as collector:
        yield Sink(collector, folder)
