"""How long it takes from the answer until a prediction can be seen: its trace, its audit record, its exemplar.

Single predictions, at times that no export interval knows, go to a service with its default settings but for
`OTEL_METRIC_EXPORT_INTERVAL`; each is pinned by its baggage, so that it becomes the exemplar. From the answer on each
API is asked again and again until the thing is there: the hub every 10 ms, Jaeger and Loki (by trace ID; the log file
where there is no Loki) and Prometheus (exemplars) every 20 ms. A time therefore holds the wait for the export, half a
second for spans and log records and an interval for metrics, the way there, and the question. `visible_ms` on top is
the hub's median for a trace. The real stack is measured where it is built.
"""

import argparse
import asyncio
import json
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

from bench.example import Example, prepare_example
from bench.processes import free_port, run_module
from bench.subject import run_subject
from modeltrace.doctor.backends.backend import Backend
from modeltrace.doctor.backends.hub import HubBackend
from modeltrace.doctor.backends.stack import StackAddresses, StackBackend
from modeltrace.telemetry.names import BAGGAGE_PIN, EVENT_PREDICTION
from stack.cache import Cache
from stack.components import Ports, read_components
from stack.layout import Layout
from stack.run import Stack

SIGNALS = ("trace", "audit record", "exemplar")
# Seconds after which something that is not there counts as missing.
TIMEOUT = 60.0
WARM_UP_PREDICTIONS = 20


@dataclass(frozen=True)
class Target:
    """A backend that runs: where OTLP goes, how it is asked, and how often."""

    name: str
    endpoint: str
    connect: Callable[[httpx.AsyncClient], Backend]
    api_url: str
    poll_interval: float
    sources: tuple[str, str, str]  # where each of the signals is found


@contextmanager
def run_hub() -> Iterator[Target]:
    """A hub with its database on disk."""
    page, http = free_port(), free_port()
    url = f"http://127.0.0.1:{page}"
    with tempfile.TemporaryDirectory() as folder:
        ports = ["--port", str(page), "--http-port", str(http), "--grpc-port", str(free_port())]
        with run_module(["modeltrace_hub", "--data", folder, *ports], ready_url=f"{url}/healthz"):
            yield Target("hub", f"http://127.0.0.1:{http}", HubBackend, url, 0.01, ("hub", "hub", "hub"))


@contextmanager
def run_stack() -> Iterator[Target]:
    """Collector, Jaeger, Prometheus and, where it is, Loki on free ports, with what the project configures."""
    table = read_components()
    ports = Ports({name: {port: free_port() for port in part.ports} for name, part in table.components.items()})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        layout = Layout(stack_cache().without_absent(table), ports, stack_cache(), Path(folder))
        stack = Stack(layout)
        stack.up()
        try:
            at = {part: f"http://{layout.address(part, port)}" for part, port in _STACK_PORTS.items()}
            addresses = StackAddresses(at["jaeger"], at["loki"], at["prometheus"], log_file=layout.log_record_file)
            yield Target(
                "real stack",
                at["otelcol"],
                lambda client: StackBackend(client, addresses),
                "",
                0.02,
                ("Jaeger", "log file" if layout.log_record_file else "Loki", "Prometheus"),
            )
        finally:
            stack.down()


_STACK_PORTS = {"otelcol": "http", "jaeger": "query", "loki": "http", "prometheus": "http"}
TARGETS = {"hub": run_hub, "stack": run_stack}


def stack_cache() -> Cache:
    """Where the built parts are."""
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def is_stack_built() -> bool:
    """Whether the real stack is."""
    return not stack_cache().missing(stack_cache().without_absent(read_components()).components)


async def poll_until(
    is_visible: Callable[[], Awaitable[object]], *, poll_interval: float, start: float
) -> float | None:
    """Milliseconds from `since` (by the monotonic clock) until it is there; `None` when it never came."""
    while time.perf_counter() - start < TIMEOUT:
        if await is_visible():
            return 1000 * (time.perf_counter() - start)
        await asyncio.sleep(poll_interval)
    return None


async def measure_prediction(
    service: httpx.AsyncClient, backend: Backend, row: dict[str, float], poll_interval: float
) -> list[float | None]:
    """One prediction: how long each signal took to be visible, in the order of `SIGNALS`."""
    answer = await service.post("/predict", json={"features": row}, headers={"baggage": f"{BAGGAGE_PIN}=1"})
    since = time.perf_counter()
    trace_id = answer.raise_for_status().json()["trace_id"]

    async def audited() -> bool:
        return any(log.event_name == EVENT_PREDICTION for log in await backend.log_records(trace_id))

    questions = (lambda: backend.span_names(trace_id), audited, lambda: backend.exemplar_metrics(trace_id))
    return await asyncio.gather(
        *(poll_until(question, poll_interval=poll_interval, start=since) for question in questions)
    )


