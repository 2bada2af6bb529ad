"""An invalid value affects only itself or its record: the rest is stored, and the response reports the error."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint

from modeltrace_hub.decode import otlp_json, wire
from modeltrace_hub.decode.batch import SHARED_TABLES, Batch, Problems
from modeltrace_hub.decode.message_shape import MessageShape
from modeltrace_hub.errors import MalformedError
from modeltrace_hub.receive.signals import LOGS, METRICS, SIGNALS, TRACES, Signal
from tests.helpers.decoding import decode, unlimited
from tests.helpers.otlp_json import to_otlp_json
from tests.helpers.otlp_messages import attribute, span, trace_request
from tests.helpers.strategies_otlp import log_requests, metric_requests, trace_requests

RECEIVED = 1_700_000_000_000_000_000
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
TABLES = {"traces": "spans", "metrics": "metric_points", "logs": "logs"}
MARK = b"SPOILT~~"

_quiet = settings(deadline=None, suppress_health_check=list(HealthCheck))
_requests = st.one_of(trace_requests, log_requests, metric_requests)
# Wrong in most positions.
_values = st.sampled_from(
    ["zz", "\ud83d", "", "1_0", -1, 2**64, 1.5, 1e300, True, [], [1], [None], [{"values": 3}], {}, {"values": [3]}]
)

Path = tuple[str | int, ...]


def _signal(request: Message) -> Signal:
    return next(signal for signal in SIGNALS if isinstance(request, signal.request_type))


def _read_json(signal: Signal, document: object) -> Batch:
    """Parse and decode a JSON request."""
    problems, body = Problems(), json.dumps(document).encode()
    request = otlp_json.parse(body, signal.request_type, signal.shape, unlimited(), problems)
    return decode(request, RECEIVED, problems=problems)


def _read_protobuf(signal: Signal, body: bytes) -> Batch:
    """Repair and decode a protobuf request that does not parse."""
    with pytest.raises(DecodeError):
        signal.request_type.FromString(body)
    problems = Problems()
    repaired = wire.repair(body, signal.shape, unlimited(), problems)
    return decode(signal.request_type.FromString(repaired), RECEIVED, problems=problems)


def _rows(batch: Batch) -> list[str]:
    """Return the rows of the signal's records, with resource and scope, as text, because NaN does not equal itself."""
    shared = {row[0]: row[1:] for table in SHARED_TABLES for row in batch.tables[table]}
    return [
        repr((*columns, *shared[resource_id], *shared[scope_id]))
        for *columns, resource_id, scope_id in batch.tables[TABLES[batch.signal]]
    ]


def _is_right_for_some(value: object) -> bool:
    """Return whether a value is valid for a message, or a list of messages, without records."""
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, dict) for item in value))


def _positions(document: object, shape: MessageShape) -> list[tuple[Path, int | None]]:
    """Yield every position in a request, with the number of the record around it; None outside records."""
    positions: list[tuple[Path, int | None]] = []
    records = count()

    def walk(node: object, shape: MessageShape | None, path: Path, record: int | None) -> None:
        if path:
            positions.append((path, record))
        if isinstance(node, dict):
            for key, value in node.items():
                field = shape.fields_by_name.get(key) if shape else None
                walk(value, field.message if field else None, (*path, key), record)
        elif isinstance(node, list):
            for index, item in enumerate(node):
                starts = record is None and shape is not None and shape.is_record
                walk(item, shape, (*path, index), next(records) if starts else record)

    walk(document, shape, (), None)
    return positions


def _texts(message: Message) -> Iterator[tuple[Message, str]]:
    """Yield every text field of a message and its nested messages."""
    for field in message.DESCRIPTOR.fields:
        chosen = field.containing_oneof is None or message.WhichOneof(field.containing_oneof.name) == field.name
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and chosen:
            yield message, field.name
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for child in value if field.is_repeated else [value]:
                yield from _texts(child)


@pytest.mark.slow
@given(request=_requests, value=_values, data=st.data())
@_quiet
def test_an_invalid_json_value_affects_no_other_record(request: Message, value: object, data: st.DataObject) -> None:
    """Whatever replaces one value of a request, all other records are stored unchanged."""
    signal = _signal(request)
    document = to_otlp_json(request)
    positions = _positions(document, signal.shape)
    assume(positions)
    path, record = data.draw(st.sampled_from(positions))
    before = _rows(_read_json(signal, document))
    parent: Any = document
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value

    try:
        batch = _read_json(signal, document)
    except MalformedError:
        assert len(path) <= 2  # nothing else is in the request
        return

    after = _rows(batch)
    if record is not None:
        rest = len(before) - record - 1
        assert len(after) + batch.problems.rejected.total() == len(before)
        assert after[:record] == before[:record]
        assert after[len(after) - rest :] == before[len(before) - rest :]
    elif len(after) < len(before) and not _is_right_for_some(value):
        assert batch.problems.rejected.total()


