"""The kept hours of predictions: equal to a new computation after late records, deletions and restarts."""

import random
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from modeltrace_hub.queries import prediction_activity
from modeltrace_hub.queries.model_parameters import MINUTE_NS, Window
from modeltrace_hub.queries.models import list_models
from modeltrace_hub.queries.prediction_activity import HOUR_NS
from modeltrace_hub.queries.reader import Queries, Reader
from modeltrace_hub.retention import Retention
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import append_batches
from tests.helpers.decoding import decode
from tests.helpers.otlp_messages import attribute, log_request, resource

NOW = time.time_ns() // HOUR_NS * HOUR_NS + 17 * MINUTE_NS
# Independent of the hub's query: every record is read.
REFERENCE = """
    SELECT
        attributes ->> '/ml.model.name' AS name, coalesce(attributes ->> '/ml.model.version', '') AS version,
        list_sort(list(DISTINCT service_name)), count(DISTINCT service_instance_id), min(time_ns), max(time_ns)
    FROM logs
    WHERE event_name = 'ml.prediction' AND time_ns BETWEEN $1 AND $2 AND received_ns >= $1 - 3_600_000_000_000
    GROUP BY ALL
    HAVING name IS NOT NULL
    ORDER BY ALL
"""


def random_request(chance: random.Random, *, implausible: bool) -> ExportLogsServiceRequest:
    """Return prediction log records of the last twelve hours; if `implausible`, some of a clock that is far ahead."""
    ages = [chance.randrange(12 * 60) for _ in range(chance.randrange(1, 5))]
    if implausible:
        ages.append(-chance.randrange(600))
    records = [
        LogRecord(time_unix_nano=NOW - age * MINUTE_NS, event_name=chance.choice(("ml.prediction", "other")))
        for age in ages
    ]
    for record in records:
        if chance.random() < 0.9:
            record.attributes.append(attribute("ml.model.name", chance.choice("ab")))
        if chance.random() < 0.9:
            record.attributes.append(attribute("ml.model.version", chance.choice("12")))
    request = log_request(*records)
    request.resource_logs[0].resource.CopyFrom(resource(chance.choice("xy"), chance.choice("12")))
    return request


def listed(reader: Reader, window: Window) -> list[tuple[Any, ...]]:
    """Return the listed versions in the order and with the columns of the reference."""
    return sorted(
        (model["name"], row["version"], row["services"], row["instances"], row["first_ns"], row["last_ns"])
        for model in list_models(reader, window)
        for row in model["versions"]
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a file, which each example replaces."""
    return tmp_path_factory.mktemp("hub") / FILE_NAME


@pytest.mark.slow
@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.sampled_from(("add", "add", "add late", "read", "delete", "checkpoint", "restart", "add implausible")),
        min_size=4,
        max_size=14,
    ),
)
def test_kept_hours_equal_a_new_computation(path: Path, seed: int, steps: list[str]) -> None:
    """After any commits, deletions, checkpoints and restarts, each window has the models of its records."""
    chance = random.Random(seed)  # noqa: S311  reproducible examples
    path.unlink(missing_ok=True)
    store = Store(path)
    queries = Queries(store)
    received_ns = NOW - 10 * 60 * MINUTE_NS
    for step in steps:
        if step.startswith("add"):
            received_ns += 0 if step == "add late" else 30 * MINUTE_NS
            request = random_request(chance, implausible=step == "add implausible")
            with store.write() as connection:
                append_batches(connection, [decode(request, received_ns)])
        elif step == "delete":
            Retention(store, max_age=timedelta(hours=chance.randrange(1, 8)), max_size=2**31).enforce(NOW)
        elif step == "checkpoint":
            store.checkpoint()
        elif step == "restart":
            store.close()
            store = Store(path)
            queries = Queries(store)
        since_ns = NOW - chance.randrange(1, 14 * 60) * MINUTE_NS
        window = Window(since_ns, since_ns + chance.randrange(1, 14 * 60) * MINUTE_NS, MINUTE_NS, NOW)
        with queries.open_reader() as reader, store.read() as cursor:
            expected = cursor.execute(REFERENCE, [window.since_ns, window.until_ns]).fetchall()
            assert listed(reader, window) == expected
    store.close()


def test_only_new_records_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second list reads the records that were appended since the first; too many entries are not kept."""
    store = Store(None)
    queries = Queries(store)
    window = Window(NOW - 12 * HOUR_NS, NOW, MINUTE_NS, NOW)
    first_rows: list[object] = []
    fetch_all = Reader.fetch_all

    def record(reader: Reader, query: str, *arguments: Any, **values: Any) -> list[dict[str, Any]]:
        if query == "list_prediction_hours":
            first_rows.append(values["next_row"])
        return fetch_all(reader, query, *arguments, **values)

    monkeypatch.setattr(Reader, "fetch_all", record)

    def add(count: int) -> None:
        records = [LogRecord(time_unix_nano=NOW - 5 * HOUR_NS, event_name="ml.prediction") for _ in range(count)]
        for number, item in enumerate(records):
            item.attributes.extend([attribute("ml.model.name", "a"), attribute("ml.model.version", str(number))])
        with store.write() as connection:
            append_batches(connection, [decode(log_request(*records), NOW)])

    def count_versions() -> int:
        with queries.open_reader() as reader:
            return sum(len(model["versions"]) for model in list_models(reader, window))

    add(3)
    assert [count_versions(), count_versions()] == [3, 3]
    add(5)
    assert count_versions() == 5
    assert first_rows == [0, 3]
    monkeypatch.setattr(prediction_activity, "MAX_ENTRIES", 5)
    add(7)
    add(9)
    assert [count_versions(), count_versions()] == [9, 9]
    add(1)
    assert count_versions() == 9
    assert first_rows == [0, 3, 8]
    store.close()
