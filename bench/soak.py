"""Whether memory stays flat under load: RSS and open files of the service, its exporter process and the receiver.

Single predictions and batches go in over 16 connections for as long as asked, to a real Collector (the hub, where none
is built). Every second all three are looked at. The slope is that of a least-squares line through all but the first
fifth, in which pools and caches fill; its error comes from a bootstrap over blocks of what the line leaves, since
neighbours in time are no independent samples. `mb_per_hour` on top is the service's.
"""

import argparse
import json
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

from bench.example import prepare_example
from bench.load import encode_post, run_load
from bench.processes import CoreAssignment
from bench.receiver import start_receiver
from bench.subject import run_subject

MB = 1e6
SAMPLE_INTERVAL = 1.0
# Seconds of load between two lines of progress.
PROGRESS_INTERVAL = 10.0
WARM_UP_SHARE = 0.2
BLOCKS = 20
RESAMPLES = 500
BATCH_ROWS = 100
MIN_MINUTES = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process: seconds since the start, bytes, open file descriptors."""

    seconds: float
    rss: int
    open_files: int


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope with its standard error."""

    slope: float
    standard_error: float


def fit_trend(times: Sequence[float], values: Sequence[float], *, seed: int = 0) -> Trend:
    """The slope of the least-squares line, by the unit of `at`; its error by a bootstrap over blocks of residuals."""
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
    """Looks at processes every second, on a thread of its own."""

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
    """What a process began and ended with, and where it is heading."""
    found = {}
    for name, every in samples.items():
        settled = every[int(WARM_UP_SHARE * len(every)) :]
        memory = fit_trend([one.seconds / 3600 for one in settled], [one.rss / MB for one in settled])
        found[name] = {
            "first_mb": round(every[0].rss / MB, 1),
            "settled_mb": round(settled[0].rss / MB, 1),
            "last_mb": round(every[-1].rss / MB, 1),
            "highest_mb": round(max(one.rss for one in every) / MB, 1),
            "mb_per_hour": round(memory.slope, 1),
            "error_mb_per_hour": round(memory.standard_error, 1),
            "files_first": every[0].open_files,
            "files_last": every[-1].open_files,
            "files_most": max(one.open_files for one in every),
        }
    return found


def run(minutes: float, *, connections: int, console: Console) -> dict[str, Any]:
    """Load for so long."""
    pins = CoreAssignment.assign()
    with tempfile.TemporaryDirectory() as name, start_receiver(pins.other) as receiving:
        folder = Path(name)
        (taker,) = psutil.Process().children()
        model = prepare_example(folder)
        batches = [model.rows[start : start + BATCH_ROWS] for start in (0, 20)]
        requests = [
            *(encode_post("/predict", orjson.dumps({"features": row})) for row in model.rows),
            *(encode_post("/predict/batch", orjson.dumps({"rows": rows})) for rows in batches),
        ]
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiving.http_endpoint,
            "MODELTRACE_SPOOL_DIR": str(folder / "spool"),
            "MODELTRACE_STORE": str(folder / "predictions.db"),
        }
        with run_subject(model.bundle, env, core=pins.service, other_core=pins.other) as service:
            watched = {"service": psutil.Process(service.pid), "exporter": service.sidecars()[0], "receiver": taker}
            sent = failed = 0
            until = time.monotonic() + 60 * minutes
            with ProcessSampler(watched) as watch:
                while (left := until - time.monotonic()) > 0:
                    part = run_load(
                        service.port, requests, connections=connections, seconds=min(PROGRESS_INTERVAL, max(left, 0.1))
                    )
                    sent += part.requests
                    failed += part.failed
                    last = (
                        f"{which} {looked[-1].rss / MB:.0f} MB" for which, looked in watch.samples.items() if looked
                    )
                    console.print(
                        "[dim]" + " · ".join(chain([f"{left / 60:.1f} min left, {sent:,} sent"], last)) + "[/dim]"
                    )
        processes = summarise(watch.samples)
        return {
            "mb_per_hour": processes["service"]["mb_per_hour"],
            "minutes": minutes,
            "sent": sent,
            "failed": failed,
            "receiver": receiving.name,
            "load_average": os.getloadavg(),
            "processes": processes,
        }


def print_result(result: dict[str, Any]) -> None:
    """The result for people."""
    console = Console(width=max(Console().width, 110))
    table = Table(
        *(
            "process",
            "MB\nfirst",
            "\nsettled",
            "\nlast",
            "\nhighest",
            "MB/hour",
            "open files\nfirst",
            "\nlast",
            "\nmost",
        )
    )
    for name, line in result["processes"].items():
        memory = (f"{line[key]}" for key in ("first_mb", "settled_mb", "last_mb", "highest_mb"))
        files = (f"{line[key]}" for key in ("files_first", "files_last", "files_most"))
        table.add_row(name, *memory, f"{line['mb_per_hour']:+} ± {line['error_mb_per_hour']}", *files)
    console.print(table)
    average = " ".join(f"{number:.1f}" for number in result["load_average"])
    console.print(
        f"{result['minutes']:g} minutes, {result['sent']:,} requests, {result['failed']} failed; receiver: "
        f"{result['receiver']}; load average {average}"
    )


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="how long the load lasts (default: 10; an hour: 60)"
    )
    parser.add_argument("--connections", type=int, default=16, help="requests in flight (default: 16)")
    arguments = parser.parse_args()
    if arguments.minutes < MIN_MINUTES:
        parser.error(f"a line through less than {MIN_MINUTES:g} minutes says nothing")
    result = run(arguments.minutes, connections=arguments.connections, console=Console(stderr=True))
    print(json.dumps(result)) if arguments.json else print_result(result)


if __name__ == "__main__":
    main()
