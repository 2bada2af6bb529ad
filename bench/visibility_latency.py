"""The time from the answer of a prediction until its trace, its log record and its exemplar are visible.

Single predictions are sent at random times, independent of the export intervals, to a service with default settings
except for `OTEL_METRIC_EXPORT_INTERVAL`. The baggage of each request pins it, so that it becomes the exemplar. After
the answer each API is polled until it returns the item: the hub every 10 ms; Jaeger, Loki (both by trace ID; the log
file if there is no Loki) and Prometheus (exemplars) every 20 ms. A latency therefore includes the wait for the export
(half a second for spans and log records, an interval for metrics), the transport and the query. `trace_latency_ms` is
the median of the hub for traces. The real stack is measured if it is built.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import platformdirs
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.example import Example, prepare_example
from bench.hub import run_hub
from bench.processes import free_port
from bench.subject import run_subject
from modeltrace.doctor.backends.backend import Backend
from modeltrace.doctor.backends.hub import HubBackend
from modeltrace.doctor.backends.stack import StackAddresses, StackBackend
from modeltrace.telemetry.names import BAGGAGE_PIN, EVENT_PREDICTION
from stack.cache import Cache
from stack.components import Ports, read_components
from stack.layout import Layout
from stack.run import Stack

SIGNALS = ("trace", "prediction log record", "exemplar")
# Seconds after which an item counts as missing.
TIMEOUT = 60.0
WARM_UP_PREDICTIONS = 20


@dataclass(frozen=True)
class Target:
    """A running backend: its OTLP endpoint, its query API and the seconds between two polls."""

    name: str
    endpoint: str
    connect: Callable[[httpx.AsyncClient], Backend]
    api_url: str
    poll_interval: float
    sources: tuple[str, str, str]  # the component that stores each of the signals


@contextmanager
def run_hub_target() -> Iterator[Target]:
    """Run a hub with its database on disk."""
    with tempfile.TemporaryDirectory() as folder, run_hub(Path(folder)) as urls:
        yield Target("hub", urls.http, HubBackend, urls.api, 0.01, ("hub", "hub", "hub"))


@contextmanager
def run_stack_target() -> Iterator[Target]:
    """Run Collector, Jaeger, Prometheus and, if it is built, Loki with the project's configuration on free ports."""
    table = read_components()
    ports = Ports(
        {name: {port: free_port() for port in component.ports} for name, component in table.components.items()}
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        layout = Layout(stack_cache().without_absent(table), ports, stack_cache(), Path(folder))
        stack = Stack(layout)
        stack.up()
        try:
            urls = {name: f"http://{layout.address(name, port)}" for name, port in _STACK_PORTS.items()}
            addresses = StackAddresses(
                urls["jaeger"], urls["loki"], urls["prometheus"], log_file=layout.log_record_file
            )
            yield Target(
                "real stack",
                urls["otelcol"],
                lambda client: StackBackend(client, addresses),
                "",
                0.02,
                ("Jaeger", "log file" if layout.log_record_file else "Loki", "Prometheus"),
            )
        finally:
            stack.down()


_STACK_PORTS = {"otelcol": "http", "jaeger": "query", "loki": "http", "prometheus": "http"}
TARGETS = {"hub": run_hub_target, "stack": run_stack_target}


def stack_cache() -> Cache:
    """Return the cache of built components."""
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def is_stack_built() -> bool:
    """Return whether all components of the real stack are built."""
    return not stack_cache().missing(stack_cache().without_absent(read_components()).components)


async def poll_until(
    is_visible: Callable[[], Awaitable[object]], *, poll_interval: float, start: float
) -> float | None:
    """Return the milliseconds from `start` (of `perf_counter`) until the item is visible, or `None` if it is not."""
    while time.perf_counter() - start < TIMEOUT:
        if await is_visible():
            return 1000 * (time.perf_counter() - start)
        await asyncio.sleep(poll_interval)
    return None


async def measure_prediction(
    service: httpx.AsyncClient, backend: Backend, row: dict[str, float], poll_interval: float
) -> list[float | None]:
    """Send one prediction. Return the latency of each signal in milliseconds, in the order of `SIGNALS`."""
    response = await service.post("/predict", json={"features": row}, headers={"baggage": f"{BAGGAGE_PIN}=1"})
    start = time.perf_counter()
    trace_id = response.raise_for_status().json()["trace_id"]

    async def has_log_record() -> bool:
        return any(log.event_name == EVENT_PREDICTION for log in await backend.log_records(trace_id))

    checks = (lambda: backend.span_names(trace_id), has_log_record, lambda: backend.exemplar_metrics(trace_id))
    return await asyncio.gather(*(poll_until(check, poll_interval=poll_interval, start=start) for check in checks))


@asynccontextmanager
async def open_clients(service: str, target: Target) -> AsyncIterator[tuple[httpx.AsyncClient, Backend]]:
    """Open an HTTP client of the service, and the client of the backend."""
    async with (
        httpx.AsyncClient(base_url=service, timeout=30) as service_client,
        httpx.AsyncClient(base_url=target.api_url, timeout=30) as backend_client,
    ):
        yield service_client, target.connect(backend_client)


async def measure_predictions(
    service: str, target: Target, model: Example, *, predictions: int, interval: float
) -> list[list[float | None]]:
    """Send `predictions` predictions, one at a time, and return their latencies."""
    async with open_clients(service, target) as (service_client, backend):
        await backend.check()
        for row in model.rows[:WARM_UP_PREDICTIONS]:
            (await service_client.post("/predict", json={"features": row})).raise_for_status()
        latencies = []
        for number in range(predictions):
            # The previous exemplar appeared right after an export. Without a random pause each would wait an interval.
            await asyncio.sleep(random.uniform(0, interval))  # noqa: S311  not used for security
            latencies.append(
                await measure_prediction(
                    service_client, backend, model.rows[number % len(model.rows)], target.poll_interval
                )
            )
        return latencies


def run(names: list[str], *, predictions: int, interval: float, console: Console) -> dict[str, Any]:
    """Measure the given backends, one after the other."""
    result = {}
    with tempfile.TemporaryDirectory() as name:
        model = prepare_example(Path(name))
        for number, backend in enumerate(names):
            console.print(f"[dim]{backend}: {predictions} predictions, one at a time[/dim]")
            with TARGETS[backend]() as target:
                env = {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": target.endpoint,
                    "OTEL_METRIC_EXPORT_INTERVAL": str(int(1000 * interval)),
                    "MODELTRACE_SPOOL_DIR": str(Path(name, f"spool-{number}")),
                    "MODELTRACE_STORE": str(Path(name, f"predictions-{number}.db")),
                }
                with run_subject(model.bundle, env) as service:
                    latencies = asyncio.run(
                        measure_predictions(service.url, target, model, predictions=predictions, interval=interval)
                    )
            result[backend] = summarise(target.sources, latencies)
    return {
        "trace_latency_ms": result["hub"]["trace"]["median_ms"] if "hub" in result else None,
        "predictions": predictions,
        "metric_interval_ms": int(1000 * interval),
        "load_average": os.getloadavg(),
        "backends": result,
    }


def summarise(sources: tuple[str, str, str], latencies: list[list[float | None]]) -> dict[str, Any]:
    """Return median, maximum and the number of missing items for each signal."""
    summary = {}
    for signal, source, times in zip(SIGNALS, sources, zip(*latencies, strict=True), strict=True):
        visible = [latency for latency in times if latency is not None]
        summary[signal] = {
            "source": source,
            "median_ms": round(median(visible), 1) if visible else None,
            "max_ms": round(max(visible), 1) if visible else None,
            "missing": len(times) - len(visible),
        }
    return summary


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console()
    table = Table("signal", "source", "median ms", "max ms", "missing")
    for signals in result["backends"].values():
        for signal, line in signals.items():
            table.add_row(signal, *(str(value) for value in line.values()))
    console.print(table)
    console.print(
        f"{result['predictions']} predictions each; settings: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_METRIC_EXPORT_INTERVAL="
        f"{result['metric_interval_ms']}; {format_load_average(result)}"
    )
    if "stack" not in result["backends"]:
        console.print("[yellow]not measured:[/yellow] the real stack (./dev stack build)")


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--predictions", type=int, default=15, help="predictions per backend (default: 15)")
    parser.add_argument("--metric-interval", type=float, default=5.0, help="seconds (default: 5, as `modeltrace up`)")
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="measure this backend only (repeatable)")
    arguments = parser.parse_args()
    names = [name for name in TARGETS if name in (arguments.only or TARGETS) and (name != "stack" or is_stack_built())]
    result = run(
        names, predictions=arguments.predictions, interval=arguments.metric_interval, console=Console(stderr=True)
    )
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
