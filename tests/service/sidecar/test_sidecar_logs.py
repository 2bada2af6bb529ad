"""Log records from records are what the stock logging handler sends of the same audit, data and access lines."""

import logging
import tracemalloc
from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from modeltrace.sidecar.encode.logs import MAX_REQUEST_BYTES, LogEncoder
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.telemetry.logging import AccessLogAttributes
from modeltrace.telemetry.records.prediction import (
    ACCESS_LOGGER,
    DATA_LOGGER,
    PREDICTION_LOGGER,
    Origin,
    RequestRecord,
    Value,
)
from tests.helpers.factories import RESOURCE, lookalike_requests, request_record
from tests.helpers.log_records import access_record, audit_records, data_records, server_span
from tests.helpers.strategies import replace_surrogates, traffic

INT64 = range(-(1 << 63), 1 << 63)
GRPC_LIMIT = 4 * 1024 * 1024


def stock(asked: list[RequestRecord], logger: str) -> ExportLogsServiceRequest:
    """What the stock handler and exporter send of the records of one logger."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = LoggingHandler(logger_provider=provider)
    handler.addFilter(AccessLogAttributes())
    times = []
    for request in asked:
        with server_span(request):
            for time, record in log_records(request, logger):
                handler.handle(record)
                times.append(time)
    sent = exporter.get_finished_logs()
    for time, entry in zip(times, sent, strict=True):
        # It reads the time from a float, which ends before the nanoseconds do.
        assert abs((entry.log_record.timestamp or 0) - time) < 1000
        entry.log_record.timestamp = entry.log_record.observed_timestamp = time
    return encode_logs(sent)


def log_records(request: RequestRecord, logger: str) -> Iterator[tuple[int, logging.LogRecord]]:
    """What one request logged through one logger, and when."""
    if logger == PREDICTION_LOGGER:
        times = [row.time for row in request.predictions]
        yield from zip(times, audit_records(request), strict=True)
    elif logger == DATA_LOGGER:
        yield from ((request.validate_end, record) for record in data_records(request))
    elif request.status:
        yield request.end, access_record(request)


def with_decimals(request: RequestRecord) -> RequestRecord:
    """The same request, with text in the place of integers for which the stock encoder would drop all inputs."""
    answered = (
        row._replace(inputs=tuple(str(v) if isinstance(v, int) and v not in INT64 else v for v in row.inputs))
        for row in request.predictions
    )
    return request._replace(predictions=tuple(answered))


def parsed(pieces: list[tuple[bytes, int]]) -> ExportLogsServiceRequest:
    """One export request of at most one piece."""
    assert len(pieces) <= 1
    return ExportLogsServiceRequest.FromString(b"".join(body for body, _ in pieces))


def records_of(pieces: list[tuple[bytes, int]]) -> list[LogRecord]:
    """The log records of all pieces."""
    return [
        record
        for body, _ in pieces
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def inputs_of(record: LogRecord) -> dict[str, object]:
    """The inputs of an audit record; None for one without a value."""
    (inputs,) = (a.value.kvlist_value.values for a in record.attributes if a.key == "ml.prediction.inputs")
    return {i.key: getattr(i.value, i.value.WhichOneof("value") or "", None) for i in inputs}


def test_scopes_are_the_loggers() -> None:
    """The scopes of log records have the documented names of the loggers."""
    assert (PREDICTION_LOGGER, DATA_LOGGER) == ("modeltrace.prediction", "modeltrace.data")
    assert logging.getLogger(ACCESS_LOGGER).name == "uvicorn.access"


@settings(deadline=None)
@given(traffic())
@example(lookalike_requests())
def test_audit_records_are_those_of_the_stock_handler(known: tuple[Origin, list[RequestRecord]]) -> None:
    """Every field, every attribute in its order; of all requests, sampled or not."""
    origin, asked = known
    pieces = LogEncoder(origin).predictions(asked)

    expected = stock([with_decimals(replace_surrogates(request)) for request in asked], PREDICTION_LOGGER)
    assert sum(number for _, number in pieces) == sum(len(request.predictions) for request in asked)
    assert parsed(pieces).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@settings(deadline=None)
@given(traffic())
def test_records_of_violations_are_those_of_the_stock_handler(known: tuple[Origin, list[RequestRecord]]) -> None:
    """Feature, reason and number of rows, as attributes and in words; of the first 32 kinds of a request."""
    origin, asked = known
    pieces = LogEncoder(origin).violations(asked)

    expected = stock(list(map(replace_surrogates, asked)), DATA_LOGGER)
    assert sum(number for _, number in pieces) == sum(min(len(request.violations), 32) for request in asked)
    assert parsed(pieces).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@settings(deadline=None)
@given(traffic())
@example(lookalike_requests())
def test_access_records_are_those_of_the_stock_handler(known: tuple[Origin, list[RequestRecord]]) -> None:
    """uvicorn's line as the body, its arguments as attributes; none of a request that was never answered."""
    origin, asked = known
    pieces = LogEncoder(origin).access(asked)

    expected = stock(list(map(replace_surrogates, asked)), ACCESS_LOGGER)
    assert sum(number for _, number in pieces) == sum(request.status != 0 for request in asked)
    assert parsed(pieces).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@settings(deadline=None, max_examples=30)
