"""What telemetry costs a prediction: the service with none, with each signal, with all, in one run.

The service has a core of its own; the load, and a real hub that takes the telemetry, share the other. Rounds are
interleaved, so that a machine whose speed drifts slows every variant alike. `ratio` is requests/s with everything on
over requests/s with nothing on, the median of the rounds.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import pandas as pd
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
}
SATURATED = 0.95


def measure(variant: dict[str, str], bundle: Path, requests: list[bytes], otlp: str, seconds: float) -> Load:
    """One run of one variant."""
    port = free_port()
    available = cores()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp, "OTEL_METRIC_EXPORT_INTERVAL": "5000", **variant}
    arguments = ["service", "serve", str(bundle), "--port", str(port)]
    core = available[-1] if len(available) > 1 else None
    with running(arguments, ready=f"http://127.0.0.1:{port}/readyz", env=env, core=core):
        load("127.0.0.1", port, requests, seconds=min(2.0, seconds))
        return load("127.0.0.1", port, requests, seconds=seconds)


def run(*, rounds: int, seconds: float) -> dict[str, Any]:
    """All variants, `rounds` times."""
    available = cores()
    if len(available) > 1:
        os.sched_setaffinity(0, {available[0]})
    results: dict[str, list[Load]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        bundle = build_example(Path(folder) / "bundle")
        rows = pd.read_parquet(bundle / "traffic.parquet").drop(columns="target").to_dict(orient="records")
        requests = [post("/predict", orjson.dumps({"features": row})) for row in rows]
        hub, http = free_port(), free_port()
        arguments = ["hub", "--memory", "--port", str(hub), "--http-port", str(http), "--grpc-port", str(free_port())]
        with running(arguments, ready=f"http://127.0.0.1:{hub}/healthz", core=available[0] if available else None):
            for _ in range(rounds):
                for name, variant in VARIANTS.items():
                    results[name].append(measure(variant, bundle, requests, f"http://127.0.0.1:{http}", seconds))
    return summarise(results, pinned=len(available) > 1)


def summarise(results: dict[str, list[Load]], *, pinned: bool) -> dict[str, Any]:
    """Medians over the rounds; ratios are taken round by round."""
    base = results["none"]
    table = {
        name: {
            "requests_per_second": round(median(x.rate for x in runs), 1),
            "p50_ms": round(1000 * median(x.quantile(0.5) for x in runs), 2),
            "p99_ms": round(1000 * median(x.quantile(0.99) for x in runs), 2),
            "ratio": round(median(x.rate / b.rate for x, b in zip(runs, base, strict=True)), 3),
            "failed": sum(x.failed for x in runs),
            "load_core_share": round(max(x.cpu_share for x in runs), 2),
        }
        for name, runs in results.items()
    }
    void = any(x.cpu_share > SATURATED for runs in results.values() for x in runs)
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
    table = Table("telemetry", "requests/s", "p50 ms", "p99 ms", "of none", "failed", "load core")
    for name, row in result["variants"].items():
        table.add_row(name, *(str(row[k]) for k in row))
    console = Console()
    console.print(table)
    console.print(f"ratio {result['ratio']} (all / none, median of {result['rounds']} rounds)")
    if result["void"]:
        console.print("[red]void:[/red] the load's core was saturated in a run")


if __name__ == "__main__":
    main()
