"""Receivers that only count telemetry: a real hub, a real Collector, or an unreachable endpoint."""

import json
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from bench import receiver
from bench.hub import run_hub
from modeltrace.telemetry.names import EVENT_PREDICTION
from modeltrace_hub.store import FILE_NAME

COUNT_CONFIG = Path(__file__).with_name("data_loss.yaml")
# The discard port of RFC 863, where nothing listens.
UNREACHABLE_ENDPOINT = "http://127.0.0.1:9"


@dataclass
class NullReceiver:
    """A receiver of telemetry. `received` is filled when the receiver has stopped."""

    name: str
    endpoint: str
    count_received: Callable[[], int]
    received: Counter[str] = field(default_factory=Counter)


@contextmanager
def hub(folder: Path, core: int | None) -> Iterator[NullReceiver]:
    """Run a hub. Its database is counted after it has stopped."""
    data = Path(tempfile.mkdtemp(dir=folder))
    with run_hub(data, core) as urls:

        def count_received() -> int:
            with urllib.request.urlopen(f"{urls.api}/api/stats", timeout=30) as response:  # noqa: S310  loopback
                signals = json.load(response)["signals"]
            return int(signals["traces"]["stored"] + signals["logs"]["stored"])

        null_receiver = NullReceiver("hub", urls.http, count_received)
        yield null_receiver
    with duckdb.connect(data / FILE_NAME, read_only=True) as store:
        for kind, query in (
            ("spans", "SELECT count(*) FROM spans"),
            ("prediction log records", f"SELECT count(*) FROM logs WHERE event_name = '{EVENT_PREDICTION}'"),  # noqa: S608  a constant
        ):
            (number,) = store.execute(query).fetchone() or (0,)
            null_receiver.received[kind] = number


@contextmanager
def collector(folder: Path, core: int | None) -> Iterator[NullReceiver]:
    """Run a Collector that counts items and has written all counts when it stops."""
    counts = Path(tempfile.mkdtemp(dir=folder), "counts.jsonl")
    with receiver.start_collector(
        [receiver.CONFIG, COUNT_CONFIG], core, {"BENCH_COUNTS": str(counts)}
    ) as counting_collector:

        def count_received() -> int:
            accepted = counting_collector.count_accepted()
            return accepted["spans"] + accepted["log records"]

        null_receiver = NullReceiver("Collector", counting_collector.http_endpoint, count_received)
        yield null_receiver
    with counts.open() as lines:
        null_receiver.received = read_counts(lines)


def read_counts(lines: Iterable[str]) -> Counter[str]:
    """Add up the counts of the Collector's count connectors, one JSON document per line."""
    names = {"modeltrace.spans": "spans", "modeltrace.prediction_log_records": "prediction log records"}
    counts: Counter[str] = Counter(dict.fromkeys(names.values(), 0))
    for line in lines:
        for resource in json.loads(line).get("resourceMetrics", []):  # the document is empty if nothing was counted
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    counts[names[metric["name"]]] += sum(int(point["asInt"]) for point in metric["sum"]["dataPoints"])
    return counts


@contextmanager
def unreachable(_: Path, __: int | None) -> Iterator[NullReceiver]:
    """Yield an endpoint where nothing listens."""
    yield NullReceiver(
        "unreachable", UNREACHABLE_ENDPOINT, lambda: 0, Counter({"spans": 0, "prediction log records": 0})
    )