@pytest.mark.slow
@given(request=_requests, data=st.data())
@_quiet
def test_invalid_utf_8_is_repaired(request: Message, data: st.DataObject) -> None:
    """In any field, the text is stored with U+FFFD, the rest unchanged, and the message names the field."""
    signal = _signal(request)
    slots = [*_texts(request)]
    assume(slots)
    owner, field = data.draw(st.sampled_from(slots))
    setattr(owner, field, MARK.decode())
    body = request.SerializeToString()
    before = decode(request, RECEIVED)

    batch = _read_protobuf(signal, body.replace(MARK, b"\xff" * len(MARK)))

    assert batch.accepted == before.accepted
    assert not batch.problems.rejected
    place = f"{owner.DESCRIPTOR.name}.{field}"
    assert batch.problems.message == f"1 texts are not valid Unicode: repaired with U+FFFD ({place})"
    if signal is not METRICS:  # their attributes are sorted, and hashed
        assert _rows(batch) == [row.replace(MARK.decode(), "\ufffd" * len(MARK)) for row in _rows(before)]


def _span(**fields: object) -> dict[str, object]:
    return {"traceId": TRACE, "spanId": SPAN, "startTimeUnixNano": "1", "endTimeUnixNano": "2", **fields}


def _value(**value: object) -> dict[str, object]:
    return {"attributes": [{"key": "a", "value": value}]}


def _deep(depth: int) -> dict[str, object]:
    value: dict[str, object] = {"intValue": 1}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


_LEFT_OUT = "values are omitted: wrong type, out of range, or nested too deeply"


@pytest.mark.parametrize(
    ("invalid_fields", "rejected", "message"),
    [
        ({"traceId": "550e8400-e29b-41d4-a716-446655440000"}, 1, "1 rejected: trace_id is not 16 bytes"),
        ({"spanId": "undefined"}, 1, "1 rejected: span_id is not 8 bytes"),
        ({"spanId": 7}, 1, "1 rejected: span_id is not 8 bytes"),
        ({"parentSpanId": "N/A"}, 1, "1 rejected: parent_span_id is neither empty nor 8 bytes"),
        ({"traceId": TRACE[:16] + " " + TRACE[16:]}, 1, "1 rejected: trace_id is not 16 bytes"),
        ({"links": [{"traceId": TRACE, "spanId": "N/A"}]}, 0, "1 links stored without trace or span ID"),
        ({"startTimeUnixNano": -1}, 1, "1 rejected: a value has the wrong type, or is out of range"),
        ({"startTimeUnixNano": "soon"}, 1, "(Span.start_time_unix_nano)"),
        ({"startTimeUnixNano": str(2**63)}, 1, "1 rejected: a time is after the year 2262"),
        ({"flags": True}, 1, "(Span.flags)"),
        ({"attributes": "none"}, 1, "(Span.attributes)"),
        ({"events": [{"timeUnixNano": 1.5}]}, 1, "(Event.time_unix_nano)"),
        ({"name": 5}, 0, f"1 {_LEFT_OUT} (Span.name)"),
        ({"kind": "SPAN_KIND_OF_ITS_OWN"}, 0, f"1 {_LEFT_OUT} (Span.kind)"),
        ({"kind": 2**40}, 0, f"1 {_LEFT_OUT} (Span.kind)"),
        (_value(intValue=1e300), 0, f"1 {_LEFT_OUT} (AnyValue.int_value)"),
        (_value(intValue="1e300"), 0, f"1 {_LEFT_OUT} (AnyValue.int_value)"),
        (_value(boolValue="true"), 0, f"1 {_LEFT_OUT} (AnyValue.bool_value)"),
        (_value(bytesValue="é"), 0, f"1 {_LEFT_OUT} (AnyValue.bytes_value)"),
        (_value(stringValue="a", intValue=1), 0, f"1 {_LEFT_OUT} (AnyValue.int_value)"),
        (_value(**_deep(200)), 0, f"1 {_LEFT_OUT}"),
        ({"name": "cut \ud83d"}, 0, "1 texts are not valid Unicode: repaired with U+FFFD (Span.name)"),
        (_value(stringValue="\ud83d"), 0, "repaired with U+FFFD (AnyValue.string_value)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_message_names_the_invalid_field(invalid_fields: dict[str, object], rejected: int, message: str) -> None:
    """Of two spans one is valid and stored, and the message names the field of the other."""
    spans = [_span(name="good"), _span(**invalid_fields)]
    batch = _read_json(TRACES, {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})

    assert (batch.accepted, batch.problems.rejected.total()) == (2 - rejected, rejected)
    assert message in batch.problems.message


@pytest.mark.parametrize("item", [None, 5, "span", []], ids=repr)
def test_an_item_that_is_not_a_record_is_rejected(item: object) -> None:
    """Items of a list of records that are not records are counted, the others are stored."""
    batch = _read_json(TRACES, {"resourceSpans": [{"scopeSpans": [{"spans": [_span(), item, _span()]}]}]})

    assert (batch.accepted, dict(batch.problems.rejected)) == (2, {"shape": 1})


def test_an_invalid_scope_affects_no_other_scope() -> None:
    """Its records cannot be counted: it counts as one."""
    document = {"resourceSpans": [{"scopeSpans": ["?", {"spans": [_span()]}, {"spans": {"a": 1}}]}]}
    batch = _read_json(TRACES, document)

    assert (batch.accepted, dict(batch.problems.rejected)) == (1, {"shape": 2})


def test_a_metric_of_two_types_keeps_the_first() -> None:
    """A second type of data is reported."""
    metric = {"name": "m", "gauge": {"dataPoints": [{"asInt": 1}]}, "sum": {"dataPoints": [{"asInt": 2}]}}
    batch = _read_json(METRICS, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})

    assert (batch.accepted, dict(batch.problems.rejected)) == (1, {"shape": 1})


def test_a_point_with_an_invalid_value_is_rejected() -> None:
    """Without its value it would mean that nothing was recorded."""
    points = [{"asInt": "1e300"}, {"asInt": 1}]
    metric = {"name": "m", "gauge": {"dataPoints": points}}
    batch = _read_json(METRICS, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})

    assert (batch.accepted, dict(batch.problems.rejected)) == (1, {"value": 1})


def test_invalid_ids_of_log_records_and_exemplars_are_omitted() -> None:
    """An invalid trace ID rejects neither the record nor the point."""
    logs = _read_json(LOGS, {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "N/A"}, {}]}]}]})
    point = {"asInt": 1, "exemplars": [{"asInt": 1, "traceId": "N/A"}]}
    metric = {"name": "m", "gauge": {"dataPoints": [point]}}
    points = _read_json(METRICS, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})

    for batch in (logs, points):
        assert not batch.problems.rejected
        assert batch.problems.message.startswith("1 stored without trace or span ID")


