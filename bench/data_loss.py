"""Whether all telemetry of answered predictions arrives at rising rates, and at which rate the service starts to drop.

A real hub, and a real Collector if it is built, receive and count everything. The load rises from single predictions to
ever larger batches over 16 connections. After each step the bench waits until nothing more arrives, stops the service,
and compares answered rows with received prediction log records, and requests with spans. Missing items must equal the
losses that the service reports when it stops. `max_lossless_rate` is the highest rate, in rows/s, without any loss.

Two more steps force losses: the sidecar is paused for a while, and a service with a small spool sends to an endpoint
where nothing listens. Received, dropped and spooled items must add up to the answered predictions.
"""

import os
import signal
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.example import Example, prepare_example
from bench.load import encode_post, run_load
from bench.null_receivers import NullReceiver, collector, hub, unreachable
from bench.processes import CoreAssignment
from bench.receiver import collector_path
from bench.subject import Subject, read_undelivered, run_subject

BATCHING = {"MODELTRACE_BATCHING": "true"}
ROWS = (1, 10, 30, 100, 1000)
SPANS_PER_REQUEST = 4
# Seconds between two polls, without new items until the receiver counts as settled, and until the wait is given up.
POLL_INTERVAL, QUIET_SECONDS, SETTLE_TIMEOUT = 0.5, 2.0, 90.0
PROCESSED_METRICS = {
    "otel_sdk_processor_span_processed_total": "spans",
    "otel_sdk_processor_log_processed_total": "log records",
}
COUNT_KEYS = ("lost", "spooled", "queue_full")
SMALL_SPOOL_BYTES = 2**20


@dataclass(frozen=True)
class Step:
    """One step: its load, its answers and the telemetry that arrived."""

    label: str
    receiver: str
    seconds: float
    requests: int
    rows: int
    failed: int
    received: Counter[str]
    lost: Counter[str]
    spooled: Counter[str]
    arrival_delay: float  # seconds from the end of the load until the last item arrived
    queue_full: Counter[str] = field(
        default_factory=Counter
    )  # items dropped because the export queue was full, from the service's metrics
    fixed_span_count: bool = True  # whether every request has the same number of spans

    @property
    def missing_records(self) -> int:
        """The number of prediction log records that did not arrive."""
        return self.rows - self.received["prediction log records"]

    @property
    def missing_spans(self) -> int | None:
        """The number of spans that did not arrive, or `None` if the expected number is unknown."""
        return SPANS_PER_REQUEST * self.requests - self.received["spans"] if self.fixed_span_count else None

    @property
    def reported_spans(self) -> int:
        """The number of spans that the service reports as lost or spooled."""
        return SPANS_PER_REQUEST * self.lost["requests"] + self.lost["spans"] + self.spooled["spans"]

    @property
    def accounted(self) -> bool:
        """Whether the missing items equal the losses that the service reports.

        The sidecar counts prediction log records that it could not deliver as log records, together with access logs.
        """
        undelivered = self.lost["log records"] + self.spooled["log records"]
        unexplained = self.missing_records - self.lost["prediction log records"]
        records_match = unexplained <= undelivered if undelivered else unexplained == 0
        return records_match and self.missing_spans in (None, self.reported_spans)


class DataLossBench:
    """Runs the steps, each with a new service and a new receiver."""

    def __init__(self, model: Example, folder: Path, pins: tuple[int | None, int | None], seconds: float) -> None:
        self._model = model
        self._folder = folder
        self._core, self._other_core = pins
        self._seconds = seconds

    def run_step(
        self,
        label: str,
        start_receiver: Callable[[Path, int | None], AbstractContextManager[NullReceiver]],
        env: dict[str, str],
        *,
        rows: int = 1,
        connections: int = 16,
        while_loading: Callable[[Subject], None] = lambda _: None,
    ) -> Step:
        """Load a new service that sends to a new receiver. `while_loading` runs concurrently with the load."""
        output = Path(tempfile.mkdtemp(dir=self._folder), "output")
        with start_receiver(self._folder, self._other_core) as receiver:
            # Separate files, so that items spooled by another step do not arrive here.
            isolated = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "MODELTRACE_SPOOL_DIR": str(output.parent / "spool"),
                "MODELTRACE_STORE": str(output.parent / "predictions.db"),
            }
            with run_subject(
                self._model.bundle, {**isolated, **env}, core=self._core, other_core=self._other_core, output=output
            ) as service:
                thread = threading.Thread(target=while_loading, args=(service,))
                thread.start()
                measured = run_load(
                    service.port, self._build_requests(rows), connections=connections, seconds=self._seconds
                )
                thread.join()
                arrival_delay = wait_until_settled(receiver.count_received)
                dropped = read_queue_full(service.url)
            wait_until_settled(receiver.count_received)
        answered = measured.requests - measured.failed
        undelivered = read_undelivered(output)
        return Step(
            label, receiver.name, measured.seconds, answered, answered * rows, measured.failed, receiver.received,
            undelivered.lost, undelivered.spooled, arrival_delay, dropped,
            fixed_span_count="MODELTRACE_BATCHING" not in env,
        )  # fmt: skip

    def _build_requests(self, rows: int) -> list[bytes]:
        all_rows = self._model.rows
        if rows == 1:
            return [encode_post("/predict", orjson.dumps({"features": row})) for row in all_rows]
        batch = [all_rows[number % len(all_rows)] for number in range(rows)]
        return [encode_post("/predict/batch", orjson.dumps({"rows": batch}))]


