"""How long the hub takes to answer its lists, filters and pages when it stores much telemetry and receives more.

A database file is filled with one day of telemetry (`bench/hub_queries.sql`), and a hub is started with it. While spans
arrive at a constant rate, each address is requested several times. `goals` has, for each group of addresses, the goal
and what was measured: the largest of the addresses' medians, or for lists the 95th percentile of all requests. `cpu_ms`
is the processor time that the hub used while it answered one request, receiving included; it depends less on other work
of the machine than `wall_ms`, the median time until the response. `receiving_cpu_percent` is the processor time of the
hub per time without requests. `ratio` is the processor time of a filter without a match divided by that of the
unfiltered list.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.hub import run_hub
from bench.ingest import ITEMS_PER_REQUEST, encode_spans
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.trace_summaries import summarize_all_traces

REPEATS = 5
BASELINE_SECONDS = 5
DAY_NS = 86400 * 10**9
UNFILTERED, NO_MATCH = "traces", "traces, attribute without a match"
LIST, FILTER, TRACE, MODELS, OTHER = "a list, p95", "any filter", "page of a trace", "models over 24 h", "other"
GOALS_MS = {FILTER: 500, LIST: 150, TRACE: 100, MODELS: 300}


class Address(NamedTuple):
    """A measured page or API call, and the group of its goal."""

    name: str
    path: str
    group: str


def fill(folder: Path, spans: int, until_ns: int) -> str:
    """Create the database of a hub and fill it. Return the ID of a trace in the middle of the day."""
    store = Store(folder / FILE_NAME)
    statements = resources.files("bench").joinpath("hub_queries.sql").read_text(encoding="utf-8").split(";\n")
    with store.write() as connection:
        for statement in statements:
            values = {
                name: value for name, value in (("spans", spans), ("until_ns", until_ns)) if f"${name}" in statement
            }
            connection.execute(statement, values)
        summarize_all_traces(connection)
    store.checkpoint()
    with store.read() as cursor:
        (trace_id,) = cursor.execute("SELECT md5(($1 // 10)::VARCHAR)", [spans]).fetchone() or ("",)
    store.close()
    return str(trace_id)


def addresses(trace_id: str, until_ns: int) -> list[Address]:
    """Return the measured addresses."""
    day_ago = (until_ns - 23 * 3600 * 10**9) // 10**9
    filters = {
        "traces, part of a name": "/api/traces?name=predict",
        "traces, one service": "/api/traces?service=ledger",
        "traces, with an error": "/api/traces?error=true",
        "traces, longer than 140 ms": "/api/traces?min_duration=140ms",
        "traces, a rare attribute": "/api/traces?attr.customer.id=c4711",
        "traces, part of a rare attribute": "/api/traces?filter=customer.id ~ c4711",
        "traces, a large number": "/api/traces?filter=rows > 100",
        "traces, name without a match": "/api/traces?name=nosuchname",
        NO_MATCH: "/api/traces?attr.customer.id=nosuchcustomer",
        "traces, duration without a match": "/api/traces?min_duration=1h",
        "log records, one service": "/api/logs?service=ledger",
        "log records, errors": "/api/logs?severity=error",
        "log records, part of the text": "/api/logs?q=finished",
        "log records, text without a match": "/api/logs?q=nosuchtext",
        "log records, attribute without a match": "/api/logs?attr.logger=nosuchlogger",
        "predictions, a label": "/api/predictions?label=yes",
        "predictions, label without a match": "/api/predictions?label=nosuchlabel",
        "predictions, an input without a match": "/api/predictions?filter=input.age > 1000",
    }
    lists = {
        UNFILTERED: "/api/traces",
        "traces, oldest page": f"/api/traces?until={day_ago}",
        "log records": "/api/logs",
        "predictions": "/api/predictions",
        "page /traces": "/traces",
    }
    others = {
        "page of a trace": (f"/t/{trace_id}", TRACE),
        "trace by ID": (f"/api/traces/{trace_id}", TRACE),
        "models, 24 h": ("/api/models/churn?window=24h", MODELS),
        "page /models, 24 h": ("/models?since=24h", MODELS),
        "models, 1 h": ("/api/models/churn?window=1h", OTHER),
        "page /logs": ("/logs", OTHER),
        "names of the filter line": ("/api/completions?list=traces", OTHER),
        "statistics": ("/api/stats", OTHER),
        "page /": ("/", OTHER),
    }
    return [
        *(Address(name, path, LIST) for name, path in lists.items()),
        *(Address(name, path, FILTER) for name, path in filters.items()),
        *(Address(name, path, group) for name, (path, group) in others.items()),
    ]


@contextmanager
def arriving_spans(url: str, per_second: int) -> Iterator[None]:
    """Send spans at a constant rate until the block ends."""
    stopped = threading.Event()

    def send() -> None:
        interval, due = ITEMS_PER_REQUEST / per_second, time.monotonic()
        with httpx.Client(timeout=60) as client:
            while not stopped.wait(max(0.0, due - time.monotonic())):
                body, _ = encode_spans(1)
                client.post(f"{url}/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"})
                due += interval

    sender = threading.Thread(target=send, daemon=True)
    if per_second:
        sender.start()
    try:
        yield
    finally:
        stopped.set()
        if per_second:
            sender.join()


def cpu_seconds(hub: psutil.Process) -> float:
    """Return the processor time that the hub has used."""
    return sum(hub.cpu_times()[:2])


def measure(client: httpx.Client, hub: psutil.Process, address: Address) -> dict[str, Any]:
    """Request an address several times."""
    walls, cpus, statuses = [], [], set()
    for _ in range(REPEATS):
        cpu, start = cpu_seconds(hub), time.perf_counter()
        statuses.add(client.get(address.path).status_code)
        walls.append(1000 * (time.perf_counter() - start))
        cpus.append(1000 * (cpu_seconds(hub) - cpu))
    return {
        "group": address.group,
        "cpu_ms": round(sum(cpus) / REPEATS, 1),
        "wall_ms": round(median(walls), 1),
        "walls_ms": [round(wall, 1) for wall in walls],
        "statuses": sorted(statuses),
    }


def compare_with_goals(requests: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the goal of each group, and the measured times."""
    goals = {}
    for group, goal in GOALS_MS.items():
        results = {name: result for name, result in requests.items() if result["group"] == group}
        slowest = max(results, key=lambda name: results[name]["wall_ms"])
        walls = [wall for result in results.values() for wall in result["walls_ms"]]
        wall = quantiles(walls, n=20)[-1] if group == LIST else results[slowest]["wall_ms"]
        goals[group] = {
            "goal_ms": goal,
            "wall_ms": round(wall, 1),
            "cpu_ms": max(result["cpu_ms"] for result in results.values()),
            "slowest": slowest,
            "reached": wall <= goal and all(result["statuses"] == [200] for result in results.values()),
        }
    return goals


