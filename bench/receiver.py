"""What takes the telemetry while something is measured: the real Collector where it is built, else the hub."""

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import free_port, started
from stack.build import Cache
from stack.parts import read_parts

CONFIG = Path(__file__).with_name("collector.yaml")
ACCEPTED = {
    "spans": "otelcol_receiver_accepted_spans",
    "log records": "otelcol_receiver_accepted_log_records",
    "metric points": "otelcol_receiver_accepted_metric_points",
}


@dataclass(frozen=True)
class Receiver:
    """Where OTLP over HTTP goes."""

    name: str
    endpoint: str
    metrics: str | None = None

    def accepted(self) -> dict[str, int]:
        """How many items of each kind have arrived so far; empty where the receiver does not count them."""
        if self.metrics is None:
            return {}
        with urllib.request.urlopen(self.metrics, timeout=5) as answer:  # noqa: S310  loopback
            text = answer.read().decode()
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removesuffix("_total")
                totals[name] = totals.get(name, 0) + sample.value
        return {what: int(totals.get(name, 0)) for what, name in ACCEPTED.items()}


@contextmanager
def receiver(core: int | None) -> Iterator[Receiver]:
    """A receiver on `core`, until the block ends."""
    part = read_parts().parts["otelcol"]
    binary = Cache(platformdirs.user_cache_path("modeltrace") / "stack").folder("otelcol", part) / "otelcol"
    if binary.exists():
        otlp, health, metrics = free_port(), free_port(), free_port()
        env = {
            "BENCH_OTLP_PORT": str(otlp),
            "BENCH_HEALTH_PORT": str(health),
            "BENCH_METRICS_PORT": str(metrics),
        }
        with started([str(binary), f"--config={CONFIG}"], ready=f"http://127.0.0.1:{health}/", env=env, core=core):
            yield Receiver(
                f"Collector {part.version}", f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{metrics}/metrics"
            )
        return
    hub, http = free_port(), free_port()
    ports = ["--port", str(hub), "--http-port", str(http), "--grpc-port", str(free_port())]
    command = [sys.executable, "-m", "hub", "--memory", *ports]
    with started(command, ready=f"http://127.0.0.1:{hub}/healthz", core=core):
        yield Receiver("hub", f"http://127.0.0.1:{http}")
