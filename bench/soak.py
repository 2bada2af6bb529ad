"""Whether memory and open files of the service, the sidecar and the receiver stay constant under load.

Single predictions and batches are sent over 16 connections to a service whose telemetry goes to a real Collector (or
the hub, if no Collector is built). All three processes are sampled every second. The slope is that of the least-squares
line through all samples except the first fifth, in which pools and caches fill. Its standard error comes from a block
bootstrap of the residuals, because consecutive samples are not independent. `mb_per_hour` is that of the service.
"""

import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.example import prepare_example
from bench.load import encode_post, run_load
from bench.processes import CoreAssignment
from bench.receiver import start_receiver
from bench.subject import run_subject

MB = 1e6
SAMPLE_INTERVAL = 1.0
# Seconds of load between two progress messages.
PROGRESS_INTERVAL = 10.0
WARM_UP_SHARE = 0.2
BLOCKS = 20
RESAMPLES = 500
BATCH_ROWS = 100
MIN_MINUTES = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a process: seconds since the start, RSS in bytes, open file descriptors."""

    seconds: float
    rss: int
    open_files: int


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope and its standard error."""

    slope: float
    standard_error: float


def fit_trend(times: Sequence[float], values: Sequence[float], *, seed: int = 0) -> Trend:
    """Fit a least-squares line. The standard error of its slope comes from a block bootstrap of the residuals."""
    x, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    slope, intercept = np.polyfit(x, y, 1)
    fitted = slope * x + intercept
    residuals = y - fitted
    length = max(1, len(x) // BLOCKS)
    starts = len(x) - length + 1
    random = np.random.default_rng(seed)
    slopes = []
    for _ in range(RESAMPLES):
        chosen = random.integers(0, starts, size=-(-len(x) // length))
        resampled = np.concatenate([residuals[start : start + length] for start in chosen])[: len(x)]
        slopes.append(np.polyfit(x, fitted + resampled, 1)[0])
    return Trend(float(slope), float(np.std(slopes, ddof=1)))


class ProcessSampler:
    """Samples processes every second in a background thread."""

    def __init__(self, processes: Mapping[str, psutil.Process]) -> None:
        self.samples: dict[str, list[Sample]] = {name: [] for name in processes}
        self._processes = processes
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_INTERVAL):
            for name, process in self._processes.items():
                with suppress(psutil.NoSuchProcess):
                    at = time.monotonic() - self._start
                    self.samples[name].append(Sample(at, process.memory_info().rss, process.num_fds()))


def summarise(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Return the first and last values of each process, and the trend of its memory."""
    summary = {}
    for name, process_samples in samples.items():
        settled = process_samples[int(WARM_UP_SHARE * len(process_samples)) :]
        memory = fit_trend([sample.seconds / 3600 for sample in settled], [sample.rss / MB for sample in settled])
        summary[name] = {
            "first_mb": round(process_samples[0].rss / MB, 1),
            "settled_mb": round(settled[0].rss / MB, 1),
            "last_mb": round(process_samples[-1].rss / MB, 1),
            "highest_mb": round(max(sample.rss for sample in process_samples) / MB, 1),
            "mb_per_hour": round(memory.slope, 1),
            "error_mb_per_hour": round(memory.standard_error, 1),
            "files_first": process_samples[0].open_files,
            "files_last": process_samples[-1].open_files,
            "files_max": max(sample.open_files for sample in process_samples),
        }
    return summary


def run(minutes: float, *, connections: int, console: Console) -> dict[str, Any]:
    """Run the load for `minutes`."""
    pins = CoreAssignment.assign()
    with tempfile.TemporaryDirectory() as name, start_receiver(pins.other) as receiver:
        folder = Path(name)
        (receiver_process,) = psutil.Process().children()
        model = prepare_example(folder)
        batches = [model.rows[start : start + BATCH_ROWS] for start in (0, 20)]
        requests = [
            *(encode_post("/predict", orjson.dumps({"features": row})) for row in model.rows),
            *(encode_post("/predict/batch", orjson.dumps({"rows": rows})) for rows in batches),
        ]
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            "MODELTRACE_SPOOL_DIR": str(folder / "spool"),
            "MODELTRACE_STORE": str(folder / "predictions.db"),
        }
        with run_subject(model.bundle, env, core=pins.service, other_core=pins.other) as service:
            processes = {
                "service": psutil.Process(service.pid),
                "sidecar": service.sidecars()[0],
                "receiver": receiver_process,
            }
            sent = failed = 0
            deadline = time.monotonic() + 60 * minutes
            with ProcessSampler(processes) as sampler:
                while (remaining := deadline - time.monotonic()) > 0:
                    result = run_load(
                        service.port,
                        requests,
                        connections=connections,
                        seconds=min(PROGRESS_INTERVAL, max(remaining, 0.1)),
                    )
                    sent += result.requests
                    failed += result.failed
                    last = (
                        f"{process} {values[-1].rss / MB:.0f} MB"
                        for process, values in sampler.samples.items()
                        if values
                    )
                    console.print(
                        "[dim]" + " · ".join(chain([f"{remaining / 60:.1f} min left, {sent:,} sent"], last)) + "[/dim]"
                    )
        summaries = summarise(sampler.samples)
        return {
            "mb_per_hour": summaries["service"]["mb_per_hour"],
            "minutes": minutes,
            "sent": sent,
            "failed": failed,
            "receiver": receiver.name,
            "load_average": os.getloadavg(),
            "processes": summaries,
        }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console(width=max(Console().width, 110))
    table = Table(
        *("process", "MB\nfirst", "\nsettled", "\nlast", "\nhighest", "MB/hour"),
        *("open files\nfirst", "\nlast", "\nmax"),
    )
    for name, line in result["processes"].items():
        memory = (f"{line[key]}" for key in ("first_mb", "settled_mb", "last_mb", "highest_mb"))
        files = (f"{line[key]}" for key in ("files_first", "files_last", "files_max"))
        table.add_row(name, *memory, f"{line['mb_per_hour']:+} ± {line['error_mb_per_hour']}", *files)
    console.print(table)
    console.print(
        f"{result['minutes']:g} minutes, {result['sent']:,} requests, {result['failed']} failed; receiver: "
        f"{result['receiver']}; {format_load_average(result)}"
    )


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="duration of the load (default: 10)")
    parser.add_argument("--connections", type=int, default=16, help="requests in flight (default: 16)")
    arguments = parser.parse_args()
    if arguments.minutes < MIN_MINUTES:
        parser.error(f"a trend needs at least {MIN_MINUTES:g} minutes")
    result = run(arguments.minutes, connections=arguments.connections, console=Console(stderr=True))
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
