"""The decoders: enum names, invalid IDs, and the series of a point."""

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from modeltrace_hub.decode.batch import Batch
from modeltrace_hub.store import Store
from tests.helpers.decoding import decode
from tests.helpers.otlp_messages import attribute, log_request, metric_request, resource, span, trace_request

RECEIVED = 1_700_000_000_000_000_000


def _columns(store: Store, batch: Batch, table: str) -> list[dict[str, object]]:
    """Return the rows of a batch by column name."""
    with store.read() as cursor:
        names = [
            row[0]
            for row in cursor.execute(
                "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table]
            ).fetchall()
        ]
    return [dict(zip(names, row, strict=True)) for row in batch.tables[table]]


def _span(store: Store, **fields: object) -> dict[str, object]:
    return _columns(store, decode(trace_request(span(**fields)), RECEIVED), "spans")[0]


def _log(store: Store, **fields: object) -> dict[str, object]:
    return _columns(store, decode(log_request(LogRecord(**fields)), RECEIVED), "logs")[0]


def _points(*points: NumberDataPoint, **changes: object) -> list[str]:
    """Return the series IDs of the points of a metric."""
    parts = {"name": "m", "unit": "s", "service": "svc", "scope": "lib", "type": "gauge", **changes}
    data = (
        {"gauge": Gauge(data_points=points)}
        if parts["type"] == "gauge"
        else {"sum": Sum(data_points=points, is_monotonic=parts["type"] == "counter", aggregation_temporality=2)}
    )
    request = ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(
                resource=resource(parts["service"]),
                scope_metrics=[
                    ScopeMetrics(
                        scope=InstrumentationScope(name=parts["scope"]),
                        metrics=[Metric(name=parts["name"], unit=parts["unit"], **data)],
                    )
                ],
            )
        ]
    )
    return [row[1] for row in decode(request, RECEIVED).tables["metric_points"]]


def _point(value: int = 1, **attributes: str) -> NumberDataPoint:
    return NumberDataPoint(
        time_unix_nano=5, as_int=value, attributes=[attribute(key, item) for key, item in attributes.items()]
    )


@pytest.mark.parametrize(
    ("number", "word"),
    [(0, "UNSPECIFIED"), (1, "INTERNAL"), (2, "SERVER"), (3, "CLIENT"), (4, "PRODUCER"), (5, "CONSUMER"), (77, "77")],
)
def test_a_span_kind_is_a_name(store: Store, number: int, word: str) -> None:
    """A span kind is stored as its name, an unknown one as its number."""
    assert _span(store, kind=number)["kind"] == word


def test_a_parent_of_zeros_is_none(store: Store) -> None:
    """A parent ID of zeros means a root span."""
    assert _span(store, parent_span_id=bytes(8))["parent_span_id"] is None


def test_a_parent_of_another_length_is_rejected() -> None:
    """A parent ID that is neither empty nor 8 bytes rejects the span."""
    batch = decode(trace_request(span(parent_span_id=b"abc")), RECEIVED)
    assert (batch.accepted, dict(batch.problems.rejected)) == (0, {"parent_span_id": 1})


def test_a_span_that_ends_before_it_starts_is_stored(store: Store) -> None:
    """Clocks can go back; the duration is then negative."""
    assert _span(store, start_time_unix_nano=10, end_time_unix_nano=4)["duration_ns"] == -6


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"time_unix_nano": 5, "observed_time_unix_nano": 7}, 5),
        ({"observed_time_unix_nano": 7}, 7),
        ({}, RECEIVED),
    ],
)
def test_a_log_record_has_the_best_available_time(store: Store, fields: dict[str, int], time: int) -> None:
    """The time of the event, else the observed time, else the received time."""
    assert _log(store, **fields)["time_ns"] == time


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (None, (None, False)),
        (AnyValue(), (None, False)),
        (AnyValue(string_value='{"not": "parsed"}'), ('{"not": "parsed"}', False)),
        (AnyValue(string_value=""), ("", False)),
        (AnyValue(int_value=2**62), (str(2**62), True)),
        (AnyValue(bytes_value=b"\0\1"), ('{"bytes":"AAE="}', True)),
    ],
)
def test_a_body_is_text_or_json(store: Store, body: AnyValue | None, stored: tuple[str | None, bool]) -> None:
    """Text is stored unchanged; any other body is stored as JSON and marked so."""
    row = _log(store, body=body)
    assert (row["body"], row["body_structured"]) == stored


