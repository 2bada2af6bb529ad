"""What telemetry costs a prediction: the service with none, with each signal, with all, with nobody to take it.

The service has a core of its own; the load, and a real hub that takes the telemetry, share the other. Rounds are
interleaved, so that a machine whose speed drifts slows every variant alike. `ratio` is requests/s with everything on
over requests/s with nothing on, the median of the rounds.
"""

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from bench.load import Load, load, post
from bench.processes import cores, free_port, running
from service.inference.example import build_example

VARIANTS: dict[str, dict[str, str]] = {
    "none": {"OTEL_SDK_DISABLED": "true"},
    "traces": {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
    "metrics": {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
    "logs": {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    "all": {},
    # Port 9 (discard, RFC 863) is where nobody listens.
    "all, dead endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
}
SATURATED = 0.95


@dataclass(frozen=True)
class Pins:
    """Which core the service has to itself, and which one load and hub share; `None` where nothing can be pinned."""

    service: int | None = None
    other: int | None = None


@dataclass(frozen=True)
class Run:
    """One run: what the load measured, and how busy the core was that load and hub share."""

    load: Load
    other_core: float


def measure(variant: dict[str, str], bundle: Path, requests: list[bytes], otlp: str, seconds: float, pins: Pins) -> Run:
    """One run of one variant."""
    port = free_port()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp, "OTEL_METRIC_EXPORT_INTERVAL": "5000", **variant}
    arguments = ["service", "serve", str(bundle), "--port", str(port)]
    with running(arguments, ready=f"http://127.0.0.1:{port}/readyz", env=env, core=pins.service):
        load("127.0.0.1", port, requests, seconds=min(2.0, seconds))
        psutil.cpu_percent(percpu=True)  # what the next call says is since this one
        measured = load("127.0.0.1", port, requests, seconds=seconds)
        return Run(measured, psutil.cpu_percent(percpu=True)[pins.other or 0] / 100)


def run(*, rounds: int, seconds: float) -> dict[str, Any]:
    """All variants, `rounds` times."""
    available = cores()
    pins = Pins(service=available[-1], other=available[0]) if len(available) > 1 else Pins()
    if pins.other is not None:
        os.sched_setaffinity(0, {pins.other})
    results: dict[str, list[Run]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        bundle = build_example(Path(folder) / "bundle")
        rows = pd.read_parquet(bundle / "traffic.parquet").drop(columns="target").to_dict(orient="records")
        requests = [post("/predict", orjson.dumps({"features": row})) for row in rows]
        hub, http = free_port(), free_port()
        arguments = ["hub", "--memory", "--port", str(hub), "--http-port", str(http), "--grpc-port", str(free_port())]
        with running(arguments, ready=f"http://127.0.0.1:{hub}/healthz", core=pins.other):
            for _ in range(rounds):
                for name, variant in VARIANTS.items():
                    results[name].append(measure(variant, bundle, requests, f"http://127.0.0.1:{http}", seconds, pins))
    return summarise(results, pinned=pins.service is not None)


def summarise(results: dict[str, list[Run]], *, pinned: bool) -> dict[str, Any]:
    """Medians over the rounds; ratios are taken round by round."""
    base = results["none"]
    table = {
        name: {
            "requests_per_second": round(median(x.load.rate for x in runs), 1),
            "p50_ms": round(1000 * median(x.load.quantile(0.5) for x in runs), 2),
            "p99_ms": round(1000 * median(x.load.quantile(0.99) for x in runs), 2),
            "ratio": round(median(x.load.rate / b.load.rate for x, b in zip(runs, base, strict=True)), 3),
            "failed": sum(x.load.failed for x in runs),
            "other_core_busy": round(max(x.other_core for x in runs), 2),
        }
        for name, runs in results.items()
    }
    void = any(x.other_core > SATURATED for runs in results.values() for x in runs)
    return {"ratio": table["all"]["ratio"], "void": void, "pinned": pinned, "rounds": len(base), "variants": table}


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds a run (default: 5)")
    arguments = parser.parse_args()
    result = run(rounds=arguments.rounds, seconds=arguments.seconds)
    if arguments.json:
        print(json.dumps(result))
        return
    table = Table("telemetry", "requests/s", "p50 ms", "p99 ms", "of none", "failed", "other core")
    for name, row in result["variants"].items():
        table.add_row(name, *(str(row[k]) for k in row))
    console = Console()
    console.print(table)
    console.print(f"ratio {result['ratio']} (all / none, median of {result['rounds']} rounds)")
    if result["void"]:
        console.print("[red]void:[/red] the core of load and hub was saturated in a run")


if __name__ == "__main__":
    main()