@asynccontextmanager
async def open_clients(service: str, target: Target) -> AsyncIterator[tuple[httpx.AsyncClient, Backend]]:
    """Who asks the service, and who asks the backend."""
    async with (
        httpx.AsyncClient(base_url=service, timeout=30) as asks,
        httpx.AsyncClient(base_url=target.api_url, timeout=30) as looks,
    ):
        yield asks, target.connect(looks)


async def measure_predictions(
    service: str, target: Target, model: Example, *, predictions: int, interval: float
) -> list[list[float | None]]:
    """So many predictions, one at a time."""
    async with open_clients(service, target) as (asks, backend):
        await backend.check()
        for row in model.rows[:WARM_UP_PREDICTIONS]:
            (await asks.post("/predict", json={"features": row})).raise_for_status()
        found = []
        for number in range(predictions):
            # The last one was seen at an export: without a pause of its own each would wait a whole interval.
            await asyncio.sleep(random.uniform(0, interval))  # noqa: S311  no secret
            found.append(
                await measure_prediction(asks, backend, model.rows[number % len(model.rows)], target.poll_interval)
            )
        return found


def run(names: list[str], *, predictions: int, interval: float, console: Console) -> dict[str, Any]:
    """All backends, one after the other."""
    result = {}
    with tempfile.TemporaryDirectory() as name:
        model = prepare_example(Path(name))
        for number, chosen in enumerate(names):
            console.print(f"[dim]{chosen}: {predictions} predictions, one at a time[/dim]")
            with TARGETS[chosen]() as target:
                env = {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": target.endpoint,
                    "OTEL_METRIC_EXPORT_INTERVAL": str(int(1000 * interval)),
                    "MODELTRACE_SPOOL_DIR": str(Path(name, f"spool-{number}")),
                    "MODELTRACE_STORE": str(Path(name, f"predictions-{number}.db")),
                }
                with run_subject(model.bundle, env) as service:
                    seen = asyncio.run(
                        measure_predictions(service.url, target, model, predictions=predictions, interval=interval)
                    )
            result[chosen] = summarise(target.sources, seen)
    return {
        "visible_ms": result["hub"]["trace"]["median_ms"] if "hub" in result else None,
        "predictions": predictions,
        "metric_interval_ms": int(1000 * interval),
        "load_average": os.getloadavg(),
        "backends": result,
    }


def summarise(sources: tuple[str, str, str], latencies: list[list[float | None]]) -> dict[str, Any]:
    """Median and maximum a signal, and how often it never came."""
    found = {}
    for signal, place, times in zip(SIGNALS, sources, zip(*latencies, strict=True), strict=True):
        came = [one for one in times if one is not None]
        found[signal] = {
            "where": place,
            "median_ms": round(median(came), 1) if came else None,
            "max_ms": round(max(came), 1) if came else None,
            "missing": len(times) - len(came),
        }
    return found


def print_result(result: dict[str, Any]) -> None:
    """The result for people."""
    console = Console()
    table = Table("signal", "where", "median ms", "max ms", "never came")
    for signals in result["backends"].values():
        for signal, line in signals.items():
            table.add_row(signal, *(str(value) for value in line.values()))
    console.print(table)
    average = " ".join(f"{number:.1f}" for number in result["load_average"])
    console.print(
        f"{result['predictions']} predictions each; set: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_METRIC_EXPORT_INTERVAL="
        f"{result['metric_interval_ms']}; load average {average}"
    )
    if "stack" not in result["backends"]:
        console.print("[yellow]not measured:[/yellow] the real stack (./dev stack build)")


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--predictions", type=int, default=15, help="followed in each backend (default: 15)")
    parser.add_argument("--metric-interval", type=float, default=5.0, help="seconds (default: 5, as `modeltrace up`)")
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="a backend")
    arguments = parser.parse_args()
    names = [name for name in TARGETS if name in (arguments.only or TARGETS) and (name != "stack" or is_stack_built())]
    result = run(
        names, predictions=arguments.predictions, interval=arguments.metric_interval, console=Console(stderr=True)
    )
    print(json.dumps(result)) if arguments.json else print_result(result)


if __name__ == "__main__":
    main()
