"""What agents and gateways of the Collector carry, and what is lost while a gateway is stopped, killed or unavailable.

Simulated services send traces of four spans to two agents. Each trace has spans of two services, which use different
agents, so both agents must choose the same gateway. The agents send to two gateways, which keep only traces with an
error (tail sampling) and forward them to a backend that records every span.

1. Throughput: 1, 4 and 16 services send as fast as the agents acknowledge. `spans_per_gateway_core_second` divides all
   spans by the CPU time of the gateways, so other load on the machine does not change it.
2. Outages: four services send at a fixed rate. An agent is killed, or a gateway is stopped (TERM) or killed, and starts
   again. Each trace with an error must be complete and come from one gateway, and no other trace may arrive. `late`
   counts spans that arrived more than ten seconds after the time at which the decision was due.
3. Kafka between the tiers, if it is built (`./dev stack build --with kafka`): both gateways are stopped, and then the
   broker. The lag grows, and the time to catch up is measured.

A gateway that is stopped decides about the traces in its memory, and writes those that it keeps to its queue on disk. A
gateway that is killed loses the traces that wait for their decision. Agents connect to a gateway that is available
again at different times, so the decision must wait longer than they differ. Without sampling, nothing must be lost.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.kafka import kafka_is_built, run_kafka
from bench.span_sink import SpanSink, run_sinks
from bench.tiers import Tiers, build_tiers
from bench.trace_arrival import compare
from bench.trace_load import SPANS_PER_TRACE, send_traces

SERVICES = (1, 4, 16)
# Seconds until the sampling decision: while throughput is measured, and in outages, the default of otel/sampling.yaml.
SHORT_DECISION_WAIT, DECISION_WAIT = 3.0, 15.0
# Seconds: time without new spans after the last decision, after which nothing more is expected, and time limit.
QUIET_SECONDS, SETTLE_TIMEOUT = 5.0, 180.0
POLL_INTERVAL = 0.25
OUTAGE_SERVICES, OUTAGE_RATE = 4, 50.0


@contextmanager
def running_tiers(
    folder: Path, wait_seconds: float, *, sampling: bool, brokers: str = ""
) -> Iterator[tuple[Tiers, list[SpanSink]]]:
    """Run two agents and two gateways, each gateway with its own sink."""
    data = Path(tempfile.mkdtemp(dir=folder))
    with run_sinks(2) as (sinks, others):
        backends = [sink.grpc_endpoint for sink in sinks]
        tiers = build_tiers(data, backends, others, sampling=sampling, wait_seconds=wait_seconds, brokers=brokers)
        try:
            tiers.start()
            yield tiers, sinks
        finally:
            tiers.stop()
            shutil.rmtree(data, ignore_errors=True)


def wait_until_settled(tiers: Tiers, sinks: list[SpanSink], wait_seconds: float) -> None:
    """Wait until the queues of the agents are empty, all decisions are made, and no more spans arrive."""
    deadline = time.monotonic() + SETTLE_TIMEOUT
    before, queued, last_change = -1, time.monotonic(), time.monotonic()
    while (now := time.monotonic()) < deadline and now < max(queued + wait_seconds, last_change) + QUIET_SECONDS:
        if tiers.queue_size() or tiers.lag():
            queued = now
        if (received := sum(sink.received for sink in sinks)) != before:
            before, last_change = received, now
        time.sleep(POLL_INTERVAL)


def measure_throughput(folder: Path, services: int, seconds: float) -> dict[str, Any]:
    """Send as fast as the agents acknowledge, and divide the spans by the CPU time of each tier."""
    with running_tiers(folder, SHORT_DECISION_WAIT, sampling=True) as (tiers, sinks):
        before = [sum(c.cpu_seconds() for c in tier) for tier in (tiers.agents, tiers.gateways)]
        started = time.monotonic()
        sent = send_traces(services, [agent.http for agent in tiers.agents], seconds)
        elapsed, queue = time.monotonic() - started, tiers.queue_size()
        wait_until_settled(tiers, sinks, SHORT_DECISION_WAIT)
        after = [sum(c.cpu_seconds() for c in tier) for tier in (tiers.agents, tiers.gateways)]
        early = sum(
            g.metric("otelcol_processor_tail_sampling_sampling_trace_dropped_too_early_total") for g in tiers.gateways
        )
    spans = SPANS_PER_TRACE * len(sent.traces)
    agent_cpu, gateway_cpu = (end - start for start, end in zip(before, after, strict=True))
    return {
        "services": services,
        "spans": spans,
        "spans_per_second": round(spans / elapsed),
        "spans_per_agent_core_second": round(spans / agent_cpu),
        "spans_per_gateway_core_second": round(spans / gateway_cpu),
        "queue_at_the_end": round(queue),
        "dropped_without_a_decision": round(early),
        **compare(sent, sinks, sampling=True, wait_seconds=SHORT_DECISION_WAIT).to_json(),
    }


class Watch:
    """Records the largest queue and lag while it runs."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers
        self._stop = threading.Event()
        self.queue = self.lag = 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(POLL_INTERVAL):
            self.queue = max(self.queue, self._tiers.queue_size())
            self.lag = max(self.lag, self._tiers.lag())

    def stop(self) -> None:
        """Stop to record."""
        self._stop.set()
        self._thread.join()


