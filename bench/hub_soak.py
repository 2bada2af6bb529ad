"""Whether the hub stays healthy while telemetry arrives all the time and its store is at the size limit.

Spans and log records are sent at a constant rate to a hub with a small size limit, so that it deletes the oldest rows
again and again. Pages and API calls are requested at the same time. Memory, open files and the size of the file are
sampled. `mb_per_hour` is the slope of the memory of the hub, as in the bench `soak`. `acknowledged` is compared with
the records that are stored or deleted: `lost` must be 0.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.hub import run_hub
from bench.ingest import ITEMS_PER_REQUEST, encode_log_records, encode_spans
from bench.soak import MB, MIN_MINUTES, ProcessSampler, summarise
from modeltrace_hub.store import FILE_NAME

PATHS: Final = ("/traces", "/logs", "/services", "/api/traces?attr.bench.attribute.1=nothing", "/api/stats", "/metrics")
QUERY_INTERVAL: Final = 0.5
# Two requests are sent at the same time: spans and log records.
SIGNALS: Final[dict[str, Callable[[int], tuple[bytes, str]]]] = {"traces": encode_spans, "logs": encode_log_records}


class Load:
    """Send telemetry at a constant rate and request pages until `stop` is set. Count the results."""

    def __init__(self, urls: tuple[str, str], per_second: int) -> None:
        self.acknowledged = dict.fromkeys(SIGNALS, 0)
        self.refused = 0
        self.sent_seconds: list[float] = []
        self.page_seconds: list[float] = []
        self.page_failures: list[str] = []
        self.stop = threading.Event()
        self._api, self._http = urls
        self._interval = ITEMS_PER_REQUEST / per_second

    def threads(self) -> list[threading.Thread]:
        """Return the threads of the load."""
        senders = [threading.Thread(target=self._send, args=(signal,), daemon=True) for signal in SIGNALS]
        return [*senders, threading.Thread(target=self._request_pages, daemon=True)]

    def _send(self, signal: str) -> None:
        due = time.monotonic()
        with httpx.Client(timeout=60, headers={"Content-Type": "application/x-protobuf"}) as client:
            while not self.stop.wait(max(0.0, due - time.monotonic())):
                body, _ = SIGNALS[signal](0)
                start = time.perf_counter()
                response = client.post(f"{self._http}/v1/{signal}", content=body)
                self.sent_seconds.append(time.perf_counter() - start)
                if response.is_success:
                    self.acknowledged[signal] += ITEMS_PER_REQUEST
                else:
                    self.refused += ITEMS_PER_REQUEST
                # A sender that falls behind on a busy machine does not send faster later.
                due = max(due + self._interval, time.monotonic())

    def _request_pages(self) -> None:
        number = 0
        with httpx.Client(base_url=self._api, timeout=60) as client:
            while not self.stop.wait(QUERY_INTERVAL):
                path = PATHS[number % len(PATHS)]
                number += 1
                start = time.perf_counter()
                status = client.get(path).status_code
                self.page_seconds.append(time.perf_counter() - start)
                if status != httpx.codes.OK:
                    self.page_failures.append(f"{path}: {status}")


def count_lost(stats: dict[str, Any], acknowledged: dict[str, int]) -> int:
    """Return the number of acknowledged records that are neither stored nor deleted by the limits."""
    storage = stats["storage"]
    known: int = sum(storage["rows"][table] + storage["deleted_rows"].get(table, 0) for table in ("spans", "logs"))
    return sum(acknowledged.values()) - known


def run(minutes: float, *, per_second: int, max_size: str) -> dict[str, Any]:
    """Run the load for `minutes`."""
    with (
        tempfile.TemporaryDirectory() as name,
        run_hub(Path(name), env={"MODELTRACE_HUB_MAX_SIZE": max_size}) as urls,
        httpx.Client(base_url=urls.api, timeout=60) as client,
    ):
        hub = next(child for child in psutil.Process().children() if "modeltrace_hub" in child.cmdline())
        load = Load((urls.api, urls.http), per_second)
        threads = load.threads()
        file_sizes = []
        with ProcessSampler({"hub": hub}) as sampler:
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 60 * minutes
            while (remaining := deadline - time.monotonic()) > 0:
                time.sleep(min(5.0, max(remaining, 0.0)))
                file_sizes.append((Path(name) / FILE_NAME).stat().st_size)
            load.stop.set()
            for thread in threads:
                thread.join()
        stats = client.get("/api/stats").json()
        cpu = sum(hub.cpu_times()[:2])
    summary = summarise(sampler.samples)["hub"]
    return {
        "mb_per_hour": summary["mb_per_hour"],
        "minutes": minutes,
        "per_second": per_second,
        "max_size": max_size,
        "acknowledged": load.acknowledged,
        "refused": load.refused,
        "deleted": stats["storage"]["deleted_rows"],
        "lost": count_lost(stats, load.acknowledged),
        "file_mb": {"half": round(file_sizes[len(file_sizes) // 2] / MB, 1), "last": round(file_sizes[-1] / MB, 1)},
        "live_mb": round(stats["storage"]["size"]["live"] / MB, 1),
        "send_ms": _describe(load.sent_seconds),
        "page_ms": _describe(load.page_seconds),
        "page_failures": load.page_failures,
        "cpu_percent": round(100 * cpu / (60 * minutes), 1),
        "process": summary,
        "load_average": os.getloadavg(),
    }


def _describe(seconds: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum in milliseconds."""
    return {
        "median": round(1000 * median(seconds), 1),
        "p99": round(1000 * quantiles(seconds, n=100, method="inclusive")[-1], 1),
        "max": round(1000 * max(seconds), 1),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    process = result["process"]
    table = Table("what", "value", title=f"{result['minutes']:g} minutes at the size limit of {result['max_size']}")
    memory = f"{process['settled_mb']} · {process['last_mb']} · {process['highest_mb']}"
    for name, value in {
        "memory, MB: settled · last · highest": memory,
        "memory, MB per hour": f"{process['mb_per_hour']:+} ± {process['error_mb_per_hour']}",
        "open files: first · last · most": " · ".join(
            str(process[f"files_{name}"]) for name in ("first", "last", "max")
        ),
        "file, MB: half-way · last": f"{result['file_mb']['half']} · {result['file_mb']['last']}",
        "acknowledged records": f"{sum(result['acknowledged'].values()):,}",
        "deleted records": f"{sum(result['deleted'].values()):,}",
        "refused · lost": f"{result['refused']:,} · {result['lost']:,}",
        "acknowledgement, ms: median · p99 · max": " · ".join(map(str, result["send_ms"].values())),
        "page, ms: median · p99 · max": " · ".join(map(str, result["page_ms"].values())),
        "pages that failed": ", ".join(result["page_failures"]) or "none",
        "processor time of the hub": f"{result['cpu_percent']} % of a core",
    }.items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="duration of the load (default: 20)")
    parser.add_argument(
        "--arriving", type=int, default=2_000, help="spans, and log records, per second (default: 2,000)"
    )
    parser.add_argument("--max-size", default="64MB", help="size limit of the hub (default: 64MB)")
    arguments = parser.parse_args()
    if arguments.minutes < MIN_MINUTES:
        parser.error(f"a trend needs at least {MIN_MINUTES:g} minutes")
    result = run(arguments.minutes, per_second=arguments.arriving, max_size=arguments.max_size)
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
