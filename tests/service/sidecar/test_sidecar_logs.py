"""Log records encoded from records equal those of the SDK's logging handler."""

import logging
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.sidecar.encode.protobuf import MAX_REQUEST_BYTES
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.telemetry.logging import add_access_attributes
from modeltrace.telemetry.records.prediction import (
    ACCESS_LOGGER,
    DATA_LOGGER,
    PREDICTION_LOGGER,
    Origin,
    RequestRecord,
    Value,
)
from tests.helpers.factories import RESOURCE, lookalike_requests, request_record
from tests.helpers.log_records import access_record, data_records, prediction_records, server_span
from tests.helpers.strategies import replace_surrogates, traffic

INT64 = range(-(1 << 63), 1 << 63)
GRPC_LIMIT = 4 * 1024 * 1024


def sdk_logs(records: list[RequestRecord], logger: str) -> ExportLogsServiceRequest:
    """Return the export request of the SDK for the records of one logger."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = LoggingHandler(logger_provider=provider)
    handler.addFilter(add_access_attributes)
    times = []
    for request in records:
        with server_span(request):
            for time, record in log_records(request, logger):
                handler.handle(record)
                times.append(time)
    finished = exporter.get_finished_logs()
    for time, entry in zip(times, finished, strict=True):
        # The handler reads the time from a float, which does not have the precision of nanoseconds.
        assert abs((entry.log_record.timestamp or 0) - time) < 1000
        entry.log_record.timestamp = entry.log_record.observed_timestamp = time
    return encode_logs(finished)


def log_records(request: RequestRecord, logger: str) -> Iterator[tuple[int, logging.LogRecord]]:
    """Yield the records that a request writes to one logger, with their times."""
    if logger == PREDICTION_LOGGER:
        times = [row.time for row in request.predictions]
        yield from zip(times, prediction_records(request), strict=True)
    elif logger == DATA_LOGGER:
        yield from ((request.validate_end, record) for record in data_records(request))
    elif request.status:
        yield request.end, access_record(request)


def with_decimals(request: RequestRecord) -> RequestRecord:
    """Replace integers beyond 64 bits by text: the SDK's encoder would drop all inputs."""

    def decimals(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(str(value) if isinstance(value, int) and value not in INT64 else value for value in values)

    answered = (
        row._replace(inputs=decimals(row.inputs), outputs=None if row.outputs is None else decimals(row.outputs))
        for row in request.predictions
    )
    return request._replace(predictions=tuple(answered))


def parsed(parts: list[tuple[bytes, int]]) -> ExportLogsServiceRequest:
    """Parse at most one export request."""
    assert len(parts) <= 1
    return ExportLogsServiceRequest.FromString(b"".join(body for body, _ in parts))


def records_of(parts: list[tuple[bytes, int]]) -> list[LogRecord]:
    """Return the log records of all export requests."""
    return [
        record
        for body, _ in parts
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def inputs_of(record: LogRecord) -> dict[str, object]:
    """Return the inputs of a prediction log record; None for a missing value."""
    (inputs,) = (a.value.kvlist_value.values for a in record.attributes if a.key == "ml.prediction.inputs")
    return {i.key: getattr(i.value, i.value.WhichOneof("value") or "", None) for i in inputs}


def test_scopes_are_the_loggers() -> None:
    """The scopes of log records have the documented names of the loggers."""
    assert (PREDICTION_LOGGER, DATA_LOGGER) == ("modeltrace.prediction", "modeltrace.data")
    assert logging.getLogger(ACCESS_LOGGER).name == "uvicorn.access"


@pytest.mark.slow
@settings(deadline=None)
@given(traffic())
@example(lookalike_requests())
def test_prediction_log_records_are_those_of_the_sdk(recorded: tuple[Origin, list[RequestRecord]]) -> None:
    """All fields and the order of attributes are equal, for sampled and unsampled requests."""
    origin, records = recorded
    parts = LogEncoder(origin).predictions(records)

    expected = sdk_logs([with_decimals(replace_surrogates(request)) for request in records], PREDICTION_LOGGER)
    assert sum(number for _, number in parts) == sum(len(request.predictions) for request in records)
    assert parsed(parts).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.slow
@settings(deadline=None)
@given(traffic())
def test_violation_log_records_are_those_of_the_sdk(recorded: tuple[Origin, list[RequestRecord]]) -> None:
    """Feature, reason and number of rows are attributes and text; 32 violations per request are logged."""
    origin, records = recorded
    parts = LogEncoder(origin).violations(records)

    expected = sdk_logs(list(map(replace_surrogates, records)), DATA_LOGGER)
    assert sum(number for _, number in parts) == sum(min(len(request.violations), 32) for request in records)
    assert parsed(parts).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.slow
@settings(deadline=None)
@given(traffic())
@example(lookalike_requests())
def test_access_log_records_are_those_of_the_sdk(recorded: tuple[Origin, list[RequestRecord]]) -> None:
    """The body is uvicorn's message, its arguments are attributes; a request without a response has no record."""
    origin, records = recorded
    parts = LogEncoder(origin).access(records)

    expected = sdk_logs(list(map(replace_surrogates, records)), ACCESS_LOGGER)
    assert sum(number for _, number in parts) == sum(request.status != 0 for request in records)
    assert parsed(parts).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(traffic())
@example(lookalike_requests())
def test_caches_do_not_change_the_encoding(recorded: tuple[Origin, list[RequestRecord]]) -> None:
    """An encoder that has encoded a record before returns the same bytes as a new one."""
    origin, records = recorded
    used = LogEncoder(origin)
    used.predictions(records)
    used.access(records)
    for request in records:
        assert used.predictions([request]) == LogEncoder(origin).predictions([request])
        assert used.access([request]) == LogEncoder(origin).access([request])


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_float_inputs_are_encoded_for_any_number_of_features(features: int, data: st.DataObject) -> None:
    """The template is correct for lengths that need one, two or three bytes."""
    origin, request = request_record(features)
    inputs = tuple(data.draw(st.lists(st.floats(allow_nan=False), min_size=features, max_size=features)))
    record_with_inputs = request._replace(predictions=(request.predictions[0]._replace(inputs=inputs),))

    (record,) = records_of(LogEncoder(origin).predictions([record_with_inputs]))
    assert inputs_of(record) == dict(zip(request.model.features, inputs, strict=True))


def test_an_integer_beyond_64_bits_is_written_as_decimal_text() -> None:
    """The SDK's encoder would drop all inputs."""
    origin, request = request_record(5)
    inputs: tuple[Value, ...] = (1 << 63, (1 << 63) - 1, -(1 << 63), -(1 << 63) - 1, None)
    record_with_inputs = request._replace(predictions=(request.predictions[0]._replace(inputs=inputs),))

    (record,) = records_of(LogEncoder(origin).predictions([record_with_inputs]))
    assert list(inputs_of(record).values()) == [str(1 << 63), (1 << 63) - 1, -(1 << 63), str(-(1 << 63) - 1), None]


def test_without_a_trace_a_log_record_has_no_ids() -> None:
    """Neither zeros nor a span ID without a trace ID are written."""
    origin, request = request_record()
    untraced = request._replace(trace_id=bytes(16), trace_flags=0)

    for parts in (LogEncoder(origin).predictions([untraced]), LogEncoder(origin).access([untraced])):
        (record,) = records_of(parts)
        assert (record.trace_id, record.span_id, record.flags) == (b"", b"", 0)


def test_a_large_request_is_split_within_the_limit_of_receivers() -> None:
    """10,000 rows of 30 features make several complete export requests with all rows in order."""
    origin, request = request_record()
    (row,) = request.predictions
    rows = tuple(row._replace(row_index=number) for number in range(10_000))
    parts = LogEncoder(origin).predictions([request._replace(is_batch=True, rows=10_000, predictions=rows)])

    assert len(parts) > 1
    assert all(len(body) <= MAX_REQUEST_BYTES < GRPC_LIMIT for body, _ in parts)
    assert [number for _, number in parts] == [len(records_of([part])) for part in parts]
    row_numbers = [a.value.int_value for r in records_of(parts) for a in r.attributes if a.key == "ml.prediction.row"]
    assert row_numbers == list(range(10_000))


def test_a_request_never_exceeds_the_limit() -> None:
    """The limit includes the fields around the log records."""
    origin, request = request_record()

    for limit in range(4000, 6000, 5):
        parts = LogEncoder(origin, max_bytes=limit).predictions([request] * 5)
        assert all(len(body) <= limit for body, _ in parts)


def test_a_record_beyond_the_limit_has_a_request_of_its_own() -> None:
    """A receiver may reject the large record without the others."""
    origin, request = request_record()
    (row,) = request.predictions
    large = row._replace(inputs=("x" * 2000, *row.inputs[1:]))
    encoder = LogEncoder(origin, max_bytes=2000)
    parts = encoder.predictions([request._replace(predictions=(large, row, large, row))])

    assert [number for _, number in parts] == [1, 1, 1, 1]
    assert [len(body) > 2000 for body, _ in parts] == [True, False, True, False]


def test_without_log_records_there_is_no_export_request() -> None:
    """A request without predictions and response makes no export request."""
    origin, request = request_record()
    empty = request._replace(status=0, predictions=())

    assert LogEncoder(origin).predictions([empty]) == LogEncoder(origin).access([empty]) == []


def test_long_texts_of_clients_are_not_cached(caplog: pytest.LogCaptureFixture) -> None:
    """Memory stays bounded whatever clients send: the encoders cache short texts only."""
    caplog.set_level(logging.CRITICAL, "opentelemetry")  # as in the sidecar
    origin, request = request_record()
    logs, spans = LogEncoder(origin), SpanEncoder(origin)
    tracemalloc.start()
    try:
        for number in range(50):
            long = f"{number}" + "x" * 100_000
            (row,) = request.predictions
            record = request._replace(
                user_agent=long, trace_state=long, predictions=(row._replace(inputs=(long, *row.inputs[1:])),)
            )
            for each in (record, request._replace(query=long), request._replace(path=long)):
                logs.predictions([each])
                logs.access([each])
                spans.encode([each])
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert used < 1_000_000
