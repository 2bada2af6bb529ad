"""The hub beside other local trace stores, on the same load: Jaeger with its embedded database Badger.

Four services send the same number of traces (four spans each, a tenth with an error) over OTLP/HTTP to a server on one
core, as fast as it acknowledges them. Then, some of the traces are requested by ID: `complete_percent` is the share of
them that have all spans. `cpu_ms_per_1000_spans`, `memory_mb` and `disk_mb` are those of the server after the load. The
other rows are the median time until the response to a query. Jaeger returns whole traces in lists, and the hub one
row for each trace. `ratio` is the processor time of the hub for a span, divided by that of Jaeger.

Jaeger is measured if it is built (`./dev stack build`). otel-desktop-viewer is not measured, because its Go module is
not available from the Go module proxy, which builds of this repository use.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import orjson
import platformdirs
import psutil
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.hub import run_hub
from bench.processes import CoreAssignment, cpu_seconds, free_port, process_tree, run_process
from bench.trace_load import SPANS_PER_TRACE, TRACES_PER_ERROR, TRACES_PER_REQUEST, encode_caller, encode_model
from stack.cache import Cache
from stack.components import read_components

CONFIG = Path(__file__).with_name("hub_peers.yaml")
SERVICES = 4
SAMPLED = 100
REPEATS = 7
QUIET_SECONDS = 2.0
NOT_MEASURED = {
    "otel-desktop-viewer": "its Go module is not available from the Go module proxy",
}
TRACE_BY_ID, NO_MATCH = "trace by ID", "without a match"
HEADERS = {"content-type": "application/x-protobuf"}


@dataclass(frozen=True)
class Peer:
    """A running server: where it receives, where it stores, and how it is queried.

    `paths` has the path of each query by name; `{trace_id}` is replaced. `count_spans` returns the number of spans in
    the response to a trace by ID. Lists have their traces in the key `list_key`.
    """

    name: str
    otlp: str
    api: str
    folder: Path
    pid: int
    paths: dict[str, str]
    count_spans: Callable[[dict[str, Any]], int]
    list_key: str


@contextmanager
def run_hub_peer(folder: Path, core: int | None) -> Iterator[Peer]:
    """Run a hub with its database in a folder."""
    with run_hub(folder, core) as urls:
        hub = next(child for child in psutil.Process().children() if "modeltrace_hub" in child.cmdline())
        paths = {
            TRACE_BY_ID: "/api/traces/{trace_id}",
            "newest of a service": "/api/traces?service=model-0&limit=20",
            "with an error": "/api/traces?service=model-0&error=true&limit=20",
            NO_MATCH: "/api/traces?service=model-0&attr.bench.attribute.0=nosuchvalue&limit=20",
        }
        yield Peer("hub", urls.http, urls.api, folder, hub.pid, paths, lambda trace: len(trace["spans"]), "traces")


@contextmanager
def run_jaeger(folder: Path, core: int | None) -> Iterator[Peer]:
    """Run Jaeger with Badger in a folder."""
    otlp, query, query_grpc, health = (free_port() for _ in range(4))
    environment = {
        "BENCH_OTLP_PORT": str(otlp),
        "BENCH_QUERY_PORT": str(query),
        "BENCH_QUERY_GRPC_PORT": str(query_grpc),
        "BENCH_HEALTH_PORT": str(health),
        "BENCH_DATA": str(folder),
        "OTEL_TRACES_SAMPLER": "always_off",
    }
    # Without a range of time, Jaeger searches the last two days.
    search = "/api/traces?service=model-0&limit=20"
    paths = {
        TRACE_BY_ID: "/api/traces/{trace_id}",
        "newest of a service": search,
        "with an error": f"{search}&tags=%7B%22error%22%3A%22true%22%7D",
        NO_MATCH: f"{search}&tags=%7B%22bench.attribute.0%22%3A%22nosuchvalue%22%7D",
    }
    command = [str(jaeger_path()), f"--config={CONFIG}"]
    with run_process(command, ready_url=f"http://127.0.0.1:{health}/status", env=environment, core=core) as process:
        yield Peer(
            "Jaeger with Badger",
            f"http://127.0.0.1:{otlp}",
            f"http://127.0.0.1:{query}",
            folder,
            process.pid,
            paths,
            _count_jaeger_spans,
            "data",
        )


def _count_jaeger_spans(answer: dict[str, Any]) -> int:
    return sum(len(trace["spans"]) for trace in answer.get("data") or ())


def jaeger_path() -> Path:
    """Return the path of Jaeger, which exists only if it is built."""
    component = read_components().components["jaeger"]
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack").folder("jaeger", component) / "jaeger"


def send(otlp: str, traces_per_service: int) -> list[bytes]:
    """Send traces from all services at the same time, and return the IDs of the acknowledged ones.

    Raises:
        RuntimeError: the server rejected a request.
    """
    acknowledged: list[bytes] = []
    problems: list[str] = []

    def run(service: int) -> None:
        with httpx.Client(timeout=60, headers=HEADERS) as client:
            for _ in range(traces_per_service // TRACES_PER_REQUEST):
                traces = [os.urandom(16) for _ in range(TRACES_PER_REQUEST)]
                failed = set(traces[::TRACES_PER_ERROR])
                for body in (encode_caller(service, traces), encode_model(service, traces, failed)):
                    response = client.post(f"{otlp}/v1/traces", content=body)
                    if not response.is_success:
                        problems.append(f"{response.status_code} {response.text[:200]}")
                        return
                acknowledged.extend(traces)

    threads = [threading.Thread(target=run, args=(service,)) for service in range(SERVICES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise RuntimeError(f"{otlp} rejected a request: {problems[0]}")
    return acknowledged


def measure(peer: Peer, traces_per_service: int) -> dict[str, Any]:
    """Send the load to a server, and measure it."""
    processes = process_tree(peer.pid)
    before, start = cpu_seconds(processes), time.perf_counter()
    traces = send(peer.otlp, traces_per_service)
    seconds = time.perf_counter() - start
    spans = SPANS_PER_TRACE * len(traces)
    time.sleep(QUIET_SECONDS)  # what is written after the acknowledgement belongs to the load, too
    cpu = cpu_seconds(processes) - before
    memory = sum(process.memory_info().rss for process in processes)
    with httpx.Client(base_url=peer.api, timeout=60) as client:
        sample = [trace.hex() for trace in traces[:: max(len(traces) // SAMPLED, 1)]]
        complete = sum(_count(client, peer, trace_id) == SPANS_PER_TRACE for trace_id in sample)
        for name, path in peer.paths.items():
            _check_list(client, peer, name, path)
        queries = {name: _median_ms(client, path, sample) for name, path in peer.paths.items()}
    return {
        "spans": spans,
        "spans_per_second": round(spans / seconds),
        "complete_percent": round(100 * complete / len(sample), 1),
        "cpu_ms_per_1000_spans": round(1e6 * cpu / spans, 2),
        "memory_mb": round(memory / 1e6, 1),
        "disk_mb": round(sum(path.stat().st_blocks for path in peer.folder.rglob("*")) * 512 / 1e6, 1),
        "query_ms": queries,
    }


def _count(client: httpx.Client, peer: Peer, trace_id: str) -> int:
    """Return the number of spans of a trace that the server returns; 0 if it does not have the trace."""
    response = client.get(peer.paths[TRACE_BY_ID].format(trace_id=trace_id))
    if response.status_code == 404:
        return 0
    return peer.count_spans(orjson.loads(response.raise_for_status().content))


def _check_list(client: httpx.Client, peer: Peer, name: str, path: str) -> None:
    """Check that a query that has matches returns some, and another one none: both servers must do the same work.

    Raises:
        RuntimeError: the list is empty, or is not.
    """
    if name == TRACE_BY_ID:
        return
    found = len(orjson.loads(client.get(path).raise_for_status().content)[peer.list_key] or ())
    if (found == 0) != (name == NO_MATCH):
        raise RuntimeError(f"{peer.name} returned {found} traces for the query {name!r}.")


def _median_ms(client: httpx.Client, path: str, trace_ids: Sequence[str]) -> float:
    """Return the median time until the response to a query, each time with another trace ID."""
    times = []
    for trace_id in trace_ids[:REPEATS]:
        start = time.perf_counter()
        client.get(path.replace("{trace_id}", trace_id)).raise_for_status()
        times.append(1000 * (time.perf_counter() - start))
    return round(median(times), 1)


def run(traces_per_service: int) -> dict[str, Any]:
    """Measure each server, one after the other."""
    core = CoreAssignment.assign().service
    starters = {"hub": run_hub_peer, "Jaeger with Badger": run_jaeger}
    not_measured = dict(NOT_MEASURED)
    if not jaeger_path().exists():
        del starters["Jaeger with Badger"]
        not_measured["Jaeger with Badger"] = "it is not built: ./dev stack build"
    results = {}
    for name, start in starters.items():
        with tempfile.TemporaryDirectory() as folder, start(Path(folder), core) as peer:
            results[name] = measure(peer, traces_per_service)
    cpu = [result["cpu_ms_per_1000_spans"] for result in results.values()]
    return {
        "ratio": round(cpu[0] / cpu[1], 2) if len(cpu) > 1 and cpu[1] else None,
        "servers": results,
        "not_measured": not_measured,
        "load_average": os.getloadavg(),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print one column for each server."""
    console = Console()
    table = Table("", title="The hub and its peers, on the same load")
    rows: dict[str, list[str]] = {}
    for name, values in result["servers"].items():
        table.add_column(name, justify="right")
        figures = {key: value for key, value in values.items() if key != "query_ms"}
        for key, value in (figures | {f"{query}, ms": ms for query, ms in values["query_ms"].items()}).items():
            rows.setdefault(key, []).append(f"{value:,}")
    for key, cells in rows.items():
        table.add_row(key.replace("_", " "), *cells)
    console.print(table)
    for name, reason in result["not_measured"].items():
        console.print(f"{name} is not measured: {reason}.")
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--traces", type=int, default=12_500, help="traces of each of the four services (default: 12,500)"
    )
    arguments = parser.parse_args()
    if arguments.traces < TRACES_PER_REQUEST:
        parser.error(f"--traces: at least {TRACES_PER_REQUEST}, the traces of one request")
    print_as(run(arguments.traces), print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
