"""Resources and scopes are stored once, and databases with the older tables are converted."""

import time
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from modeltrace_hub.errors import StoreError
from modeltrace_hub.retention import Retention
from modeltrace_hub.schema import SCHEMA_VERSION
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import Writer, _QueuedBatch, append_batches
from tests.helpers.decoding import decode
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_messages import attribute, log_request, metric_request, resource, span, trace_request

PROTOBUF = {"Content-Type": "application/x-protobuf"}
SHARED = "JOIN resources USING (resource_id) JOIN scopes USING (scope_id)"
HOUR_NS = 3600 * 10**9


def _write(store: Store, *requests: Message, received_ns: int = 1) -> None:
    with store.write() as connection:
        append_batches(connection, [decode(request, received_ns) for request in requests])


def _rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.read() as cursor:
        return cursor.execute(sql).fetchall()


def _from_service(*names: str, size: int = 0) -> list[ExportTraceServiceRequest]:
    """Return one request with a span for each service, whose resource has `size` more bytes."""
    requests = []
    for name in names:
        request = trace_request()
        request.resource_spans[0].resource.CopyFrom(resource(name))
        request.resource_spans[0].resource.attributes.append(attribute("large", "r" * size))
        requests.append(request)
    return requests


def test_a_resource_of_many_records_is_one_row(store: Store) -> None:
    """Records of all signals, in several requests and commits, refer to the same row."""
    for _ in range(3):
        _write(store, trace_request(span(), span()), log_request(), metric_request())
    other = log_request()
    other.resource_logs[0].schema_url = "https://example.com/other"
    other.resource_logs[0].scope_logs[0].scope.name = "another"
    _write(store, other)

    assert _rows(store, "SELECT count(*), count(DISTINCT resource_id) FROM resources") == [(2, 2)]
    assert _rows(store, "SELECT scope_name, count(*) FROM scopes GROUP BY ALL ORDER BY ALL") == [
        ("", 1),
        ("another", 1),
    ]
    counts = {table: len(_rows(store, f"FROM {table} {SHARED}")) for table in ("spans", "logs", "metric_points")}
    assert counts == {"spans": 6, "logs": 4, "metric_points": 3}


def test_a_rejected_record_leaves_no_resource(store: Store) -> None:
    """Retention deletes resources with their records, so a resource without a record would stay forever."""
    _write(store, trace_request(span(span_id=b"")))
    assert _rows(store, "FROM resources UNION ALL FROM resources") == []
    assert _rows(store, "FROM scopes") == []


def test_a_large_resource_is_written_once(tmp_path: Path) -> None:
    """A resource of 10 KiB with 8,000 records takes less than a tenth of its repetition in the write-ahead log."""
    store = Store(tmp_path / FILE_NAME)
    (request,) = _from_service("svc", size=10_240)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans.extend([span() for _ in range(7_999)])
    _write(store, request)
    assert store.wal_bytes() < 8_000 * 10_240 / 10
    store.close()


def test_resources_are_deleted_with_their_last_record(store: Store) -> None:
    """A resource that is still in use stays, and one that is deleted is stored again with its next record."""
    now = time.time_ns()
    old, used = _from_service("old", "used")
    _write(store, old, used, received_ns=now - 25 * HOUR_NS)
    _write(store, used, received_ns=now)
    retention = Retention(store, max_age=timedelta(hours=24), max_size=2**31)

    assert retention.enforce(now) == 2
    assert _rows(store, "SELECT resource_attributes ->> '/service.name' FROM resources") == [("used",)]
    _write(store, old, received_ns=now)
    assert _rows(store, f"SELECT service_name FROM spans {SHARED} ORDER BY 1") == [("old",), ("used",)]  # noqa: S608  fixed names


@pytest.mark.parametrize("fails", [False, True])
def test_the_writer_stores_a_deleted_resource_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """The writer remembers stored resources only until rows are deleted, also if the deletion fails afterwards."""
    now = time.time_ns()
    (request,) = _from_service("svc")
    retention = Retention(store, max_age=timedelta(hours=24), max_size=2**31)
    writer = Writer(store, retention)
    enforce = retention.enforce

    def enforce_and_fail(now_ns: int) -> int:
        enforce(now_ns)
        raise duckdb.IOException("the disk is full")

    writer._commit([_QueuedBatch(decode(request, now - 25 * HOUR_NS), Future())])
    _write(store, log_request(), received_ns=now)
    if fails:
        monkeypatch.setattr(retention, "enforce", enforce_and_fail)
    writer._enforce_retention()
    assert _rows(store, "FROM spans") == []
    writer._commit([_QueuedBatch(decode(request, now), Future())])

    services = _rows(store, f"SELECT resource_attributes ->> '/service.name' FROM spans {SHARED}")  # noqa: S608  fixed names
    assert services == [("svc",)]


def test_an_attribute_of_the_record_precedes_that_of_its_resource(hub: InProcessHub) -> None:
    """A filter finds records by their own attribute, or by that of their resource if they have none."""
    own, inherited, other = (span(name=name) for name in ("own", "inherited", "other"))
    own.attributes.append(attribute("region", "south"))
    request = trace_request(own, inherited)
    request.resource_spans[0].resource.attributes.append(attribute("region", "north"))
    for message in (request, trace_request(other)):
        hub.client.post("/v1/traces", content=message.SerializeToString(), headers=PROTOBUF).raise_for_status()

    for value, names in (("north", ["inherited"]), ("south", ["own"]), ("west", [])):
        response = httpx.get(f"{hub.page_url}/api/traces", params={"attr.region": value})
        assert [trace["name"] for trace in response.raise_for_status().json()["traces"]] == names
    (stored,) = httpx.get(f"{hub.page_url}/api/traces/{inherited.trace_id.hex()}").json()["spans"]
    assert stored["resource_attributes"]["region"] == "north"
    assert not {"resource_id", "scope_id"} & stored.keys()