def read_queue_full(url: str) -> Counter[str]:
    """Read from `otel.sdk.processor.*.processed` how many items were dropped because the export queue was full."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:  # noqa: S310  loopback
        families = text_string_to_metric_families(response.read().decode())
    dropped: Counter[str] = Counter()
    for sample in (sample for family in families for sample in family.samples):
        if sample.name in PROCESSED_METRICS and sample.labels.get("error_type") == "queue_full":
            dropped[PROCESSED_METRICS[sample.name]] += int(sample.value)
    return dropped


def wait_until_settled(count_received: Callable[[], int]) -> float:
    """Wait until no new items arrive. Return the seconds until the last item arrived."""
    start = last_change = time.monotonic()
    before = count_received()
    while time.monotonic() - last_change < QUIET_SECONDS and time.monotonic() - start < SETTLE_TIMEOUT:
        time.sleep(POLL_INTERVAL)
        if (now := count_received()) != before:
            before, last_change = now, time.monotonic()
    return last_change - start


def halt_sidecar(seconds: float) -> Callable[[Subject], None]:
    """Return a function that pauses the sidecar of a service for `seconds`."""

    def pause(service: Subject) -> None:
        (sidecar,) = service.sidecars()
        os.kill(sidecar.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(sidecar.pid, signal.SIGCONT)

    return pause


def run(*, seconds: float, console: Console) -> dict[str, Any]:
    """Run all steps."""
    pins = CoreAssignment.assign()
    receivers = [hub, collector] if collector_path().exists() else [hub]
    ramp_steps: list[Step] = []
    forced_steps: list[Step] = []
    with tempfile.TemporaryDirectory() as name:
        bench = DataLossBench(prepare_example(Path(name)), Path(name), (pins.service, pins.other), seconds)
        for receiver in receivers:
            for rows in ROWS:
                console.print(f"[dim]{receiver.__name__}, {rows} rows per request[/dim]")
                ramp_steps.append(bench.run_step(f"{rows:,}", receiver, {}, rows=rows))
            console.print(f"[dim]{receiver.__name__}, batching[/dim]")
            ramp_steps.append(bench.run_step("1, batching", receiver, BATCHING, connections=64))
        console.print("[dim]sidecar paused[/dim]")
        forced_steps.append(
            bench.run_step("100, sidecar paused", receivers[-1], {}, rows=100, while_loading=halt_sidecar(seconds))
        )
        console.print("[dim]unreachable endpoint[/dim]")
        forced_steps.append(
            bench.run_step("1, small spool", unreachable, {"MODELTRACE_SPOOL_MAX_BYTES": str(SMALL_SPOOL_BYTES)})
        )
    return {**summarise(ramp_steps, forced_steps), "load_average": os.getloadavg()}


def summarise(ramp_steps: list[Step], forced_steps: list[Step]) -> dict[str, Any]:
    """Return the highest rate without a loss and the lowest rate with one for each receiver, and all steps."""
    result: dict[str, Any] = {"max_lossless_rate": {}, "min_lossy_rate": {}}
    for receiver in dict.fromkeys(step.receiver for step in ramp_steps):
        rates = {True: [0.0], False: []}
        for step in ramp_steps:
            if step.receiver == receiver:
                rates[not step.missing_records and not step.missing_spans].append(step.rows / step.seconds)
        result["max_lossless_rate"][receiver] = round(max(rates[True]))
        result["min_lossy_rate"][receiver] = round(min(rates[False])) if rates[False] else None
    result["accounted"] = all(step.accounted for step in (*ramp_steps, *forced_steps))
    result["steps"] = [_to_json(step) for step in (*ramp_steps, *forced_steps)]
    return result


def _to_json(step: Step) -> dict[str, Any]:
    return {
        "rows_per_request": step.label,
        "receiver": step.receiver,
        "requests_per_second": round(step.requests / step.seconds),
        "rows_per_second": round(step.rows / step.seconds),
        "answered": step.rows,
        "failed": step.failed,
        "prediction_log_records_missing": step.missing_records,
        "spans_missing": step.missing_spans,
        "lost": dict(step.lost),
        "queue_full": dict(step.queue_full),
        "spooled": dict(step.spooled),
        "accounted": step.accounted,
        "arrival_delay_seconds": round(step.arrival_delay, 1),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console(width=max(Console().width, 130))
    table = Table(
        *("rows per\nrequest", "receiver", "requests/s", "rows/s", "answered"),
        *("log records\nmissing", "spans\nmissing", "at shutdown:\nlost", "at shutdown:\nspooled"),
        *("metrics:\nqueue_full", "adds up", "arrival\ndelay, s"),
    )
    for line in result["steps"]:
        counts = ["\n".join(f"{number:,} {kind}" for kind, number in line[key].items()) for key in COUNT_KEYS]
        spans = "" if line["spans_missing"] is None else f"{line['spans_missing']:,}"
        rates = (f"{line[key]:,}" for key in ("requests_per_second", "rows_per_second", "answered"))
        accounted = "yes" if line["accounted"] else "[red]no[/red]"
        missing = f"{line['prediction_log_records_missing']:,}"
        table.add_row(
            *(line["rows_per_request"], line["receiver"], *rates, missing, spans, *counts),
            *(accounted, f"{line['arrival_delay_seconds']}"),
        )
    console.print(table)
    for receiver, rate in result["max_lossless_rate"].items():
        lossy_rate = result["min_lossy_rate"][receiver]
        losses = f"losses from {lossy_rate:,} rows/s" if lossy_rate else "no losses at any rate"
        console.print(f"{receiver}: {rate:,} rows/s without loss; {losses}")
    console.print(f"{format_load_average(result)}")


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of load per step (default: 5)")
    arguments = parser.parse_args()
    result = run(seconds=arguments.seconds, console=Console(stderr=True))
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
