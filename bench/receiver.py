"""The receiver of telemetry during a measurement: the real Collector if it is built, otherwise the hub."""

import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import platformdirs
from prometheus_client.parser import text_string_to_metric_families

from bench.hub import run_hub
from bench.processes import free_port, run_process
from stack.cache import Cache
from stack.components import read_components

CONFIG = Path(__file__).with_name("collector.yaml")
# The received items: the metric of the Collector and the signal of the hub.
ACCEPTED_METRICS = {
    "spans": ("otelcol_receiver_accepted_spans", "traces"),
    "log records": ("otelcol_receiver_accepted_log_records", "logs"),
    "metric points": ("otelcol_receiver_accepted_metric_points", "metrics"),
}


@dataclass(frozen=True)
class Receiver:
    """The OTLP endpoints of a receiver, and a function that counts the received items by kind."""

    name: str
    http_endpoint: str
    grpc_endpoint: str
    count_accepted: Callable[[], dict[str, int]]


@contextmanager
def start_receiver(core: int | None) -> Iterator[Receiver]:
    """Run a receiver on `core` until the block ends."""
    with start_collector([CONFIG], core) if collector_path().exists() else _start_hub(core) as receiver:
        yield receiver


def collector_path() -> Path:
    """Return the path of the Collector, which exists only if the Collector is built."""
    component = read_components().components["otelcol"]
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack").folder("otelcol", component) / "otelcol"


@contextmanager
def start_collector(configs: Sequence[Path], core: int | None, env: dict[str, str] | None = None) -> Iterator[Receiver]:
    """Run a Collector with these configuration files, which read their ports and `env` from the environment."""
    http, grpc, health, metrics = (free_port() for _ in range(4))
    ports = {
        "BENCH_OTLP_PORT": str(http),
        "BENCH_GRPC_PORT": str(grpc),
        "BENCH_HEALTH_PORT": str(health),
        "BENCH_METRICS_PORT": str(metrics),
    }
    command = [str(collector_path()), *(f"--config={config}" for config in configs)]
    with run_process(command, ready_url=f"http://127.0.0.1:{health}/", env={**ports, **(env or {})}, core=core):
        yield Receiver(
            f"Collector {read_components().components['otelcol'].version}",
            f"http://127.0.0.1:{http}",
            f"http://127.0.0.1:{grpc}",
            partial(_count_collector_items, f"http://127.0.0.1:{metrics}/metrics"),
        )


@contextmanager
def _start_hub(core: int | None) -> Iterator[Receiver]:
    """Run a hub that keeps everything in memory."""
    with run_hub(None, core) as urls:
        yield Receiver("hub", urls.http, urls.grpc, partial(_count_hub_items, f"{urls.api}/api/stats"))


def _count_collector_items(metrics: str) -> dict[str, int]:
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(_read(metrics).decode()):
        for sample in family.samples:
            name = sample.name.removesuffix("_total")
            totals[name] = totals.get(name, 0) + sample.value
    return {kind: int(totals.get(name, 0)) for kind, (name, _) in ACCEPTED_METRICS.items()}


def _count_hub_items(stats: str) -> dict[str, int]:
    signals = json.loads(_read(stats))["signals"]
    return {kind: int(signals[name]["received"]) for kind, (_, name) in ACCEPTED_METRICS.items()}


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310  loopback
        content: bytes = response.read()
    return content