def measure_outage(
    folder: Path,
    label: str,
    seconds: float,
    outage: Callable[[Tiers, float], None],
    *,
    sampling: bool = True,
    brokers: str = "",
) -> dict[str, Any]:
    """Send at a fixed rate. After a third of the time, `outage` begins and ends within the second third."""
    with running_tiers(folder, DECISION_WAIT, sampling=sampling, brokers=brokers) as (tiers, sinks):
        watch, ends = Watch(tiers), [0.0]

        def interfere() -> None:
            time.sleep(seconds / 3)
            outage(tiers, seconds / 3)
            ended = time.monotonic()
            while (tiers.queue_size() or tiers.lag()) and time.monotonic() - ended < SETTLE_TIMEOUT:
                time.sleep(POLL_INTERVAL)
            ends[0] = time.monotonic() - ended

        thread = threading.Thread(target=interfere)
        thread.start()
        sent = send_traces(OUTAGE_SERVICES, [agent.http for agent in tiers.agents], seconds, OUTAGE_RATE)
        thread.join()
        wait_until_settled(tiers, sinks, DECISION_WAIT if sampling else 0.0)
        watch.stop()
    arrival = compare(sent, sinks, sampling=sampling, wait_seconds=DECISION_WAIT)
    return {
        "outage": label,
        "sampling": sampling,
        "refused_requests": sent.refused,
        "largest_queue": round(watch.queue),
        "largest_lag": round(watch.lag),
        "catch_up_seconds": round(ends[0], 1),
        **arrival.to_json(),
    }


def interrupt_gateway(*, kill: bool) -> Callable[[Tiers, float], None]:
    """Return an outage of the second gateway."""

    def interrupt(tiers: Tiers, seconds: float) -> None:
        tiers.gateways[1].stop(kill=kill)
        time.sleep(seconds)
        tiers.gateways[1].start()

    return interrupt


def kill_agent(tiers: Tiers, seconds: float) -> None:
    """Kill the second agent, and start it later. Meanwhile its services get no acknowledgement, and send again."""
    tiers.agents[1].stop(kill=True)
    time.sleep(seconds)
    tiers.agents[1].start()


def interrupt_all_gateways(tiers: Tiers, seconds: float) -> None:
    """Stop both gateways for a time."""
    for gateway in tiers.gateways:
        gateway.stop()
    time.sleep(seconds)
    for gateway in tiers.gateways:
        gateway.start()


def run(
    *, seconds: float, services: tuple[int, ...] = SERVICES, kafka: bool | None = None, console: Console
) -> dict[str, Any]:
    """Run all steps."""
    throughput, outages = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in services:
            console.print(f"[dim]{number} services[/dim]")
            throughput.append(measure_throughput(folder, number, seconds))
        for label, outage, sampling in (
            ("an agent is killed", kill_agent, True),
            ("a gateway is stopped", interrupt_gateway(kill=False), True),
            ("a gateway is killed", interrupt_gateway(kill=True), True),
            ("a gateway is killed", interrupt_gateway(kill=True), False),
        ):
            console.print(f"[dim]{label}[/dim]")
            outages.append(measure_outage(folder, label, 3 * seconds, outage, sampling=sampling))
        if kafka_is_built() if kafka is None else kafka:
            with run_kafka(folder / "kafka") as broker:
                for label, interrupt in (
                    ("Kafka: both gateways are stopped", interrupt_all_gateways),
                    ("Kafka: the broker is killed", lambda _, seconds: broker.interrupt(seconds)),
                ):
                    console.print(f"[dim]{label}[/dim]")
                    outages.append(measure_outage(folder, label, 3 * seconds, interrupt, brokers=broker.address))
    return {
        # Of the step with the most spans, in which the share of CPU time without load is the smallest.
        "spans_per_gateway_core_second": max(throughput, key=lambda s: s["spans"])["spans_per_gateway_core_second"],
        "throughput": throughput,
        "outages": outages,
        "load_average": os.getloadavg(),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as two tables."""
    console = Console(width=max(Console().width, 140))
    for key, columns in (
        (
            "throughput",
            (
                "services",
                "spans",
                "spans_per_second",
                "spans_per_agent_core_second",
                "spans_per_gateway_core_second",
                "queue_at_the_end",
                "dropped_without_a_decision",
                "lost_spans",
                "unexpected",
                "divided",
            ),
        ),
        (
            "outages",
            (
                "outage",
                "sampling",
                "traces",
                "kept",
                "complete",
                "partial",
                "absent",
                "unexpected",
                "divided",
                "duplicates",
                "late",
                "largest_queue",
                "largest_lag",
                "catch_up_seconds",
                "refused_requests",
            ),
        ),
    ):
        table = Table(*(name.replace("_", " ") for name in columns))
        for line in result[key]:
            table.add_row(
                *(
                    f"{v:,}" if isinstance(v := line[name], int | float) and not isinstance(v, bool) else str(v)
                    for name in columns
                )
            )
        console.print(table)
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="seconds of load per step, a third of those of an outage (default: 10)",
    )
    arguments = parser.parse_args()
    print_as(run(seconds=arguments.seconds, console=Console(stderr=True)), print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
