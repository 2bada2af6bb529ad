"""Log lines from records are, byte for byte, those of the line handler and its formatter."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings

from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.telemetry.logging import LogWriter, configure_logging
from modeltrace.telemetry.records.prediction import Origin, RequestRecord, Value
from tests.helpers.factories import lookalike_requests, request_record
from tests.helpers.log_records import access_record, audit_records, data_records, server_span
from tests.helpers.strategies import replace_surrogates, traffic

JSON_INTEGERS = range(-(1 << 63), 1 << 64)  # that the formatter can write


@pytest.fixture(scope="module")
def lines() -> Iterator[LogWriter]:
    """The real line handler and formatter; stdlib logging is left as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    lines = configure_logging(level="INFO")
    yield lines
    lines.close()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def stock(lines: LogWriter, asked: list[RequestRecord]) -> bytes:
    """What the line thread writes of the same requests."""
    (sink,) = lines.listener.handlers
    written = []
    for request in asked:
        records = [*data_records(request), *audit_records(request)]
        if request.status:
            records.append(access_record(request))
        with server_span(request):
            for record in records:
                lines.handler.filter(record)
                written.append(sink.format(lines.handler.prepare(record)).encode() + b"\n")
    return b"".join(written)


def writable(value: Value) -> Value:
    """The same, unless it is an integer that the formatter refuses."""
    return value if not isinstance(value, int) or value in JSON_INTEGERS else 0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(known=traffic())
@example(known=lookalike_requests())
def test_lines_are_those_of_the_formatter(lines: LogWriter, known: tuple[Origin, list[RequestRecord]]) -> None:
    """Keys, their order, values and times: whoever reads the lines sees no difference."""
    _, asked = known
    asked = [
        request._replace(
            predictions=tuple(row._replace(inputs=tuple(map(writable, row.inputs))) for row in request.predictions)
        )
        for request in asked
    ]

    assert LineEncoder().encode(asked) == stock(lines, list(map(replace_surrogates, asked)))


def test_a_request_is_its_predictions_and_then_its_access_line() -> None:
    """One line an answered row, one for the request, each ending in a newline."""
    _, request = request_record()
    (row,) = request.predictions
    written = LineEncoder().encode([request._replace(predictions=(row, row)), request._replace(status=0)])

    assert written.endswith(b"\n")
    assert [json.loads(line)["logger"] for line in written.splitlines()] == [
        "modeltrace.prediction",
        "modeltrace.prediction",
        "uvicorn.access",
        "modeltrace.prediction",
    ]


def test_without_a_trace_a_line_has_no_ids() -> None:
    """No trace is said by leaving it out, never by zeros."""
    _, request = request_record()
    outside = request._replace(trace_id=bytes(16))

    for line in LineEncoder().encode([outside]).splitlines():
        assert {"trace_id", "span_id"}.isdisjoint(json.loads(line))


def test_an_integer_of_any_size_is_written_in_full() -> None:
    """The formatter would refuse it, and the line would be lost."""
    _, request = request_record(3)
    inputs = (1 << 64, -(1 << 70), True)
    asked = request._replace(predictions=(request.predictions[0]._replace(inputs=inputs),))

    audit, _ = LineEncoder().encode([asked]).splitlines()
    assert tuple(json.loads(audit)["ml.prediction.inputs"].values()) == inputs


def test_the_encoders_load_nothing_heavy() -> None:
    """The helper process starts without the model's libraries, the web framework and the SDK."""
    modules = "modeltrace.sidecar.encode.json_lines, modeltrace.sidecar.encode.logs, modeltrace.sidecar.encode.spans"
    program = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"sklearn", "numpy", "pandas", "fastapi", "starlette", "pydantic", "opentelemetry.sdk", "google.protobuf"}
    assert heavy.isdisjoint(loaded)
