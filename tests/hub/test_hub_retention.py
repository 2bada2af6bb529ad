"""Age and size limits: the oldest rows of all signals are deleted first, and their space is used again."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from modeltrace_hub.retention import Retention
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import append_batches
from tests.helpers.decoding import decode
from tests.helpers.otlp_messages import attribute, log_request, span, trace_request

HOUR_NS = 3600 * 10**9


@pytest.fixture(params=["file", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Yield a store in memory or in a file."""
    store = Store(tmp_path / FILE_NAME if request.param == "file" else None)
    yield store
    store.close()


def _fill(store: Store, received_ns: int, spans: int = 1, *, size: int = 0) -> None:
    """Write spans with some random bytes each, and one log record, that arrived at a time."""
    items = [span(attributes=[attribute("blob", os.urandom(size).hex())]) for _ in range(spans)]
    with store.write() as connection:
        append_batches(
            connection,
            [decode(trace_request(*items), received_ns), decode(log_request(), received_ns)],
        )


def _times(store: Store, table: str = "spans") -> list[int]:
    with store.read() as cursor:
        return [row[0] for row in cursor.execute(f"SELECT received_ns FROM {table} ORDER BY 1").fetchall()]  # noqa: S608  a fixed name


def _retention(
    store: Store, *, hours: int = 24, max_size: int = 2**31, clock: Callable[[], float] = time.monotonic
) -> Retention:
    return Retention(store, max_age=timedelta(hours=hours), max_size=max_size, clock=clock)


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def test_rows_over_the_age_limit_are_deleted(any_store: Store) -> None:
    """Rows of all signals that arrived before the limit are deleted, and others stay."""
    now = time.time_ns()
    _fill(any_store, now - 25 * HOUR_NS)
    _fill(any_store, now - 23 * HOUR_NS)
    _fill(any_store, now)
    assert _retention(any_store).enforce(now) == 2
    assert _times(any_store, "spans") == [now - 23 * HOUR_NS, now]
    assert _times(any_store, "logs") == [now - 23 * HOUR_NS, now]


def test_within_the_limits_nothing_is_deleted(any_store: Store) -> None:
    """A store that is neither too old nor too large keeps all its rows."""
    now = time.time_ns()
    _fill(any_store, now)
    assert _retention(any_store).enforce(now) == 0
    assert _times(any_store) == [now]


def test_age_counts_from_arrival(any_store: Store) -> None:
    """A span with a start in 1970 stays as long as one of today."""
    now = time.time_ns()
    _fill(any_store, now)
    _retention(any_store).enforce(now)
    with any_store.read() as cursor:
        assert cursor.execute("SELECT start_ns FROM spans").fetchall() == [(1000,)]


def test_a_clock_set_forward_deletes_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """With a clock 40 days ahead, rows stay while no new row arrives; the log warns about the clock."""
    now = time.time_ns()
    for hour in range(10):
        _fill(store, now - hour * HOUR_NS)
    retention = _retention(store, clock=Clock())
    assert [retention.enforce(now + 40 * 24 * HOUR_NS) for _ in range(3)] == [0, 0, 0]
    (record,) = caplog.records
    assert record.message.startswith("The newest row arrived 960.0 h before the time of this machine's clock.")


@pytest.mark.slow
def test_rows_after_a_clock_change_delete_a_share(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A tenth of the rows is deleted at once, the rest within a tenth of the age limit; the log warns once."""
    now = time.time_ns()
    for minute in range(100):
        _fill(store, now - minute * HOUR_NS // 60, spans=9)
    ahead = now + 40 * 24 * HOUR_NS
    _fill(store, ahead)
    clock = Clock()
    retention = _retention(store, clock=clock)
    # Rows with the same time of arrival are deleted together.
    assert retention.enforce(ahead) in {100, 110}
    assert retention.enforce(ahead) == 0
    while len(_times(store)) > 1:
        clock.seconds += 600
        assert retention.enforce(ahead) <= 100
    assert 0.08 * 24 * 3600 < clock.seconds < 0.12 * 24 * 3600
    assert _times(store) == [ahead]
    (record,) = caplog.records
    assert record.message.startswith(
        "1,000 of 1,002 rows exceeded the age limit at the same time: the clock was set forward"
    )


def test_rows_age_while_nothing_arrives(store: Store) -> None:
    """Without new rows, rows age by the run time of the hub."""
    now = time.time_ns()
    _fill(store, now)
    clock = Clock()
    retention = _retention(store, clock=clock)
    assert retention.enforce(now) == 0
    clock.seconds = 25 * 3600
    assert retention.enforce(now + 25 * HOUR_NS) == 2


def test_a_short_limit_applies_to_new_rows(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The age of a row that arrived since the last check is that of the clock."""
    now = time.time_ns()
    clock = Clock()
    retention = Retention(store, max_age=timedelta(seconds=3), max_size=2**31, clock=clock)
    assert retention.enforce(now) == 0
    _fill(store, now + 2 * 10**9)
    clock.seconds = 10
    assert retention.enforce(now + 10 * 10**9) == 2
    assert caplog.records == []


@pytest.mark.slow
def test_over_the_size_limit_the_oldest_are_deleted(any_store: Store) -> None:
    """The size falls below the limit, and the remaining rows are the newest without gaps."""
    start = time.time_ns()
    for step in range(20):
        _fill(any_store, start + step, spans=200, size=1000)
    any_store.checkpoint()
    full = any_store.size().live
    limit = full // 2
    deleted = _retention(any_store, max_size=limit).enforce(start + 100)
    assert deleted > 0
    assert any_store.size().live <= limit
    times = sorted(set(_times(any_store)))
    assert times
    assert times == list(range(times[0], start + 20))
    assert set(_times(any_store, "logs")) == set(times)


@pytest.mark.slow
def test_freed_space_is_used_again(tmp_path: Path) -> None:
    """The file of a store with repeated deletions stops growing."""
    store = Store(tmp_path / FILE_NAME)
    start = time.time_ns()
    sizes = []
    retention = _retention(store, max_size=2**22)
    for step in range(12):
        _fill(store, start + step, spans=1000, size=1000)
        store.checkpoint()
        retention.enforce(start + step)
        sizes.append(store.size().file)
    assert sum(retention.state.deleted_rows.values()) > 3000
    assert max(sizes) < 2**22 * 5
    store.close()


def test_deletions_are_counted(any_store: Store) -> None:
    """The state has the number of deleted rows by table, and the time before which rows are deleted."""
    now = time.time_ns()
    _fill(any_store, now - 25 * HOUR_NS, spans=3)
    _fill(any_store, now, spans=50)
    retention = _retention(any_store)
    assert retention.state.deleted_before_ns is None
    retention.enforce(now)
    assert retention.state.deleted_rows == {"spans": 3, "logs": 1}
    assert retention.state.deleted_before_ns == now - 24 * HOUR_NS


def test_a_restart_remembers_deletions(tmp_path: Path) -> None:
    """The time before which rows are deleted is in the file."""
    now = time.time_ns()
    store = Store(tmp_path / FILE_NAME)
    _fill(store, now - 25 * HOUR_NS)
    _fill(store, now, spans=50)
    _retention(store).enforce(now)
    store.close()
    store = Store(tmp_path / FILE_NAME)
    assert _retention(store).state.deleted_before_ns == now - 24 * HOUR_NS
    store.close()
