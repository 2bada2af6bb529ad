"""The writer: atomic, bounded, and able to recover from failures."""

import os
import resource
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from modeltrace_hub.decode.batch import Batch
from modeltrace_hub.errors import QueueFullError, ShuttingDownError, StoreError, UnstorableError, WriteFailedError
from modeltrace_hub.ingest_stats import SignalCounts
from modeltrace_hub.retention import Retention
from modeltrace_hub.store import FILE_NAME, MAX_READERS, Store
from modeltrace_hub.writer import Writer
from tests.helpers.decoding import decode
from tests.helpers.otlp_messages import attribute, log_request, span, trace_request


def _batch(spans: int = 1, size: int = 100) -> Batch:
    return decode(trace_request(*(span() for _ in range(spans))), time.time_ns(), size)


def _bad_batch() -> Batch:
    """Return a batch that the table does not accept; no decoder creates one."""
    return Batch("traces", {"spans": [("not a row",)]})


def _count(store: Store, table: str = "spans") -> int:
    with store.read() as cursor:
        return cursor.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  a fixed name


@pytest.fixture
def idle(store: Store) -> Iterator[Writer]:
    """Yield a writer that is not started, so its queue is not written."""
    writer = Writer(store, Retention(store, max_age=timedelta(days=7), max_size=2**31), max_rows=10, max_bytes=1000)
    yield writer
    if writer._thread.ident is None:
        writer.start()
    writer.close()


def test_a_batch_is_done_when_it_is_committed(store: Store, writer: Writer) -> None:
    """When its future is done, readers see its rows."""
    writer.submit(_batch(3)).result(20)
    assert _count(store) == 3


def test_every_commit_is_a_new_generation(writer: Writer) -> None:
    """The generation increases with each commit."""
    before = writer.generation
    writer.submit(_batch()).result(20)
    assert writer.generation > before


def test_too_many_rows_are_refused(store: Store, idle: Writer) -> None:
    """A batch over the row limit raises a retryable error, and is accepted when the queue is written."""
    first = idle.submit(_batch(10))
    with pytest.raises(QueueFullError):
        idle.submit(_batch(1))
    idle.start()
    first.result(20)
    idle.submit(_batch(1)).result(20)
    assert _count(store) == 11


def test_too_many_bytes_are_refused(idle: Writer) -> None:
    """A batch over the byte limit raises a retryable error."""
    idle.submit(_batch(size=1000))
    with pytest.raises(QueueFullError):
        idle.submit(_batch(size=1))


def test_queued_batches_share_a_commit(store: Store, idle: Writer) -> None:
    """Batches that are queued together are one generation."""
    futures = [idle.submit(_batch()) for _ in range(10)]
    idle.start()
    for future in futures:
        future.result(20)
    assert idle.generation == 1
    assert _count(store) == 10


def test_a_closed_writer_refuses_batches(store: Store) -> None:
    """After `close`, a batch raises a retryable error."""
    writer = Writer(store, Retention(store, max_age=timedelta(days=7), max_size=2**31))
    writer.start()
    writer.close()
    with pytest.raises(ShuttingDownError):
        writer.submit(_batch())


def test_close_writes_the_queue(store: Store, idle: Writer) -> None:
    """Batches that were accepted before `close` are committed."""
    futures = [idle.submit(_batch()) for _ in range(5)]
    idle.start()
    idle.close()
    assert all(future.done() for future in futures)
    assert _count(store) == 5


def test_an_invalid_batch_fails_alone(store: Store, idle: Writer) -> None:
    """In a shared commit only the invalid batch fails; the others are stored once."""
    good, bad, after = idle.submit(_batch()), idle.submit(_bad_batch()), idle.submit(_batch())
    idle.start()
    good.result(20)
    after.result(20)
    with pytest.raises(UnstorableError):
        bad.result(20)
    assert _count(store) == 2


def test_a_failed_write_is_counted(writer: Writer) -> None:
    """An unstorable batch fails permanently, and counts as refused, not as stored."""
    with pytest.raises(UnstorableError):
        writer.submit(_bad_batch()).result(20)
    counts = writer.stats.snapshot()["traces"]
    assert (counts.received, counts.stored, counts.refused) == (1, 0, {"unstorable": 1})


def test_counts_are_by_signal_and_reason(writer: Writer) -> None:
    """For each signal, stored and rejected records add up to the received ones."""
    writer.submit(
        decode(trace_request(span(), span(trace_id=b"short"), span(span_id=bytes(8))), time.time_ns(), 9)
    ).result(20)
    writer.submit(decode(log_request(), time.time_ns(), 9)).result(20)
    counts = writer.stats.snapshot()
    assert (counts["traces"].received, counts["traces"].stored) == (3, 1)
    assert counts["traces"].rejected == {"trace_id": 1, "span_id": 1}
    assert (counts["logs"].received, counts["logs"].stored, counts["logs"].rejected) == (1, 1, {})
    assert counts["metrics"] == SignalCounts()


def test_batches_of_many_threads_are_stored(store: Store, writer: Writer) -> None:
    """Batches submitted by several threads at the same time are each stored once."""

    def send() -> None:
        for _ in range(20):
            writer.submit(_batch()).result(20)

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _count(store) == 100


def test_a_disconnect_does_not_cancel_a_write(writer: Writer) -> None:
    """A future cannot be cancelled after its batch is queued."""
    future = writer.submit(_batch())
    assert not future.cancel()
    assert future.result(20) is None


def test_a_writer_recovers_from_a_fatal_error(tmp_path: Path) -> None:
    """If the database must be reopened, the batch fails with a retryable error and the next one is stored."""
    store = Store(tmp_path / FILE_NAME)
    writer = Writer(store, Retention(store, max_age=timedelta(days=7), max_size=2**31))
    writer.start()
    writer.submit(_batch()).result(20)
    store._connection.close()
    with pytest.raises(WriteFailedError):
        writer.submit(_batch()).result(20)
    writer.submit(_batch()).result(20)
    assert _count(store) == 2
    writer.close()
    store.close()


def test_a_failed_checkpoint_is_survived(tmp_path: Path) -> None:
    """If the disk is full during a checkpoint, readers get an error, and later no row is lost."""
    store = Store(tmp_path / FILE_NAME)
    writer = Writer(store, Retention(store, max_age=timedelta(days=7), max_size=2**31))
    writer.start()
    blobs = [span(attributes=[attribute("blob", os.urandom(1000).hex())]) for _ in range(1000)]
    writer.submit(decode(trace_request(*blobs), time.time_ns(), 1)).result(20)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(duckdb.FatalException):
            store.checkpoint()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    for _ in range(MAX_READERS + 1):
        with pytest.raises(StoreError, match="opened again"):
            _count(store)
    with pytest.raises(WriteFailedError):
        writer.submit(_batch()).result(20)
    writer.submit(_batch()).result(20)
    assert _count(store) == 1001
    writer.close()
    store.close()
