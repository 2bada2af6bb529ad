"""The writer batches rows, bounds its queue, retries, and reports each row once."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from modeltrace.errors import StoreError, StoreUnavailableError
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.config import StoreConfig
from modeltrace.store.rows import Row
from modeltrace.store.store import Store, open_store
from modeltrace.store.writer import PredictionWriter, WriteOutcome
from tests.helpers.factories import AnsweredRequest, answered_request, answered_row, stored_rows
from tests.helpers.postgres import Postgres
from tests.helpers.processes import wait_until


@dataclass
class FakeStore:
    """A store that is unavailable, or rejects some rows."""

    unavailable: bool = False
    rejects: Callable[[Row], bool] = lambda _: False
    transactions: list[list[str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    attempts: int = 0
    closed: bool = False

    def add_predictions(self, rows: Sequence[Row]) -> None:
        """Store, reject or fail."""
        self.attempts += 1
        if self.unavailable:
            raise StoreUnavailableError("the prediction store: unavailable")
        if any(map(self.rejects, rows)):
            raise StoreError("the prediction store: unfit")
        self.times.append(time.monotonic())
        self.transactions.append([row.prediction_id for row in rows])

    def delete_expired(self, limit: AgeLimit, now_ns: int) -> tuple[int, bool]:  # noqa: ARG002  as in Store
        """Return that there is more to delete, once."""
        self.deleted.append("old")
        return 1, len(self.deleted) < 2

    def shrink(self, max_bytes: int) -> int:  # noqa: ARG002  as in Store
        """Delete nothing."""
        self.deleted.append("much")
        return 0

    def close(self) -> None:
        """Record the call."""
        self.closed = True


class RecordingWriter:
    """A writer, and the outcomes that it has reported."""

    def __init__(self, store: FakeStore, *, max_rows: int = 1000, retention_interval: float = 1000.0) -> None:
        self.outcomes: list[WriteOutcome] = []
        config = StoreConfig("nowhere", 30, 1000, "0.1.0")
        self.writer = PredictionWriter(
            config, on_outcome=self.outcomes.append, open_store=lambda _: cast("Store", store), max_rows=max_rows,
            retention_interval=retention_interval,
        )  # fmt: skip

    def total(self) -> Counter[tuple[str, str]]:
        """Return the number of rows by outcome and error type."""
        rows: Counter[tuple[str, str]] = Counter()
        for outcome in self.outcomes:
            rows[outcome.outcome, outcome.error_type] += outcome.rows
        return rows

    def stop(self, seconds: float = 5.0) -> None:
        """Stop the writer and wait for it."""
        self.writer.stop()
        self.writer.join(time.monotonic() + seconds)


def test_rows_that_arrive_together_share_a_transaction() -> None:
    """The first row is written at once, and the rows that arrive in the meantime together."""
    store = FakeStore()
    recording = RecordingWriter(store)
    recording.writer.enqueue([answered_request("first")])
    wait_until(lambda: store.transactions, description="the first")
    for number in range(20):
        recording.writer.enqueue([answered_request(f"a{number}", f"b{number}")])
    recording.stop()

    assert store.transactions[0] == ["first"]
    assert len(store.transactions) <= 3
    assert sum(map(len, store.transactions)) == 41
    assert recording.total() == {("stored", ""): 41}
    assert store.closed


def test_rows_are_retried_until_the_store_is_available(caplog: pytest.LogCaptureFixture) -> None:
    """The order is kept; the failure and the recovery are logged once each."""
    store = FakeStore(unavailable=True)
    recording = RecordingWriter(store)
    recording.writer.enqueue([answered_request("a", "b")])
    wait_until(lambda: store.attempts > 2, description="attempts")
    recording.writer.enqueue([answered_request("c")])
    assert recording.outcomes == []
    store.unavailable = False
    wait_until(lambda: recording.total() == {("stored", ""): 3}, description="all rows")
    recording.stop()

    assert [prediction_id for transaction in store.transactions for prediction_id in transaction] == ["a", "b", "c"]
    assert [record.message for record in caplog.records] == [
        "no prediction is stored for now: the prediction store: unavailable", "predictions are stored again",
    ]  # fmt: skip


def test_a_full_queue_loses_rows_and_counts_them() -> None:
    """A request is accepted as a whole or not at all; an empty queue accepts a request of any size."""
    store = FakeStore(unavailable=True)
    recording = RecordingWriter(store, max_rows=5)
    recording.writer.enqueue([answered_request(*"abcdefg")])
    recording.writer.enqueue([answered_request("h")])
    assert recording.total() == {("lost", "queue_full"): 1}
    store.unavailable = False
    wait_until(lambda: recording.total()["stored", ""] == 7, description="the large outcome")
    recording.writer.enqueue([answered_request("i")])
    recording.stop()

    assert recording.total() == {("stored", ""): 8, ("lost", "queue_full"): 1}


def test_join_returns_in_time_and_counts_remaining_rows_as_lost() -> None:
    """An unavailable store does not delay it; rows that are enqueued later are lost, too."""
    recording = RecordingWriter(FakeStore(unavailable=True))
    recording.writer.enqueue([answered_request("a", "b")])
    recording.stop(0.2)
    recording.writer.enqueue([answered_request("c")])

    assert recording.total() == {("lost", "shutdown"): 2, ("lost", "queue_full"): 1}


def test_a_rejected_row_does_not_affect_other_rows() -> None:
    """Bisection finds the rejected rows, which are counted as lost."""
    store = FakeStore(rejects=lambda row: row.prediction_id in ("c", "g"))
    recording = RecordingWriter(store)
    recording.writer.enqueue([answered_request(*"abcd"), answered_request(*"efgh")])
    recording.stop()

    assert sorted(prediction_id for transaction in store.transactions for prediction_id in transaction) == list(
        "abdefh"
    )
    assert recording.total() == {("stored", ""): 6, ("lost", "StoreError"): 2}


def test_an_invalid_record_is_counted_as_lost() -> None:
    """Other records are stored."""
    store = FakeStore()
    recording = RecordingWriter(store)
    recording.writer.enqueue([AnsweredRequest([answered_row("unfit", inputs=("too few",))]), answered_request("fit")])
    recording.stop()

    assert store.transactions == [["fit"]]
    assert recording.total() == {("stored", ""): 1, ("lost", "ValueError"): 1}


def test_retention_runs_without_writes() -> None:
    """It runs at the start and periodically, and again at once while there is more to delete."""
    store = FakeStore()
    recording = RecordingWriter(store, retention_interval=0.3)
    wait_until(lambda: len(store.deleted) >= 6, description="three times")
    recording.stop()

    assert set(store.deleted) == {"old", "much"}
    assert store.transactions == []


def test_many_threads_may_enqueue() -> None:
    """Each row is stored once."""
    store = FakeStore()
    recording = RecordingWriter(store, max_rows=10_000)

    def put(name: int) -> None:
        for number in range(200):
            recording.writer.enqueue([answered_request(f"{name}-{number}")])

    threads = [threading.Thread(target=put, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recording.stop()

    stored = [prediction_id for transaction in store.transactions for prediction_id in transaction]
    assert len(stored) == len(set(stored)) == 800


@pytest.mark.slow
def test_a_restarted_database_has_every_row_once(postgres: Postgres) -> None:
    """PostgreSQL crashes and restarts during writes: no row is lost or duplicated."""
    name = postgres.create_database()
    outcomes: list[WriteOutcome] = []
    open_store(postgres.url(name)).close()
    writer = PredictionWriter(StoreConfig(postgres.url(name), 0, 0, "0.1.0"), on_outcome=outcomes.append)
    try:
        for number in range(300):
            writer.enqueue([answered_request(f"p{number}")])
            time.sleep(0.005)
            if number == 100:
                postgres.stop()
            if number == 200:
                postgres.start()
        wait_until(lambda: sum(outcome.rows for outcome in outcomes) == 300, description="all rows")
    finally:
        writer.stop()
        writer.join(time.monotonic() + 5)

    assert {outcome.outcome for outcome in outcomes} == {"stored"}
    assert postgres.query(name, "SELECT count(*), count(DISTINCT prediction_id) FROM predictions") == [(300, 300)]


def test_expired_rows_of_a_real_store_are_deleted(tmp_path: Path) -> None:
    """The writer's retention deletes rows older than the limit."""
    with open_store(str(tmp_path / "s.db")) as store:
        store.add_predictions(stored_rows(10))
        now = time.time_ns()
        store.add_predictions(
            [row._replace(prediction_id=f"new{n}", time=now) for n, row in enumerate(stored_rows(90))]
        )
        writer = PredictionWriter(StoreConfig(str(tmp_path / "s.db"), 30, 0, "0.1.0"), on_outcome=lambda _: None)
        wait_until(lambda: count_predictions(store) == 90, description="the old ones to go")
        writer.stop()
        writer.join(time.monotonic() + 5)


def count_predictions(store: Store) -> int:
    """Return the number of predictions."""
    return store.counts().predictions