def test_non_finite_doubles_are_strings(store: Store) -> None:
    """NaN and infinities are stored as strings."""
    values = [float("nan"), float("inf"), float("-inf")]
    pairs = [KeyValue(key=str(place), value=AnyValue(double_value=value)) for place, value in enumerate(values)]
    assert _span(store, attributes=pairs)["attributes"] == '{"0":"NaN","1":"Infinity","2":"-Infinity"}'


def test_a_series_is_the_same_after_a_restart() -> None:
    """The hash does not depend on the process."""
    assert _points(_point(a="1")) == ["454ca7decf1086fb"]


def test_points_of_one_series_share_its_id() -> None:
    """Value, time and the order of attributes do not matter."""
    first, second = _points(_point(1, a="1", b="2"), _point(2, b="2", a="1"))
    assert first == second


@pytest.mark.parametrize(
    "change", [{"name": "n"}, {"unit": "ms"}, {"service": "other"}, {"scope": "other"}, {"type": "counter"}]
)
def test_series_differ_by_metric_resource_and_scope(change: dict[str, str]) -> None:
    """Another name, unit, resource, scope or type makes another series."""
    assert _points(_point(a="1"), **change) != _points(_point(a="1"))


def test_series_differ_by_attributes() -> None:
    """Other attributes, or other values, make another series."""
    assert len(set(_points(_point(), _point(a="1"), _point(a="2"), _point(b="1")))) == 4


def test_a_monotonic_sum_is_another_series() -> None:
    """A counter and an up-down counter with one name are two series."""
    assert _points(_point(), type="counter") != _points(_point(), type="updown")


def test_a_point_without_a_value_is_stored(store: Store) -> None:
    """A point with the flag "no recorded value" has no value."""
    request = metric_request(Metric(name="g", gauge=Gauge(data_points=[NumberDataPoint(time_unix_nano=5, flags=1)])))
    row = _columns(store, decode(request, RECEIVED), "metric_points")[0]
    assert (row["value"], row["value_int"], row["flags"]) == (None, None, 1)


def test_an_exemplar_identifies_its_point(store: Store) -> None:
    """The row of an exemplar has series and time of its point; an invalid trace ID is omitted and counted."""
    exemplars = [Exemplar(time_unix_nano=4, as_int=1, trace_id=b"\1" * 16), Exemplar(as_int=2, trace_id=b"short")]
    point = NumberDataPoint(time_unix_nano=5, as_int=1, exemplars=exemplars)
    batch = decode(metric_request(Metric(name="g", gauge=Gauge(data_points=[point]))), RECEIVED)
    row = _columns(store, batch, "metric_points")[0]
    first, second = _columns(store, batch, "exemplars")
    assert (first["series_id"], first["point_time_ns"], first["time_ns"]) == (row["series_id"], 5, 4)
    assert (first["trace_id"], second["trace_id"], second["time_ns"]) == ("01" * 16, None, 5)
    assert batch.problems.warnings["ids"] == 1


def test_exemplars_of_a_rejected_point_are_not_stored() -> None:
    """No exemplar is stored without its point."""
    point = NumberDataPoint(time_unix_nano=2**63, as_int=1, exemplars=[Exemplar(as_int=1)])
    batch = decode(metric_request(Metric(name="g", gauge=Gauge(data_points=[point]))), RECEIVED)
    assert (batch.row_count, dict(batch.problems.rejected)) == (0, {"time": 1})


def test_a_metric_without_data_is_ignored() -> None:
    """A metric of an unknown type has no rows and is not an error."""
    batch = decode(metric_request(Metric(name="new")), RECEIVED)
    assert (batch.row_count, batch.problems.message) == (0, "")


def test_equal_spans_are_both_stored(store: Store) -> None:
    """OTLP may deliver a span twice: both copies are stored, and queries remove one."""
    same = span(kind=Span.SPAN_KIND_SERVER)
    assert len(_columns(store, decode(trace_request(same, same), RECEIVED), "spans")) == 2
