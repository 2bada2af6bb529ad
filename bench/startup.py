"""The time until each program is ready: the command line, a service, `up`, a hub and a sidecar.

| start | measured until |
|---|---|
| reference | `python -c "import sklearn.linear_model, pandas, fastapi"` has exited |
| help | `modeltrace --help` has exited |
| serve | `modeltrace serve BUNDLE` answers 200 at `/readyz` |
| up | `modeltrace up BUNDLE --traffic`, with its own hub, has answered the first prediction of its traffic |
| hub | the hub answers 200 at `/healthz` |
| sidecar | the sidecar has opened the prediction store and accepts records |

Wall time depends on the load of the machine, CPU time hardly does. CPU time is that of the process and of its
descendants, in user and system mode. Ratios are to the reference in the same round, and are medians over the rounds.
The reference imports three libraries that every service needs. The first round is discarded, because it compiles
modules and reads them from disk.
"""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil
from opentelemetry.exporter.otlp.proto.common._internal import _encode_resource
from opentelemetry.sdk.resources import Resource
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.processes import cpu_seconds, free_port, process_tree, run_process
from modeltrace.bundles.example import build_example
from modeltrace.telemetry.export.protocol import SidecarConfig, SidecarEvent
from modeltrace.telemetry.export.sidecar_process import SidecarProcess
from modeltrace.telemetry.records.prediction import Origin

REFERENCE = "import sklearn.linear_model, pandas, fastapi"
# Seconds between two polls, and until a prediction must be answered.
POLL_INTERVAL, TIMEOUT = 0.01, 60.0
PREDICTIONS_METRIC = "ml_predictions_synthetic_total{"


class StartupCost(NamedTuple):
    """The wall time and the CPU time of one start, in seconds."""

    wall: float
    cpu: float


def measure_exit(arguments: Sequence[str], env: Mapping[str, str]) -> StartupCost:
    """Measure `python ARGUMENTS` until it exits."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, *arguments], env={**os.environ, **env}, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return StartupCost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure_ready(
    arguments: Sequence[str], env: Mapping[str, str], url: str, wait: Callable[[], None] = lambda: None
) -> StartupCost:
    """Measure `python -m ARGUMENTS` until `url` answers 200 and `wait` returns."""
    start = time.monotonic()
    with run_process(
        [sys.executable, "-m", *arguments], ready_url=url, env=env, poll_interval=POLL_INTERVAL
    ) as process:
        wait()
        return StartupCost(time.monotonic() - start, cpu_seconds(process_tree(process.pid)))


def wait_for_prediction(metrics_url: str) -> None:
    """Wait until the metrics of a service show an answered prediction.

    Raises:
        RuntimeError: there was no prediction within the timeout.
    """
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(metrics_url, timeout=1) as response:  # noqa: S310  loopback
            if PREDICTIONS_METRIC in response.read().decode():
                return
        time.sleep(POLL_INTERVAL)
    raise RuntimeError(f"{metrics_url} shows no prediction after {TIMEOUT:g} s")


def measure_sidecar(folder: Path) -> StartupCost:
    """Measure the start of a sidecar with a prediction store."""
    config = SidecarConfig(
        signals=dict.fromkeys(("traces", "metrics", "logs"), ("http/protobuf", 1.0)),
        schedule_delay=0.5,
        flush_timeout=1.0,
        spool_dir="",
        spool_max_bytes=0,
        log_level="ERROR",
        log_file="",
        log_file_max_bytes=1,
        log_file_backup_count=0,
        store=(str(folder / "sidecar.db"), 0.0, 0, "0"),
    )
    is_ready = threading.Event()

    def on_event(event: SidecarEvent) -> None:
        if event.kind == "ready":
            is_ready.set()

    existing = {child.pid for child in psutil.Process().children()}
    start = time.monotonic()
    process = SidecarProcess(Origin(_encode_resource(Resource({})).SerializeToString(), "bench"), config, on_event)
    try:
        if not is_ready.wait(TIMEOUT):
            raise RuntimeError(f"the sidecar is not ready after {TIMEOUT:g} s")
        wall = time.monotonic() - start
        return StartupCost(
            wall, cpu_seconds([child for child in psutil.Process().children() if child.pid not in existing])
        )
    finally:
        process.stop(time.monotonic() + TIMEOUT)


def startup_measurements(folder: Path, bundle: Path) -> dict[str, Callable[[], StartupCost]]:
    """Return the measurement of each start, on free ports and with all files in one folder."""
    port, page, grpc, http = (free_port() for _ in range(4))
    service, hub = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page}"
    env = {"XDG_DATA_HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    serve = ["modeltrace", "serve", str(bundle), "--port", str(port)]
    ports = ["--grpc-port", str(grpc), "--http-port", str(http)]
    up = ["modeltrace", "up", str(bundle), "--traffic", "--port", str(port), "--hub-port", str(page), *ports]
    return {
        "reference": partial(measure_exit, ["-c", REFERENCE], env),
        "help": partial(measure_exit, ["-m", "modeltrace", "--help"], env),
        "serve": partial(measure_ready, serve, env, f"{service}/readyz"),
        "up": partial(measure_ready, up, env, f"{service}/readyz", partial(wait_for_prediction, f"{service}/metrics")),
        "hub": partial(
            measure_ready, ["modeltrace_hub", "--memory", "--port", str(page), *ports], env, f"{hub}/healthz"
        ),
        "sidecar": partial(measure_sidecar, folder),
    }


def run(*, rounds: int, console: Console) -> dict[str, Any]:
    """Measure every start `rounds` times, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = startup_measurements(folder, build_example(folder / "bundle"))
        round_costs: list[dict[str, StartupCost]] = []
        for number in range(rounds + 1):
            console.print(f"[dim]round {number} of {rounds}[/dim]")
            round_costs.append({name: start() for name, start in measured.items()})
    return {**summarise(round_costs[1:]), "load_average": os.getloadavg()}


def summarise(rounds: Sequence[Mapping[str, StartupCost]]) -> dict[str, Any]:
    """Return medians over the rounds, and medians of the ratios within a round."""
    starts = {
        name: {
            "wall_s": round(median(costs[name].wall for costs in rounds), 3),
            "cpu_s": round(median(costs[name].cpu for costs in rounds), 3),
            "wall_ratio": round(median(costs[name].wall / costs["reference"].wall for costs in rounds), 3),
            "cpu_ratio": round(median(costs[name].cpu / costs["reference"].cpu for costs in rounds), 3),
        }
        for name in rounds[0]
    }
    return {"cpu_ratio": starts["serve"]["cpu_ratio"], "starts": starts, "rounds": len(rounds)}


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console()
    table = Table("start", "wall, s", "CPU, s", "wall, of reference", "CPU, of reference")
    for name, line in result["starts"].items():
        table.add_row(name, *(f"{line[key]:.2f}" for key in ("wall_s", "cpu_s", "wall_ratio", "cpu_ratio")))
    console.print(table)
    console.print(f"median of {result['rounds']} rounds; {format_load_average(result)}")


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # otherwise every start compiles all modules
    result = run(rounds=arguments.rounds, console=Console(stderr=True))
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