# The columns that rows of version 1 had in place of `resource_id` and `scope_id`.
COLUMNS_1 = """
    resource_attributes JSON NOT NULL, resource_dropped_attributes_count UINTEGER NOT NULL,
    resource_entity_refs JSON NOT NULL, resource_schema_url VARCHAR NOT NULL, scope_name VARCHAR NOT NULL,
    scope_version VARCHAR NOT NULL, scope_attributes JSON NOT NULL, scope_dropped_attributes_count UINTEGER NOT NULL,
    scope_schema_url VARCHAR NOT NULL
"""


def _convert_to_version_1(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Convert the tables of a database to version 1. Return the rows of each table."""
    rows = {}
    names = ", ".join(column.split()[0] for column in COLUMNS_1.split(","))
    with duckdb.connect(str(path)) as connection:
        for table in ("spans", "logs", "metric_points"):
            (sql,) = (
                connection.execute("SELECT sql FROM duckdb_tables() WHERE table_name = ?", [table]).fetchone() or ()
            )
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_2")
            connection.execute(sql.replace("resource_id VARCHAR NOT NULL, scope_id VARCHAR NOT NULL", COLUMNS_1))
            columns = f"* EXCLUDE (resource_id, scope_id, {names}), {names}"
            connection.execute(f"INSERT INTO {table} SELECT {columns} FROM {table}_2 {SHARED}")  # noqa: S608  fixed names
            connection.execute(f"DROP TABLE {table}_2")
            rows[table] = connection.execute(f"FROM {table} ORDER BY ALL").fetchall()
        for table in ("resources", "scopes", "traces"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    return rows


def _summaries(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path)) as connection:
        return connection.execute("FROM traces ORDER BY ALL").fetchall()


@pytest.fixture
def requests() -> list[Message]:
    """Return requests of all signals with equal and with different resources and scopes."""
    messages: list[Message] = [*_from_service("a", "b", "b"), trace_request(span(), span()), metric_request()]
    log = log_request()
    log.resource_logs[0].scope_logs[0].scope.name = "another"
    return [*messages, log]


@pytest.fixture
def stored(tmp_path: Path, requests: list[Message]) -> Path:
    """The database of a hub that received the requests one after the other."""
    path = tmp_path / FILE_NAME
    store = Store(path)
    for number, request in enumerate(requests):
        _write(store, request, received_ns=number)
    store.close()
    return path


def test_a_database_of_version_1_is_converted(stored: Path, requests: list[Message]) -> None:
    """All rows are equal afterwards, and a resource that arrives again is recognized."""
    path, summaries = stored, _summaries(stored)
    before = _convert_to_version_1(path)
    assert (len(before["spans"]), len(summaries)) == (5, 5)

    store = Store(path)
    assert store.read_meta("schema") == SCHEMA_VERSION
    for table, rows in before.items():
        after = _rows(store, f"SELECT * EXCLUDE (resource_id, scope_id) FROM {table} {SHARED} ORDER BY ALL")  # noqa: S608  fixed names
        assert after == rows
        arrivals = [row[0] for row in _rows(store, f"SELECT received_ns FROM {table} ORDER BY rowid")]  # noqa: S608  fixed names
        assert arrivals == sorted(arrivals)
    assert _rows(store, "FROM traces ORDER BY ALL") == summaries
    shared = [_rows(store, f"FROM {table} ORDER BY ALL") for table in ("resources", "scopes")]
    _write(store, *requests)
    assert [_rows(store, f"FROM {table} ORDER BY ALL") for table in ("resources", "scopes")] == shared
    assert [len(rows) for rows in shared] == [3, 2]
    store.close()


@pytest.mark.parametrize(
    ("version", "change"), [("2", "DROP TABLE traces"), ("3", "ALTER TABLE traces DROP COLUMN llm_call_count")]
)
def test_a_database_of_version_2_or_3_is_converted(stored: Path, version: str, change: str) -> None:
    """The table of traces is computed from the spans and log records."""
    path, summaries = stored, _summaries(stored)
    with duckdb.connect(str(path)) as connection:
        connection.execute(change)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", [version])

    store = Store(path)
    assert store.read_meta("schema") == SCHEMA_VERSION
    assert _rows(store, "FROM traces ORDER BY ALL") == summaries
    arrivals = [row[0] for row in _rows(store, "SELECT received_ns FROM traces ORDER BY rowid")]
    assert arrivals == sorted(arrivals)
    store.close()


def test_a_conversion_that_fails_changes_nothing(tmp_path: Path, requests: list[Message]) -> None:
    """The error says what to do."""
    path = tmp_path / FILE_NAME
    store = Store(path)
    _write(store, *requests)
    store.close()
    before = _convert_to_version_1(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE metric_points RENAME COLUMN scope_name TO scope")

    with pytest.raises(StoreError, match=r"cannot be converted to schema version.*Nothing was changed.*Free"):
        Store(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("FROM spans ORDER BY ALL").fetchall() == before["spans"]
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchall() == [("1",)]
