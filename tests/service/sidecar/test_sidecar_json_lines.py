"""Log lines encoded from records equal, byte for byte, those of the service's log formatter."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings

from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.telemetry.logging import LogWriter, configure_logging
from modeltrace.telemetry.records.prediction import Origin, RequestRecord
from tests.helpers.factories import lookalike_requests, request_record
from tests.helpers.log_records import access_record, data_records, prediction_records, server_span
from tests.helpers.strategies import replace_surrogates, traffic


@pytest.fixture(scope="module")
def lines() -> Iterator[LogWriter]:
    """Configure the real log handler and formatter; restore stdlib logging afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    lines = configure_logging(level="INFO")
    yield lines
    lines.close()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def formatted_lines(lines: LogWriter, requests: list[RequestRecord]) -> bytes:
    """Return the lines that the log writer writes for requests."""
    (sink,) = lines.listener.handlers
    written = []
    for request in requests:
        records = [*data_records(request), *prediction_records(request)]
        if request.status:
            records.append(access_record(request))
        with server_span(request):
            for record in records:
                lines.handler.filter(record)
                written.append(sink.format(lines.handler.prepare(record)).encode() + b"\n")
    return b"".join(written)


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recorded=traffic())
@example(recorded=lookalike_requests())
def test_lines_are_those_of_the_formatter(lines: LogWriter, recorded: tuple[Origin, list[RequestRecord]]) -> None:
    """Keys, their order, values and times are equal."""
    _, requests = recorded

    assert LineEncoder().encode(requests) == formatted_lines(lines, list(map(replace_surrogates, requests)))


def test_predictions_precede_the_access_line() -> None:
    """Each predicted row has a line, then the request; each line ends with a newline."""
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
    """Without a trace the fields of the IDs are omitted."""
    _, request = request_record()
    untraced = request._replace(trace_id=bytes(16))

    for line in LineEncoder().encode([untraced]).splitlines():
        assert {"trace_id", "span_id"}.isdisjoint(json.loads(line))


def test_an_integer_of_any_size_is_written_in_full() -> None:
    """orjson alone would reject such an integer."""
    _, request = request_record(3)
    inputs = (1 << 64, -(1 << 70), True)
    record = request._replace(predictions=(request.predictions[0]._replace(inputs=inputs),))

    prediction_line, _ = LineEncoder().encode([record]).splitlines()
    assert tuple(json.loads(prediction_line)["ml.prediction.inputs"].values()) == inputs


def test_the_encoders_load_nothing_heavy() -> None:
    """The encoders import neither libraries of models, nor the web framework, nor the SDK."""
    modules = "modeltrace.sidecar.encode.json_lines, modeltrace.sidecar.encode.logs, modeltrace.sidecar.encode.spans"
    program = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"sklearn", "numpy", "pandas", "fastapi", "starlette", "pydantic", "opentelemetry.sdk", "google.protobuf"}
    assert heavy.isdisjoint(loaded)