def run(spans: int, per_second: int) -> dict[str, Any]:
    """Fill a database, start a hub with it and measure all addresses while spans arrive."""
    until_ns = time.time_ns()
    with tempfile.TemporaryDirectory() as folder:
        trace_id = fill(Path(folder), spans, until_ns)
        size = (Path(folder) / FILE_NAME).stat().st_size
        with run_hub(Path(folder)) as urls, httpx.Client(base_url=urls.api, timeout=60) as client:
            hub = next(child for child in psutil.Process().children() if "modeltrace_hub" in child.cmdline())
            with arriving_spans(urls.http, per_second):
                before = cpu_seconds(hub)
                time.sleep(BASELINE_SECONDS)
                receiving = (cpu_seconds(hub) - before) / BASELINE_SECONDS
                requests = {item.name: measure(client, hub, item) for item in addresses(trace_id, until_ns)}
    return {
        "ratio": round(requests[NO_MATCH]["cpu_ms"] / max(requests[UNFILTERED]["cpu_ms"], 1.0), 2),
        "slowest_ms": max(result["wall_ms"] for result in requests.values()),
        "goals": compare_with_goals(requests),
        "spans": spans,
        "arriving_per_second": per_second,
        "receiving_cpu_percent": round(100 * receiving, 1),
        "file_bytes": size,
        "requests": requests,
        "load_average": os.getloadavg(),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the goals, and the times of each request, as tables."""
    console = Console()
    goals = Table(title="Goals")
    for name in ("group", "goal ms", "wall ms", "CPU ms", "slowest", "reached"):
        goals.add_column(name, justify="right" if "ms" in name else "left")
    for name, values in result["goals"].items():
        times = f"{values['goal_ms']}", f"{values['wall_ms']:.1f}", f"{values['cpu_ms']:.1f}"
        goals.add_row(name, *times, values["slowest"], "yes" if values["reached"] else "no")
    console.print(goals)
    arriving = f"{result['arriving_per_second']:,} spans/s arriving ({result['receiving_cpu_percent']:.0f} % of a core)"
    table = Table(title=f"{result['spans']:,} spans, {result['file_bytes'] / 2**20:.0f} MiB; {arriving}")
    for name in ("request", "CPU ms", "wall ms", "status"):
        table.add_column(name, justify="left" if name == "request" else "right")
    for name, values in result["requests"].items():
        statuses = ", ".join(map(str, values["statuses"]))
        table.add_row(name, f"{values['cpu_ms']:.1f}", f"{values['wall_ms']:.1f}", statuses)
    console.print(table)
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000, help="stored spans (default: 1,000,000)")
    parser.add_argument("--arriving", type=int, default=2_000, help="spans that arrive per second (default: 2,000)")
    arguments = parser.parse_args()
    print_as(run(arguments.spans, arguments.arriving), print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
