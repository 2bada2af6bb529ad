"""Log lines that cannot be written are dropped, and their number is reported."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.sidecar.log_writer import MAX_QUEUED_CHUNKS, LineWriter
from modeltrace.telemetry.export.protocol import (
    LINES_DROPPED,
    RECORDS,
    SidecarConfig,
    SidecarEvent,
    hello,
    read_frames,
    write_frame,
)
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, encode
from tests.helpers.factories import request_record

CONFIG = SidecarConfig({}, 0.1, 1.0, "", 0, "INFO", "", 0, 0)
LINES = MAX_QUEUED_CHUNKS + 2000  # a pipe buffers about 800 of these lines
LINE = b"x" * 79 + b"\n"


@contextmanager
def stdout_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Make standard output a pipe, and yield its reading end. In a fixture, pytest would replace it before the test."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stdout, monkeypatch.context() as patch, os.fdopen(reading, "rb") as end:
        patch.setattr(sys, "stdout", stdout)
        yield end.fileno()


def test_every_line_is_either_written_or_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody reads, some lines wait. The others are reported at once, and the waiting ones at the end."""
    dropped: list[int] = []
    with stdout_pipe(monkeypatch) as pipe:
        writer = LineWriter(CONFIG, dropped.append)
        for _ in range(LINES):
            writer.enqueue(LINE)
        at_once = sum(dropped)
        assert at_once >= LINES - MAX_QUEUED_CHUNKS - 1000

        writer.stop()
        writer.join(time.monotonic() + 0.05)
        assert len(dropped) == at_once + 1
        assert dropped[-1] > MAX_QUEUED_CHUNKS - 1000
        rest = LINES - sum(dropped)
        received = b""
        while len(received) < rest * len(LINE):
            received += os.read(pipe, 2**16)
    assert received == LINE * rest


def test_nothing_is_reported_if_all_lines_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that keeps up receives every line."""
    dropped: list[int] = []
    with stdout_pipe(monkeypatch) as pipe:
        writer = LineWriter(CONFIG, dropped.append)
        writer.write("a line\n")
        writer.stop()
        writer.join(time.monotonic() + 10)
        assert os.read(pipe, 1000) == b"a line\n"
    assert dropped == []


@pytest.mark.slow
def test_a_sidecar_reports_the_lines_that_it_drops() -> None:
    """Every line is written or counted. The worker receives the number before the sidecar ends."""
    events, events_of_sidecar = os.pipe()
    origin, record = request_record()
    lines = LINES * LineEncoder().encode([record]).count(b"\n")
    chunk = encode(RecordChunk([record], [], []))
    reported: list[SidecarEvent] = []
    with subprocess.Popen(
        [sys.executable, "-m", "modeltrace.sidecar", str(events_of_sidecar)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[events_of_sidecar],
        bufsize=0,
    ) as sidecar:
        os.close(events_of_sidecar)
        assert sidecar.stdin
        assert sidecar.stdout
        reader = threading.Thread(
            target=lambda: reported.extend(SidecarEvent(kind, tuple(fields)) for kind, *fields in read_frames(events))
        )
        reader.start()
        write_frame(sidecar.stdin.fileno(), hello(origin, CONFIG))
        for number in range(LINES):
            write_frame(sidecar.stdin.fileno(), (number + 1, RECORDS, chunk))
        sidecar.stdin.close()
        reader.join()
        written = sidecar.stdout.read().count(b"\n")
    os.close(events)
    dropped = sum(event.fields[0] for event in reported if event.kind == LINES_DROPPED)
    assert dropped > 0
    # The chunk of one request that was being written when the process ended may be incomplete.
    assert lines - lines // LINES <= written + dropped <= lines