def test_texts_of_a_resource_are_repaired() -> None:
    """No record is rejected because of its resource."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "s\udc00"}}]}
    document = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [_span()]}]}]}
    (row,) = _read_json(TRACES, document).tables["spans"]

    assert "s\ufffd" in row


def test_json_in_another_encoding_is_repaired() -> None:
    """A body in another encoding keeps its ASCII characters."""
    document = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [_span(name="cafe")]}]}]}).encode()
    problems = Problems()
    body = document.replace(b"cafe", b"caf\xe9")
    request: Any = otlp_json.parse(body, TRACES.request_type, TRACES.shape, unlimited(), problems)

    assert request.resource_spans[0].scope_spans[0].spans[0].name == "caf\ufffd"
    assert problems.warnings == {"text": 1}


def test_an_invalid_record_affects_no_other() -> None:
    """Invalid bytes inside a record reject it; the other records are stored."""
    spans = [span(name=name) for name in ("first", MARK.decode(), "last")]
    body = trace_request(*spans).SerializeToString()
    batch = _read_protobuf(TRACES, body.replace(bytes([len(MARK)]) + MARK, b"\x7f" + MARK))

    assert [row[6] for row in batch.tables["spans"]] == ["first", "last"]
    assert dict(batch.problems.rejected) == {"wire": 1}


def test_an_invalid_attribute_value_is_omitted() -> None:
    """Invalid bytes inside an attribute value omit the value."""
    inner = AnyValue(string_value=MARK.decode()).SerializeToString()
    body = trace_request(span(attributes=[attribute("a", MARK.decode())])).SerializeToString()
    batch = _read_protobuf(TRACES, body.replace(inner, b"\x0a\x7f" + inner[2:]))

    assert batch.tables["spans"][0][13] == '{"a":null}'
    assert batch.problems.warnings == {"value": 1}


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of protobuf's wire format."""
    length = len(content)
    size = bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def test_a_value_that_is_nested_too_deeply_is_omitted() -> None:
    """protobuf's parser accepts 100 nested messages; the record around the value is stored."""
    value = AnyValue(int_value=1).SerializeToString()
    for _ in range(100):
        value = _field(5, _field(1, value))  # AnyValue.array_value, ArrayValue.values
    deep = span(name="deep").SerializeToString() + _field(9, _field(1, b"a") + _field(2, value))  # an attribute
    spans = _field(2, deep) + _field(2, span(name="good").SerializeToString())
    batch = _read_protobuf(TRACES, _field(1, _field(2, spans)))

    assert [row[6] for row in batch.tables["spans"]] == ["deep", "good"]
    assert batch.problems.warnings == {"value": 1}


