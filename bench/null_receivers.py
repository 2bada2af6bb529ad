"""Who takes the telemetry of a bench and counts all of it: a real hub, a real Collector, or nobody."""

import json
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from bench import receiver
from bench.processes import free_port, run_process
from modeltrace.telemetry.names import EVENT_PREDICTION
from modeltrace_hub.store import FILE_NAME

COUNT_CONFIG = Path(__file__).with_name("data_loss.yaml")
# Nobody listens there: discard, RFC 863.
UNREACHABLE_ENDPOINT = "http://127.0.0.1:9"


@dataclass
class NullReceiver:
    """Who takes the telemetry. `arrived` is known once it has stopped."""

    name: str
    endpoint: str
    count_received: Callable[[], int]
    received: Counter[str] = field(default_factory=Counter)


@contextmanager
def hub(folder: Path, core: int | None) -> Iterator[NullReceiver]:
    """A hub; its database is counted when it has stopped."""
    page, http = free_port(), free_port()
    url = f"http://127.0.0.1:{page}"
    data = Path(tempfile.mkdtemp(dir=folder))
    ports = ["--port", str(page), "--http-port", str(http), "--grpc-port", str(free_port())]

    def taken() -> int:
        with urllib.request.urlopen(f"{url}/api/stats", timeout=30) as answer:  # noqa: S310  loopback
            signals = json.load(answer)["signals"]
        return int(signals["traces"]["stored"] + signals["logs"]["stored"])

    sink = NullReceiver("hub", f"http://127.0.0.1:{http}", taken)
    command = [sys.executable, "-m", "modeltrace_hub", "--data", str(data), *ports]
    with run_process(command, ready_url=f"{url}/healthz", core=core):
        yield sink
    with duckdb.connect(data / FILE_NAME, read_only=True) as store:
        for what, query in (
            ("spans", "SELECT count(*) FROM spans"),
            ("prediction log records", f"SELECT count(*) FROM logs WHERE event_name = '{EVENT_PREDICTION}'"),  # noqa: S608  ours
        ):
            (number,) = store.execute(query).fetchone() or (0,)
            sink.received[what] = number


@contextmanager
def collector(folder: Path, core: int | None) -> Iterator[NullReceiver]:
    """A Collector that counts; it has written down the last of it when it has stopped."""
    counts = Path(tempfile.mkdtemp(dir=folder), "counts.jsonl")
    with receiver.start_collector([receiver.CONFIG, COUNT_CONFIG], core, {"BENCH_COUNTS": str(counts)}) as receiving:

        def taken() -> int:
            accepted = receiving.count_accepted()
            return accepted["spans"] + accepted["log records"]

        sink = NullReceiver("Collector", receiving.http_endpoint, taken)
        yield sink
    with counts.open() as lines:
        sink.received = read_counts(lines)


def read_counts(lines: Iterable[str]) -> Counter[str]:
    """Add up what the Collector's count connectors have written, a JSON document a line."""
    names = {"modeltrace.spans": "spans", "modeltrace.prediction_log_records": "prediction log records"}
    found: Counter[str] = Counter(dict.fromkeys(names.values(), 0))
    for line in lines:
        for resource in json.loads(line).get("resourceMetrics", []):  # nothing counted: an empty document
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    found[names[metric["name"]]] += sum(int(point["asInt"]) for point in metric["sum"]["dataPoints"])
    return found


@contextmanager
def unreachable(_: Path, __: int | None) -> Iterator[NullReceiver]:
    """An endpoint where nobody listens."""
    yield NullReceiver("nobody", UNREACHABLE_ENDPOINT, lambda: 0, Counter({"spans": 0, "prediction log records": 0}))
