"""The cost of telemetry per prediction: the service without telemetry, with all of it, and with the OpenTelemetry SDK.

The service has its own core; the load, a real Collector (or the hub, if no Collector is built) and the sidecar share
the other core. Every request is traced, logged, measured and stored with all of its feature values. Rounds are
interleaved and ratios are taken within a round, so a machine whose speed changes slows all variants down alike. `ratio`
is requests/s with all telemetry divided by requests/s without, as the median of the rounds.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import psutil
from rich.console import Console
from rich.table import Table

from bench.command import make_parser, print_as
from bench.example import Example, prepare_example
from bench.load import LoadResult, encode_post, run_load
from bench.processes import CoreAssignment, cpu_seconds, free_port, pin_process, process_tree, run_process
from bench.receiver import Receiver, start_receiver
from bench.subject import SIDECAR_MODULE

NO_TELEMETRY = {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}
BATCHING = {"MODELTRACE_BATCHING": "true"}
ONNX = {"MODELTRACE_ENGINE": "onnx"}
# The processors and exporters of the SDK, without the metrics about itself: they are expensive, and off by default.
SDK = {"MODELTRACE_INSTRUMENTATION": "sdk", "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "false"}
VARIANTS: dict[str, dict[str, str]] = {
    "none": NO_TELEMETRY,
    "all": {},
    # Port 9 (discard, RFC 863), where nothing listens.
    "all, unreachable endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    "all, SDK": SDK,
    "none, batching": {**NO_TELEMETRY, **BATCHING},
    "all, batching": BATCHING,
    "none, ONNX": {**NO_TELEMETRY, **ONNX},
    "all, ONNX": ONNX,
    "none, batching, ONNX": {**NO_TELEMETRY, **BATCHING, **ONNX},
    "all, batching, ONNX": {**BATCHING, **ONNX},
}
BARE = "bare FastAPI"
MAX_CORE_USAGE = 0.95
CPU_PARTS = ("service", "sidecar", "receiver")


@dataclass(frozen=True)
class Run:
    """One run: the measurements of the load, the CPU time, and the usage of the other core from 0 to 1."""

    load: LoadResult
    other_core_usage: float
    service_cpu: float  # seconds, of the service and its workers
    sidecar_cpu: float  # seconds, of the sidecar
    receiver_cpu: float


def measure(
    command: list[str],
    ready_url: str,
    port: int,
    env: dict[str, str],
    requests: list[bytes],
    *,
    seconds: float,
    connections: int,
    pins: CoreAssignment,
    receiver_process: psutil.Process,
) -> Run:
    """Run one variant once."""
    with run_process(command, ready_url=ready_url, env=env, core=pins.service) as process:
        sidecars = [child for child in process_tree(process.pid) if SIDECAR_MODULE in child.cmdline()]
        if pins.other is not None:
            for sidecar in sidecars:
                pin_process(sidecar, pins.other)
        run_load(port, requests, seconds=min(2.0, seconds), connections=connections)
        service_processes = [child for child in process_tree(process.pid) if child not in sidecars]
        before = cpu_seconds(service_processes), cpu_seconds(sidecars), cpu_seconds([receiver_process])
        psutil.cpu_percent(percpu=True)  # start of the interval that the next call reports
        measured = run_load(port, requests, seconds=seconds, connections=connections)
        busy = psutil.cpu_percent(percpu=True)[pins.other or 0] / 100
        after = cpu_seconds(service_processes), cpu_seconds(sidecars), cpu_seconds([receiver_process])
        return Run(measured, busy, *(b - a for a, b in zip(before, after, strict=True)))


def run(names: list[str], *, rounds: int, seconds: float, connections: int, console: Console) -> dict[str, Any]:
    """Run the given variants, `rounds` times each."""
    pins = CoreAssignment.assign()
    results: dict[str, list[Run]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, start_receiver(pins.other) as receiver:
        model = prepare_example(Path(folder))
        requests = [encode_post("/predict", orjson.dumps({"features": row})) for row in model.rows]
        (process,) = (child for child in psutil.Process().children() if child.is_running())
        for number in range(rounds):
            for name in names:
                console.print(f"[dim]round {number + 1} of {rounds}: {name}[/dim]", end="\r")
                command, ready, port, env = _build_command(name, model, receiver, Path(folder))
                results[name].append(
                    measure(command, ready, port, env, requests, seconds=seconds, connections=connections, pins=pins,
                            receiver_process=process)
                )  # fmt: skip
        return {**summarise(results), "pinned": pins.service is not None, "receiver": receiver.name,
                "connections": connections}  # fmt: skip


def _build_command(
    name: str, model: Example, receiver: Receiver, folder: Path
) -> tuple[list[str], str, int, dict[str, str]]:
    port = free_port()
    if name == BARE:
        command = [sys.executable, "-m", "uvicorn", "--factory", "bench.bare:create_app", "--port", str(port)]
        command += ["--no-access-log", "--loop", "uvloop", "--http", "httptools"]
        return command, f"http://127.0.0.1:{port}/docs", port, {"BENCH_MODEL": str(model.joblib)}
    command = [sys.executable, "-m", "modeltrace", "serve", str(model.bundle), "--port", str(port)]
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "MODELTRACE_SPOOL_DIR": str(folder / "spool"),
        "MODELTRACE_STORE": str(folder / "predictions.db"),
        **VARIANTS[name],
    }
    return command, f"http://127.0.0.1:{port}/readyz", port, env


def summarise(results: dict[str, list[Run]]) -> dict[str, Any]:
    """Return medians over the rounds, and medians of the ratios within a round."""
    bare = results[BARE]
    table = {}
    for name, runs in results.items():
        # The same variant without telemetry: the baseline of "all, ONNX" is "none, ONNX".
        base = results.get(name.replace("all", "none", 1), results["none"])
        thousands = [run.load.requests / 1000 for run in runs]
        table[name] = {
            "requests_per_second": round(median(run.load.rate for run in runs), 1),
            "p50_ms": round(1000 * median(run.load.quantile(0.5) for run in runs), 2),
            "p99_ms": round(1000 * median(run.load.quantile(0.99) for run in runs), 2),
            "of_none": _ratio(runs, base),
            "p99_of_none": round(
                median(a.load.quantile(0.99) / b.load.quantile(0.99) for a, b in zip(runs, base, strict=True)), 2
            ),
            "of_bare": _ratio(runs, bare),
            **{
                f"{part}_cpu_ms": _cpu_ms([getattr(run, f"{part}_cpu") for run in runs], thousands)
                for part in CPU_PARTS
            },
            "failed": sum(run.load.failed for run in runs),
            "other_core_busy": round(max(run.other_core_usage for run in runs), 2),
        }
    void = [name for name, runs in results.items() if any(run.other_core_usage > MAX_CORE_USAGE for run in runs)]
    ratio = table["all"]["of_none"] if "all" in table else None
    return {"ratio": ratio, "void": void, "rounds": len(bare), "variants": table}


def _cpu_ms(seconds: list[float], thousands: list[float]) -> int:
    return round(1000 * median(cpu / n for cpu, n in zip(seconds, thousands, strict=True)))


def _ratio(runs: list[Run], base: list[Run]) -> float:
    return round(median(run.load.rate / other.load.rate for run, other in zip(runs, base, strict=True)), 3)


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console()
    table = Table("variant", "requests/s", "p50 ms", "p99 ms", "of none", "p99", "of bare",
                  "CPU ms/1000: service", "sidecar", "receiver", "failed", "other core")  # fmt: skip
    for name, row in result["variants"].items():
        table.add_row(name, *(str(value) for value in row.values()))
    console.print(table)
    console.print(f"ratio {result['ratio']} (all / none, median of {result['rounds']} rounds; {result['receiver']})")
    for name in result["void"]:
        console.print(f"[red]void:[/red] {name}: the other core was saturated")


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per run (default: 5)")
    parser.add_argument("--connections", type=int, default=16, help="requests in flight (default: 16)")
    parser.add_argument(
        "--only", action="append", choices=list(VARIANTS), help="measure this variant, bare and none only (repeatable)"
    )
    arguments = parser.parse_args()
    names = [BARE, *(name for name in VARIANTS if not arguments.only or name in (*arguments.only, "none"))]
    result = run(names, rounds=arguments.rounds, seconds=arguments.seconds, connections=arguments.connections,
                 console=Console(stderr=True))  # fmt: skip
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