@pytest.mark.parametrize(
    ("type_number", "numbers"),
    [
        (9, _field(6, bytes(15))),
        (9, _field(7, bytes(9))),
        (10, _field(8, _field(2, b"\x01\x80"))),
        (10, _field(8, b"\x08" + b"\xff" * 10)),
    ],
    ids=["bucket_counts", "explicit_bounds", "packed varints", "a varint of more than 64 bits"],
)
def test_truncated_numbers_reject_only_their_data_point(type_number: int, numbers: bytes) -> None:
    """A point with a packed list that ends inside a number is rejected."""
    points = [NumberDataPoint(time_unix_nano=time).SerializeToString() for time in (1, 2, 3)]
    points[1] += numbers
    metric = _field(1, b"m") + _field(type_number, b"".join(_field(1, point) for point in points))
    batch = _read_protobuf(METRICS, _field(1, _field(2, _field(2, metric))))

    assert [row[10] for row in batch.tables["metric_points"]] == [1, 3]
    assert dict(batch.problems.rejected) == {"wire": 1}


_OLD_SCOPES = {"instrumentationLibrarySpans": [{"spans": [_span()]}]}


@pytest.mark.parametrize(
    ("signal", "document", "stored", "place"),
    [
        (TRACES, {"resourceSpans": [_OLD_SCOPES]}, 0, "ResourceSpans"),
        (TRACES, {"resourceSpans": [{"scopeSpans": [{"spans": [_span()]}]}, _OLD_SCOPES]}, 1, "ResourceSpans"),
        (LOGS, {"resourceLogs": [{"scopeLogs": [{"logs": [{}]}]}]}, 0, "ScopeLogs"),
        (
            METRICS,
            {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"intSum": {"dataPoints": [1]}}]}]}]},
            0,
            "Metric",
        ),
    ],
    ids=["an old request", "an old and a new one", "an unknown list of records", "an old type of metric"],
)
def test_unknown_fields_in_place_of_records_are_reported(
    signal: Signal, document: dict[str, Any], stored: int, place: str
) -> None:
    """Their records are not stored, so the response has a rejected record, in JSON and in protobuf."""
    batch = _read_json(signal, document)

    assert (batch.accepted, dict(batch.problems.rejected)) == (stored, {"unknown": 1})
    assert f"unknown fields, which are not stored ({place})" in batch.problems.message


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_unknown_protobuf_fields_in_place_of_records_are_reported(depth: int) -> None:
    """OTLP before 0.19 has its scopes in field 1000 of a resource."""
    body = b"\xc2\x3e" + bytes([len(MARK)]) + MARK  # field 1000
    for _ in range(depth - 1):
        body = _field(2, body)
    problems = Problems()
    batch = decode(METRICS.request_type.FromString(_field(1, body)), RECEIVED, problems=problems)

    assert (batch.accepted, dict(problems.rejected)) == (0, {"unknown": 1})


def test_unknown_fields_next_to_records_are_ignored() -> None:
    """A later version of OTLP may have more fields."""
    later = {"later": [1]}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [_span(**later)], **later}], **later}], **later}
    batch = _read_json(TRACES, document)

    assert (batch.accepted, batch.problems.message) == (1, "")


@pytest.mark.parametrize("document", [{"spans": []}, {"resource": {}}, {"\udc00": 1}, {"resourceLogs": []}], ids=ascii)
def test_json_without_a_request_field_is_malformed(document: dict[str, object]) -> None:
    """A response of 200 would claim that it is stored."""
    with pytest.raises(MalformedError, match="this path accepts resourceSpans"):
        _read_json(TRACES, document)


def test_an_empty_object_is_a_request_without_records() -> None:
    """It equals an empty protobuf body."""
    assert _read_json(TRACES, {}).accepted == 0


@pytest.mark.parametrize(
    "damage", [lambda body: body[:-1], lambda body: b"\xff" * 12 + body, lambda body: b"\x0b" + body]
)
def test_an_invalid_request_is_malformed(damage: Any) -> None:
    """Errors around the records cannot be counted, so nothing is stored or acknowledged."""
    with pytest.raises(MalformedError):
        _read_protobuf(TRACES, damage(trace_request().SerializeToString()))
