"""Log lines are JSON with the IDs of the request, and never delay it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from opentelemetry.sdk.trace import TracerProvider

from modeltrace.telemetry.logging import LineQueueHandler, LogWriter, configure_logging


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore stdlib logging after each test, and start with its state in a new process."""
    root = logging.getLogger()
    # uvicorn disables its access logger in a process that has run a server without access lines.
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[LogWriter, Path]]:
    """Write log lines to a file."""
    file = tmp_path / "logs" / "service.jsonl"
    lines = configure_logging(level="INFO", log_file=file, max_file_bytes=100_000, max_backups=1)
    yield lines, file
    for sink in lines.listener.handlers:
        sink.close()


def read(file: Path) -> list[dict[str, object]]:
    """Return the lines of a log file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_within_a_span_has_its_ids(log: tuple[LogWriter, Path]) -> None:
    """The IDs are those at the time of the log call, not of writing."""
    lines, file = log
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        logging.getLogger("x").info("hello %s", "you", extra={"a.b": 1})
    lines.close()

    (record,) = read(file)
    assert record["message"] == "hello you"
    assert record["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert record["span_id"] == f"{span.get_span_context().span_id:016x}"
    assert record["a.b"] == 1
    assert record["level"] == "INFO"
    assert record["logger"] == "x"


def test_a_line_outside_a_span_has_no_ids(log: tuple[LogWriter, Path]) -> None:
    """The fields are absent, not zeros."""
    lines, file = log
    logging.getLogger("x").warning("alone")
    lines.close()

    assert "trace_id" not in read(file)[0]


class _Unprintable:
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


def _self_containing() -> list[object]:
    values: list[object] = []
    values += [values, values]
    return values


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**70, 2**70),
        ({"a": (-(2**64), True, 1.5)}, {"a": [-(2**64), True, 1.5]}),
        ("cut \ud83d", "cut \ufffd"),
        ({"\ud83d": ["\udc00"]}, {"\ufffd": ["\ufffd"]}),
        ({(1, 2): 2**64}, {"(1, 2)": 2**64}),
        ({"\ud83d"}, "{'\\ud83d'}"),
        (10**5000, "__could_not_encode__"),
        (_Unprintable(), "__could_not_encode__"),
        ([_Unprintable(), 2**64], ["__could_not_encode__", 2**64]),
        (_self_containing(), "[[...], [...]]"),
    ],
    ids=[
        *("large integer", "nested integer", "surrogate", "surrogate as key", "key that is no text", "set"),
        *("5,000 digits", "no text", "no text in a list", "cycle"),
    ],
)
def test_a_line_has_any_value(log: tuple[LogWriter, Path], value: object, written: object) -> None:
    """orjson rejects these values; the record of a model's own code would be lost."""
    lines, file = log
    logging.getLogger("model").info("loaded \udc00", extra={"a": 1, "value": value, "z\ud83d": "é"})
    lines.close()

    (record,) = read(file)
    assert record["value"] == written
    assert (record["message"], record["a"], record["z\ufffd"]) == ("loaded \ufffd", 1, "é")


def test_an_exception_is_one_line_with_its_stack(log: tuple[LogWriter, Path]) -> None:
    """A stack trace does not break the format of one line per record."""
    lines, file = log
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    lines.close()

    (record,) = read(file)
    assert "ValueError: no" in str(record["exc_info"])


def test_records_after_the_close_are_written(log: tuple[LogWriter, Path]) -> None:
    """The last messages of a shutdown are written although the thread has ended."""
    lines, file = log
    lines.close()
    logging.getLogger("x").info("last words")

    assert read(file)[-1]["message"] == "last words"


def test_an_access_line_has_attributes_of_the_semantic_conventions(log: tuple[LogWriter, Path]) -> None:
    """uvicorn's five arguments become attributes, without the query, which may be private."""
    lines, file = log
    arguments = ("127.0.0.1:5000", "GET", "/model?secret=1", "1.1", 200)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *arguments)
    lines.close()

    (record,) = read(file)
    assert record["client.address"] == "127.0.0.1"
    assert record["http.request.method"] == "GET"
    assert record["url.path"] == "/model"
    assert record["http.response.status_code"] == 200


def test_lines_beyond_the_queue_limit_are_dropped_and_counted() -> None:
    """A full queue does not delay a request."""
    handler = LineQueueHandler(Queue(maxsize=2))
    for _ in range(5):
        handler.handle(logging.makeLogRecord({"msg": "m"}))

    assert handler.dropped == 3
