"""What arrives of what was answered, at rising rates, and where dropping starts.

A real hub, and a real Collector where it is built, take everything and count it. The load rises from single predictions
to ever larger batches, 16 connections each; after each step everything is given time to arrive, the service is stopped,
and rows answered are compared with audit records arrived, requests with spans. What is missing must be what the service
says at its stop that it has dropped. `held` on top is the highest rate, in rows/s, at which nothing was missing, with
the hub and with the Collector.

Then it is made to drop: its exporter process is halted for a while, and a service with a small spool has an endpoint
where nobody listens. What arrived, what was dropped and what is kept on disk must add up to what was answered.
"""

import argparse
import json
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

from bench.example import Example, prepare_example
from bench.load import encode_post, run_load
from bench.null_receivers import NullReceiver, collector, hub, unreachable
from bench.processes import CoreAssignment
from bench.receiver import collector_path
from bench.subject import Subject, read_undelivered, run_subject

BATCHING = {"MODELTRACE_BATCHING": "true"}
ROWS = (1, 10, 30, 100, 1000)
SPANS_PER_REQUEST = 4
# Seconds: between two looks at what has arrived, without any change until it is all, and the most that is waited.
POLL_INTERVAL, QUIET_SECONDS, SETTLE_TIMEOUT = 0.5, 2.0, 90.0
PROCESSED_METRICS = {
    "otel_sdk_processor_span_processed_total": "spans",
    "otel_sdk_processor_log_processed_total": "log records",
}
COUNT_KEYS = ("lost", "kept_on_disk", "queue_full")
SMALL_SPOOL_BYTES = 2**20


@dataclass(frozen=True)
class Step:
    """What was done, what was answered, and what became of it."""

    label: str
    receiver: str
    seconds: float
    requests: int
    rows: int
    failed: int
    received: Counter[str]
    lost: Counter[str]
    spooled: Counter[str]
    arrival_delay: float  # seconds after the load until the last of it had arrived
    queue_full: Counter[str] = field(default_factory=Counter)  # what the service's own metrics say found no room
    fixed_span_count: bool = True  # whether each request makes the same number of spans

    @property
    def missing_records(self) -> int:
        """Audit records that did not arrive."""
        return self.rows - self.received["prediction log records"]

    @property
    def missing_spans(self) -> int | None:
        """Spans that did not arrive."""
        return SPANS_PER_REQUEST * self.requests - self.received["spans"] if self.fixed_span_count else None

    @property
    def reported_spans(self) -> int:
        """Spans that the service says are lost or on disk."""
        return SPANS_PER_REQUEST * self.lost["requests"] + self.lost["spans"] + self.spooled["spans"]

    @property
    def accounted(self) -> bool:
        """Whether what is missing is what the service has counted.

        Where deliveries lost something, audit records are counted as log records, together with access lines.
        """
        delivery = self.lost["log records"] + self.spooled["log records"]
        told = self.missing_records - self.lost["prediction log records"]
        records = told <= delivery if delivery else told == 0
        return records and self.missing_spans in (None, self.reported_spans)


class DataLossBench:
    """Runs steps against one kind of sink."""

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
        """Load a fresh service that sends to a fresh sink; `during` runs beside the load."""
        output = Path(tempfile.mkdtemp(dir=self._folder), "output")
        with start_receiver(self._folder, self._other_core) as sink:
            # What another step has left on disk must not arrive here.
            own = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
                "MODELTRACE_SPOOL_DIR": str(output.parent / "spool"),
                "MODELTRACE_STORE": str(output.parent / "predictions.db"),
            }
            with run_subject(
                self._model.bundle, {**own, **env}, core=self._core, other_core=self._other_core, output=output
            ) as service:
                beside = threading.Thread(target=while_loading, args=(service,))
                beside.start()
                measured = run_load(
                    service.port, self._build_requests(rows), connections=connections, seconds=self._seconds
                )
                beside.join()
                behind = wait_until_settled(sink.count_received)
                found_no_room = read_queue_full(service.url)
            wait_until_settled(sink.count_received)
        answered = measured.requests - measured.failed
        said = read_undelivered(output)
        return Step(
            label, sink.name, measured.seconds, answered, answered * rows, measured.failed, sink.received, said.lost,
            said.spooled, behind, found_no_room, fixed_span_count="MODELTRACE_BATCHING" not in env,
        )  # fmt: skip

    def _build_requests(self, rows: int) -> list[bytes]:
        known = self._model.rows
        if rows == 1:
            return [encode_post("/predict", orjson.dumps({"features": row})) for row in known]
        many = [known[number % len(known)] for number in range(rows)]
        return [encode_post("/predict/batch", orjson.dumps({"rows": many}))]


