"""The table `traces`: equal to a new computation after any commits and deletions, and used by every search."""

import random
import time
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from modeltrace_hub.queries import trace_search
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.retention import Retention
from modeltrace_hub.store import Store
from modeltrace_hub.trace_id_filter import TraceIdFilter
from modeltrace_hub.trace_summaries import summarize_all_traces
from modeltrace_hub.writer import append_batches
from tests.helpers.decoding import decode
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import attribute, log_request, resource, span, trace_request

MS = 10**6
HOUR_NS = 3600 * 10**9
NOW = time.time_ns()
SUMMARY = "FROM traces ORDER BY trace_id"


def random_requests(chance: random.Random, count: int) -> list[Message]:
    """Return requests with spans and log records of few traces; some spans are sent twice."""
    requests: list[Message] = []
    sent: list[Span] = []
    for _ in range(count):
        trace_id = bytes([chance.randrange(4) + 1]) * 16
        start = NOW + chance.randrange(1000) * MS
        parent = chance.choice((b"", b"\x07" * 8))
        status = Status(code=chance.choice((Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR)))
        new = span(
            trace_id=trace_id,
            parent_span_id=parent,
            name=chance.choice(("a", "b")),
            kind=chance.choice((Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL)),
            start_time_unix_nano=chance.choice((start, start, 0)),
            end_time_unix_nano=chance.choice((start + MS, 0)),
            status=status,
        )
        if chance.random() < 0.5:
            new.attributes.extend([attribute("ml.prediction.id", "p"), attribute("ml.prediction.label", "yes")])
        sent.append(new)
        spans = trace_request(new, *(chance.sample(sent, 1) if chance.random() < 0.3 else ()))
        spans.resource_spans[0].resource.CopyFrom(resource(chance.choice(("x", "y"))))
        requests.append(spans)
        if chance.random() < 0.5:
            requests.append(log_request(LogRecord(trace_id=trace_id, body=AnyValue(string_value="t"))))
    return requests


def recomputed(store: Store) -> list[tuple[Any, ...]]:
    """Return the rows that a new computation from all records gives, without changing the table."""
    connection = store._connection
    connection.begin()
    connection.execute("DELETE FROM traces")
    summarize_all_traces(connection)
    rows = connection.execute(SUMMARY).fetchall()
    connection.rollback()
    return rows


def stored(store: Store) -> list[tuple[Any, ...]]:
    """Return the rows of the table."""
    with store.read() as cursor:
        return cursor.execute(SUMMARY).fetchall()


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_every_commit_keeps_the_table_up_to_date(seed: int) -> None:
    """The table equals a new computation after commits in any order, duplicates, and deletions of older records."""
    chance = random.Random(seed)  # noqa: S311  the same telemetry for a seed
    store = Store(None)
    retention = Retention(store, max_age=timedelta(hours=12), max_size=2**31)
    known = TraceIdFilter()
    for number, request in enumerate(random_requests(chance, 9)):
        with store.write() as connection:
            append_batches(connection, [decode(request, NOW - (20 - number) * HOUR_NS)], known_traces=known)
    assert stored(store) == recomputed(store)
    for _ in range(2):
        if retention.enforce(NOW):
            assert stored(store) == recomputed(store)
        retention._delete_before(NOW - chance.randrange(8, 20) * HOUR_NS)
        assert stored(store) == recomputed(store)
    store.close()


def test_a_commit_reads_only_the_time_of_its_traces(store: Store) -> None:
    """Records of a trace that arrive hours apart are one row; the row of another trace is not computed again."""
    early, other = span(start_time_unix_nano=NOW, end_time_unix_nano=NOW + MS), span()
    late = span(trace_id=early.trace_id, start_time_unix_nano=NOW, end_time_unix_nano=NOW + 9 * MS)
    for item, hours in ((early, 9), (other, 5), (late, 0)):
        with store.write() as connection:
            append_batches(connection, [decode(trace_request(item), NOW - hours * HOUR_NS)])
    rows = {row[2]: row for row in stored(store)}
    assert rows[early.trace_id.hex()][:2] == (NOW, NOW - 9 * HOUR_NS)
    assert (rows[early.trace_id.hex()][4], rows[early.trace_id.hex()][10]) == (2, 9 * MS)
    assert rows[other.trace_id.hex()][:2] == (NOW - 5 * HOUR_NS, NOW - 5 * HOUR_NS)


