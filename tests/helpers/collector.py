"""Collectors for the tests: the real binary, on free ports, alone or one behind the other."""

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
# Variables of the files below otel/: what the machine's own environment says must not decide a test.
OWN = ("OTEL", "MODELTRACE_", "JAEGER_", "LOKI_", "PROMETHEUS_", "KAFKA_", "AWS_", "AZURE_")


def command(configs: Sequence[Path], *before: str, options: Sequence[str] = ()) -> list[str]:
    """How a Collector is called with these files merged."""
    return [str(binary("otelcol", "otelcol")), *before, *(f"--config={path}" for path in configs), *options]


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment that says of the Collector what the test says, and no more."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OWN)} | dict(environment)


def validate(*configs: Path, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """What the Collector says of these files, merged: `otelcol validate` builds every component and starts none."""
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
    """A Collector and its addresses. Its data folder is the caller's, so it can be stopped and started again."""

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
        """Where OTLP over HTTP goes."""
        return f"http://127.0.0.1:{self.ports['HTTP']}"

    @property
    def grpc(self) -> str:
        """Where OTLP over gRPC goes, as the Collector's own exporters write it."""
        return f"127.0.0.1:{self.ports['GRPC']}"

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.process.log if self.process else ""

    def start(self) -> None:
        """Start it, and return when it is healthy."""
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

    def stop(self, **how: Any) -> None:
        """Stop it, if it runs."""
        if self.process is not None:
            self.process.stop(**how)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of one of its own metrics over all series with these labels."""
        text = httpx.get(f"http://127.0.0.1:{self.ports['METRICS']}/metrics").raise_for_status().text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        series = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, flags=re.MULTILINE)
        return sum(float(value) for found, value in series if all(label in found for label in wanted))


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
    """A Collector that stands for every backend and keeps what it gets, word for word, in a file a signal."""

    collector: Collector
    folder: Path

    @property
    def backends(self) -> dict[str, str]:
        """The variables that have another Collector send everything here."""
        return {
            "JAEGER_OTLP_ENDPOINT": self.collector.grpc,
            "PROMETHEUS_OTLP_ENDPOINT": self.collector.http,
            "LOKI_OTLP_ENDPOINT": self.collector.http,
        }

    def requests(self, signal: str) -> list[dict[str, Any]]:
        """All requests of a signal so far, as OTLP's JSON."""
        path = self.folder / f"{signal}.json"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def text(self, signal: str) -> str:
        """The same as text, to look for what must not be in it."""
        path = self.folder / f"{signal}.json"
        return path.read_text() if path.exists() else ""

    def items(self, signal: str) -> list[dict[str, Any]]:
        """All spans, metrics or log records so far, each with its resource and its scope's name."""
        return list(items_of(signal, self.requests(signal)))


def items_of(signal: str, requests: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The spans, metrics or log records of requests in OTLP's JSON, each with its resource and its scope's name."""
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
    """The attributes of an item in OTLP's JSON, as plain values."""
    return {pair["key"]: plain(pair["value"]) for pair in owner.get("attributes", [])}


def plain(value: Mapping[str, Any]) -> Any:
    """A value of OTLP's JSON, where whole numbers are text."""
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
    """Run a Collector that keeps what it gets."""
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
