"""Any request can be read back from the store as it was received, in both encodings."""

import time
from collections.abc import Iterator, MutableSequence
from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from modeltrace_hub.decode import otlp_json
from modeltrace_hub.decode.batch import Batch, Problems
from modeltrace_hub.decode.message_shape import message_shape
from modeltrace_hub.decode.values import Json, to_json
from modeltrace_hub.store import Store
from modeltrace_hub.writer import append_batches
from tests.helpers import otlp_rows
from tests.helpers.decoding import decode, from_json, unlimited
from tests.helpers.otlp_json import to_otlp_json
from tests.helpers.strategies_otlp import any_values, log_requests, metric_requests, trace_requests

_quiet = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def _sorted(pairs: MutableSequence[KeyValue]) -> None:
    """Sort attributes in the order of metrics."""
    items = sorted((KeyValue.FromString(pair.SerializeToString()) for pair in pairs), key=lambda pair: pair.key)
    for pair in items:
        pair.value.CopyFrom(from_json(_deep(to_json(pair.value, unlimited()))))
    del pairs[:]
    pairs.extend(items)


def _deep(value: Json) -> Json:
    match value:
        case dict():
            return {key: _deep(value[key]) for key in sorted(value)}
        case list():
            return [_deep(item) for item in value]
        case _:
            return value


def _canonical(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def memory() -> Iterator[Store]:
    """Return one store for all examples, emptied for each."""
    store = Store(None)
    yield store
    store.close()


def _stored(store: Store, batch: Batch, table: str) -> list[dict[str, Any]]:
    """Write a batch, and return the rows of one table."""
    with store.write() as connection:
        append_batches(connection, [batch])
        joins = "" if table == "exemplars" else "JOIN resources USING (resource_id) JOIN scopes USING (scope_id)"
        result = connection.execute(f"SELECT * FROM {table} {joins} ORDER BY {table}.rowid")  # noqa: S608  fixed names
        names = [column[0] for column in result.description]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        for each in batch.tables:
            connection.execute(f"DELETE FROM {each}")  # noqa: S608  a fixed name
    return rows


@pytest.mark.slow
@given(value=any_values)
@_quiet
def test_every_value_has_an_inverse(value: AnyValue) -> None:
    """A value written as JSON and read again is equal."""
    written = orjson.loads(orjson.dumps(to_json(value, unlimited())))
    assert _canonical(from_json(written)) == _canonical(value)


@pytest.mark.slow
@given(request=st.one_of(trace_requests, log_requests, metric_requests))
@_quiet
def test_json_and_protobuf_give_the_same_message(request: Message) -> None:
    """A request in OTLP/JSON is parsed into the same message as in protobuf."""
    body = orjson.dumps(to_otlp_json(request))
    problems = Problems()
    parsed = otlp_json.parse(body, type(request), message_shape(request.DESCRIPTOR), unlimited(), problems)
    assert _canonical(parsed) == _canonical(request)
    assert not problems.message


@pytest.mark.slow
@given(request=trace_requests)
@_quiet
def test_spans_are_read_back_equal(memory: Store, request: Message) -> None:
    """Every span is read back equal, with its resource and scope."""
    rows = _stored(memory, decode(request, time.time_ns()), "spans")
    sent = [
        (span, scope.scope, scope.schema_url, resource.resource, resource.schema_url)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(rows) == len(sent)
    for row, (span, scope, scope_url, resource, resource_url) in zip(rows, sent, strict=True):
        span.status.SetInParent()
        assert _canonical(otlp_rows.span(row)) == _canonical(span)
        assert _canonical(otlp_rows.scope(row)) == _canonical(scope)
        assert _canonical(otlp_rows.resource(row)) == _canonical(resource)
        assert (row["scope_schema_url"], row["resource_schema_url"]) == (scope_url, resource_url)
        assert row["duration_ns"] == span.end_time_unix_nano - span.start_time_unix_nano


@pytest.mark.slow
@given(request=log_requests)
@_quiet
def test_log_records_are_read_back_equal(memory: Store, request: Message) -> None:
    """Every log record is read back equal, except that an absent time is replaced."""
    received = time.time_ns()
    rows = _stored(memory, decode(request, received), "logs")
    sent = [
        record for resource in request.resource_logs for scope in resource.scope_logs for record in scope.log_records
    ]
    assert len(rows) == len(sent)
    for row, record in zip(rows, sent, strict=True):
        record.time_unix_nano = record.time_unix_nano or record.observed_time_unix_nano or received
        if record.body.WhichOneof("value") is None:
            record.ClearField("body")
        assert _canonical(otlp_rows.record(row)) == _canonical(record)


@pytest.mark.slow
@given(request=metric_requests)
@_quiet
def test_data_points_are_read_back_equal(memory: Store, request: Message) -> None:
    """Every data point is read back equal with its exemplars; attributes are sorted."""
    received = time.time_ns()
    batch = decode(request, received)
    exemplars = list(batch.tables["exemplars"])
    rows = _stored(memory, batch, "metric_points")
    exemplar_rows = _stored(memory, batch, "exemplars")
    assert len(exemplar_rows) == len(exemplars)
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                type_ = metric.WhichOneof("data")
                _sorted(metric.metadata)
                for point in list(getattr(metric, type_).data_points):
                    row = rows.pop(0)
                    mine = [exemplar_rows.pop(0) for _ in getattr(point, "exemplars", ())]
                    expected = type(metric).FromString(metric.SerializeToString())
                    held = getattr(expected, type_)
                    del held.data_points[:]
                    held.data_points.append(point)
                    only = held.data_points[0]
                    _sorted(only.attributes)
                    only.time_unix_nano = only.time_unix_nano or received
                    for exemplar in getattr(only, "exemplars", ()):
                        _sorted(exemplar.filtered_attributes)
                        exemplar.time_unix_nano = exemplar.time_unix_nano or only.time_unix_nano
                    if type_ == "exponential_histogram":
                        only.positive.SetInParent()
                        only.negative.SetInParent()
                    assert _canonical(otlp_rows.metric(row, mine)) == _canonical(expected)
                    assert {(item["series_id"], item["point_time_ns"]) for item in mine} <= {
                        (row["series_id"], row["time_ns"])
                    }
    assert not rows
    assert not exemplar_rows
