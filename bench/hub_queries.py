"""How long the hub takes to answer its lists, filters and pages when it stores much telemetry.

A database file is filled with one day of telemetry (`bench/hub_queries.sql`), and a hub is started with it. Each
address is then requested several times. `cpu_ms` is the processor time that the hub used for one request, which depends
less on other work of the machine than `wall_ms`, the median time until the response. `slowest_ms` is the largest
`wall_ms`. `ratio` is the processor time of a filter without a match divided by that of the unfiltered list.
"""

import os
import tempfile
import time
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.hub import run_hub
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.trace_summaries import summarize_all_traces

REPEATS = 3
DAY_NS = 86400 * 10**9
UNFILTERED, NO_MATCH = "traces", "traces, attribute without a match"


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


def addresses(trace_id: str, until_ns: int) -> dict[str, str]:
    """Return the address of each measured page and API call by its description."""
    hour_ago = (until_ns - 3600 * 10**9) // 10**9
    return {
        UNFILTERED: "/api/traces",
        "traces, part of a name": "/api/traces?name=predict",
        "traces, one service": "/api/traces?service=ledger",
        "traces, with an error": "/api/traces?error=true",
        "traces, longer than 140 ms": "/api/traces?min_duration=140ms",
        "traces, a rare attribute": "/api/traces?attr.customer.id=c4711",
        "traces, name without a match": "/api/traces?name=nosuchname",
        NO_MATCH: "/api/traces?attr.customer.id=nosuchcustomer",
        "traces, duration without a match": "/api/traces?min_duration=1h",
        "traces, oldest page": f"/api/traces?until={hour_ago - 22 * 3600}",
        "log records": "/api/logs",
        "log records, one service": "/api/logs?service=ledger",
        "log records, errors": "/api/logs?severity=error",
        "log records, part of the text": "/api/logs?q=finished",
        "log records, text without a match": "/api/logs?q=nosuchtext",
        "log records, attribute without a match": "/api/logs?attr.logger=nosuchlogger",
        "predictions": "/api/predictions",
        "predictions, a label": "/api/predictions?label=yes",
        "predictions, label without a match": "/api/predictions?label=nosuchlabel",
        "models, 1 h": "/api/models?window=1h",
        "models, 24 h": "/api/models?window=24h",
        "statistics": "/api/stats",
        "page /": "/",
        "page /traces": "/traces",
        "page /models, 24 h": "/models?window=24h",
        "page of a trace": f"/t/{trace_id}",
        "trace by ID": f"/api/traces/{trace_id}",
    }


def measure(client: httpx.Client, hub: psutil.Process, path: str) -> dict[str, Any]:
    """Request an address several times."""
    walls, cpus, statuses = [], [], set()
    for _ in range(REPEATS):
        cpu, start = sum(hub.cpu_times()[:2]), time.perf_counter()
        statuses.add(client.get(path).status_code)
        walls.append(time.perf_counter() - start)
        cpus.append(sum(hub.cpu_times()[:2]) - cpu)
    return {
        "cpu_ms": round(1000 * sum(cpus) / REPEATS, 1),
        "wall_ms": round(1000 * median(walls), 1),
        "statuses": sorted(statuses),
    }


def run(spans: int) -> dict[str, Any]:
    """Fill a database, start a hub with it and measure all addresses."""
    until_ns = time.time_ns()
    with tempfile.TemporaryDirectory() as folder:
        trace_id = fill(Path(folder), spans, until_ns)
        size = (Path(folder) / FILE_NAME).stat().st_size
        with run_hub(Path(folder)) as urls, httpx.Client(base_url=urls.api, timeout=60) as client:
            hub = next(child for child in psutil.Process().children() if "modeltrace_hub" in child.cmdline())
            requests = {name: measure(client, hub, path) for name, path in addresses(trace_id, until_ns).items()}
    return {
        "ratio": round(requests[NO_MATCH]["cpu_ms"] / max(requests[UNFILTERED]["cpu_ms"], 1.0), 2),
        "slowest_ms": max(result["wall_ms"] for result in requests.values()),
        "spans": spans,
        "file_bytes": size,
        "requests": requests,
        "load_average": os.getloadavg(),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the times of each request as a table."""
    table = Table(title=f"{result['spans']:,} spans, {result['file_bytes'] / 2**20:.0f} MiB")
    for name in ("request", "CPU ms", "wall ms", "status"):
        table.add_column(name, justify="left" if name == "request" else "right")
    for name, values in result["requests"].items():
        statuses = ", ".join(map(str, values["statuses"]))
        table.add_row(name, f"{values['cpu_ms']:.1f}", f"{values['wall_ms']:.1f}", statuses)
    console = Console()
    console.print(table)
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000, help="stored spans (default: 1,000,000)")
    arguments = parser.parse_args()
    print_as(run(arguments.spans), print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