def read_queue_full(url: str) -> Counter[str]:
    """What found no room, by the service's own metrics: `otel.sdk.processor.*.processed{error.type="queue_full"}`."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310  loopback
        families = text_string_to_metric_families(answer.read().decode())
    found: Counter[str] = Counter()
    for sample in (sample for family in families for sample in family.samples):
        if sample.name in PROCESSED_METRICS and sample.labels.get("error_type") == "queue_full":
            found[PROCESSED_METRICS[sample.name]] += int(sample.value)
    return found


def wait_until_settled(count_received: Callable[[], int]) -> float:
    """Wait until nothing arrives any more; the seconds until the last of it had."""
    start = last = time.monotonic()
    before = count_received()
    while time.monotonic() - last < QUIET_SECONDS and time.monotonic() - start < SETTLE_TIMEOUT:
        time.sleep(POLL_INTERVAL)
        if (now := count_received()) != before:
            before, last = now, time.monotonic()
    return last - start


def halt_sidecar(seconds: float) -> Callable[[Subject], None]:
    """Stop the exporter process for so long."""

    def during(service: Subject) -> None:
        (exporter,) = service.sidecars()
        os.kill(exporter.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(exporter.pid, signal.SIGCONT)

    return during


def run(*, seconds: float, console: Console) -> dict[str, Any]:
    """All steps."""
    pins = CoreAssignment.assign()
    sinks = [hub, collector] if collector_path().exists() else [hub]
    ramp: list[Step] = []
    forced: list[Step] = []
    with tempfile.TemporaryDirectory() as name:
        bench = DataLossBench(prepare_example(Path(name)), Path(name), (pins.service, pins.other), seconds)
        for sink in sinks:
            for rows in ROWS:
                console.print(f"[dim]{sink.__name__}, {rows} rows a request[/dim]")
                ramp.append(bench.run_step(f"{rows:,}", sink, {}, rows=rows))
            console.print(f"[dim]{sink.__name__}, batching[/dim]")
            ramp.append(bench.run_step("1, batching", sink, BATCHING, connections=64))
        console.print("[dim]exporter process halted[/dim]")
        forced.append(
            bench.run_step("100, exporter halted", sinks[-1], {}, rows=100, while_loading=halt_sidecar(seconds))
        )
        console.print("[dim]nobody listens[/dim]")
        forced.append(
            bench.run_step("1, small spool", unreachable, {"MODELTRACE_SPOOL_MAX_BYTES": str(SMALL_SPOOL_BYTES)})
        )
    return {**summarise(ramp, forced), "load_average": os.getloadavg()}


def summarise(ramp: list[Step], forced: list[Step]) -> dict[str, Any]:
    """The highest rate without a loss and the lowest with one, a sink; and every step."""
    found: dict[str, Any] = {"held": {}, "dropping_from": {}}
    for sink in dict.fromkeys(step.receiver for step in ramp):
        rates = {True: [0.0], False: []}
        for step in ramp:
            if step.receiver == sink:
                rates[not step.missing_records and not step.missing_spans].append(step.rows / step.seconds)
        found["held"][sink] = round(max(rates[True]))
        found["dropping_from"][sink] = round(min(rates[False])) if rates[False] else None
    found["accounted"] = all(step.accounted for step in (*ramp, *forced))
    found["steps"] = [_to_json(step) for step in (*ramp, *forced)]
    return found


def _to_json(step: Step) -> dict[str, Any]:
    return {
        "rows_a_request": step.label,
        "sink": step.receiver,
        "requests_per_second": round(step.requests / step.seconds),
        "rows_per_second": round(step.rows / step.seconds),
        "answered": step.rows,
        "failed": step.failed,
        "audit_records_missing": step.missing_records,
        "spans_missing": step.missing_spans,
        "lost": dict(step.lost),
        "queue_full": dict(step.queue_full),
        "kept_on_disk": dict(step.spooled),
        "accounted": step.accounted,
        "behind_seconds": round(step.arrival_delay, 1),
    }


def print_result(result: dict[str, Any]) -> None:
    """The result for people."""
    console = Console(width=max(Console().width, 130))
    table = Table(
        *("rows a\nrequest", "to", "requests/s", "rows/s", "answered", "audit records\nmissing", "spans\nmissing"),
        *("at its stop:\nlost", "at its stop:\nkept on disk", "metrics:\nqueue_full", "adds up", "behind s"),
    )
    for line in result["steps"]:
        words = ["\n".join(f"{number:,} {what}" for what, number in line[key].items()) for key in COUNT_KEYS]
        spans = "" if line["spans_missing"] is None else f"{line['spans_missing']:,}"
        table.add_row(
            line["rows_a_request"], line["sink"], f"{line['requests_per_second']:,}", f"{line['rows_per_second']:,}",
            f"{line['answered']:,}", f"{line['audit_records_missing']:,}", spans, *words,
            "yes" if line["accounted"] else "[red]no[/red]", f"{line['behind_seconds']}",
        )  # fmt: skip
    console.print(table)
    for sink, rate in result["held"].items():
        start = result["dropping_from"][sink]
        begins = f"dropping seen from {start:,} rows/s" if start else "no dropping at any rate reached"
        console.print(f"{sink}: {rate:,} rows/s and nothing lost; {begins}")
    average = " ".join(f"{number:.1f}" for number in result["load_average"])
    console.print(f"load average {average}")


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load a step (default: 5)")
    arguments = parser.parse_args()
    result = run(seconds=arguments.seconds, console=Console(stderr=True))
    print(json.dumps(result)) if arguments.json else print_result(result)


if __name__ == "__main__":
    main()