def test_an_error_of_the_summary_rolls_the_commit_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are never stored without the row of their trace."""
    monkeypatch.setattr("modeltrace_hub.trace_summaries.TraceSummary.add_span", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), store.write() as connection:
        append_batches(connection, [decode(trace_request(span()), NOW)])
    with store.read() as cursor:
        assert cursor.execute("SELECT count(*) FROM spans").fetchone() == (0,)


def test_a_search_by_spans_continues_with_older_traces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search reads chunks of traces until enough match; the chunks do not change the result."""
    spans = [
        span(start_time_unix_nano=NOW - n // 3 * MS, end_time_unix_nano=NOW, name="rare" if n % 17 == 5 else "usual")
        for n in range(120)
    ]
    with store.write() as connection:
        append_batches(connection, [decode(trace_request(item), NOW + n) for n, item in enumerate(spans)])
    queries = Queries(store)
    expected = sorted(
        (item for item in spans if item.name == "rare"),
        key=lambda item: (item.start_time_unix_nano, item.trace_id),
        reverse=True,
    )
    for sizes in ((), (1,), (2, 5), (7, 30, 50), (120,)):
        monkeypatch.setattr(trace_search, "CHUNK_SIZES", sizes)
        with queries.open_reader() as reader:
            all_rows, last = trace_search.search_traces(reader, TraceFilter(name="rare"))
            page, cursor = trace_search.search_traces(reader, TraceFilter(name="rare", limit=4))
            rest, end = trace_search.search_traces(reader, TraceFilter(name="rare", limit=4, cursor=cursor))
            nothing, _ = trace_search.search_traces(reader, TraceFilter(name="none"))
        assert [row["trace_id"] for row in all_rows] == [item.trace_id.hex() for item in expected]
        assert [row["trace_id"] for row in [*page, *rest]] == [item.trace_id.hex() for item in expected]
        assert (last, end, nothing) == (None, None, [])


@pytest.fixture(scope="module")
def pages() -> Any:
    """Yield the pages of a hub with one span per kind of attribute."""
    with hub_pages() as pages:
        values = {
            "whole": AnyValue(int_value=422),
            "fraction": AnyValue(double_value=0.5),
            "text": AnyValue(string_value='quo"te\\ ü'),
            "digits": AnyValue(string_value="0.50"),
            "date": AnyValue(string_value="2026-01-31"),
            "yes": AnyValue(bool_value=True),
        }
        spans = [span(name=name, attributes=[KeyValue(key="key", value=value)]) for name, value in values.items()]
        nested = span(name="nested", attributes=[KeyValue(key="outer", value=AnyValue())])
        nested.attributes[0].value.kvlist_value.values.add(key="key").value.string_value = "2026-01-31"
        pages.add(trace_request(*spans, nested))
        yield pages


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("422", ["whole"]),
        ("42", []),
        ("0.5", ["fraction"]),
        ("0.50", ["digits"]),
        ('quo"te\\ ü', ["text"]),
        ("2026-01-31", ["date"]),
        ("true", ["yes"]),
        ("key", []),
    ],
)
def test_an_attribute_of_any_type_is_found_by_its_text(pages: HubPages, value: str, names: list[str]) -> None:
    """The text that is searched before the attributes are parsed excludes no match, and nested keys are none."""
    traces = pages.client.get("/api/traces", params={"attr.key": value}).json()["traces"]
    assert [trace["name"] for trace in traces] == names


def test_an_error_belongs_to_the_filtered_service(store: Store) -> None:
    """`service` with `error=true` selects traces in which that service failed."""
    failed, healthy = trace_request(span(status=Status(code=Status.STATUS_CODE_ERROR))), trace_request(span())
    healthy.resource_spans[0].scope_spans[0].spans[0].trace_id = (
        failed.resource_spans[0].scope_spans[0].spans[0].trace_id
    )
    failed.resource_spans[0].resource.CopyFrom(resource("model"))
    healthy.resource_spans[0].resource.CopyFrom(resource("client"))
    with store.write() as connection:
        append_batches(connection, [decode(failed, NOW), decode(healthy, NOW)])
    with Queries(store).open_reader() as reader:
        counts = {
            name: len(trace_search.search_traces(reader, TraceFilter(service=name, error=True))[0])
            for name in ("model", "client")
        }
    assert counts == {"model": 1, "client": 0}