@given(traffic())
@example(lookalike_requests())
def test_what_is_kept_from_earlier_records_changes_nothing(known: tuple[Origin, list[RequestRecord]]) -> None:
    """A record is encoded alike by an encoder that has seen it before and by one that has not."""
    origin, asked = known
    used = LogEncoder(origin)
    used.predictions(asked)
    used.access(asked)
    for request in asked:
        assert used.predictions([request]) == LogEncoder(origin).predictions([request])
        assert used.access([request]) == LogEncoder(origin).access([request])


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_inputs_of_floats_come_back_whatever_their_number(features: int, data: st.DataObject) -> None:
    """What is between the numbers stays what it is when names make lengths of one, two or three bytes."""
    origin, request = request_record(features)
    inputs = tuple(data.draw(st.lists(st.floats(allow_nan=False), min_size=features, max_size=features)))
    asked = request._replace(predictions=(request.predictions[0]._replace(inputs=inputs),))

    (record,) = records_of(LogEncoder(origin).predictions([asked]))
    assert inputs_of(record) == dict(zip(request.model.features, inputs, strict=True))


def test_an_integer_beyond_64_bits_is_written_in_decimals() -> None:
    """The stock encoder would drop all inputs for it."""
    origin, request = request_record(5)
    inputs: tuple[Value, ...] = (1 << 63, (1 << 63) - 1, -(1 << 63), -(1 << 63) - 1, None)
    asked = request._replace(predictions=(request.predictions[0]._replace(inputs=inputs),))

    (record,) = records_of(LogEncoder(origin).predictions([asked]))
    assert list(inputs_of(record).values()) == [str(1 << 63), (1 << 63) - 1, -(1 << 63), str(-(1 << 63) - 1), None]


def test_without_a_trace_there_are_no_ids() -> None:
    """Zeros are no ID, and a span ID without a trace leads nowhere."""
    origin, request = request_record()
    outside = request._replace(trace_id=bytes(16), trace_flags=0)

    for pieces in (LogEncoder(origin).predictions([outside]), LogEncoder(origin).access([outside])):
        (record,) = records_of(pieces)
        assert (record.trace_id, record.span_id, record.flags) == (b"", b"", 0)


def test_a_huge_request_is_cut_into_pieces_that_a_receiver_takes() -> None:
    """10,000 rows of 30 features are several export requests, each whole, and no row is lost or out of order."""
    origin, request = request_record()
    (row,) = request.predictions
    rows = tuple(row._replace(row_index=number) for number in range(10_000))
    pieces = LogEncoder(origin).predictions([request._replace(is_batch=True, rows=10_000, predictions=rows)])

    assert len(pieces) > 1
    assert all(len(body) <= MAX_REQUEST_BYTES < GRPC_LIMIT for body, _ in pieces)
    assert [number for _, number in pieces] == [len(records_of([piece])) for piece in pieces]
    written = [a.value.int_value for r in records_of(pieces) for a in r.attributes if a.key == "ml.prediction.row"]
    assert written == list(range(10_000))


def test_a_piece_never_exceeds_the_limit() -> None:
    """What is around the records counts, too."""
    origin, request = request_record()
    encoder = LogEncoder(origin)

    for limit in range(4000, 6000):
        assert all(len(body) <= limit for body, _ in encoder.predictions([request] * 5, limit))


def test_a_record_beyond_the_limit_is_sent_alone() -> None:
    """It is for the receiver to refuse it; what is beside it gets through."""
    origin, request = request_record()
    (row,) = request.predictions
    large = row._replace(inputs=("x" * 2000, *row.inputs[1:]))
    pieces = LogEncoder(origin).predictions([request._replace(predictions=(large, row, large, row))], max_bytes=2000)

    assert [number for _, number in pieces] == [1, 1, 1, 1]
    assert [len(body) > 2000 for body, _ in pieces] == [True, False, True, False]


def test_no_records_are_no_request() -> None:
    """There is nothing to send, not even an envelope."""
    origin, request = request_record()
    unanswered = request._replace(status=0, predictions=())

    assert LogEncoder(origin).predictions([unanswered]) == LogEncoder(origin).access([unanswered]) == []


def test_long_texts_of_clients_are_not_kept() -> None:
    """Memory stays flat whatever clients send: what the encoders remember of requests is short."""
    origin, request = request_record()
    logs, spans = LogEncoder(origin), SpanEncoder(origin)
    tracemalloc.start()
    try:
        for number in range(50):
            long = f"{number}" + "x" * 100_000
            (row,) = request.predictions
            asked = request._replace(
                user_agent=long, trace_state=long, predictions=(row._replace(inputs=(long, *row.inputs[1:])),)
            )
            for one in (asked, request._replace(query=long), request._replace(path=long)):
                logs.predictions([one])
                logs.access([one])
                spans.encode([one])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 1_000_000
