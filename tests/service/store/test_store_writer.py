"""The writer: bounded, in groups, again until the store has it, and every row reported once."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
class Fake:
    """A store that is away, or refuses some rows, for as long as it is told to."""

    away: bool = False
    refused: Callable[[Row], bool] = lambda _: False
    groups: list[list[str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    attempts: int = 0
    closed: bool = False

    def add_predictions(self, some: Sequence[Row]) -> None:
        """Take them, or not."""
        self.attempts += 1
        if self.away:
            raise StoreUnavailableError("the prediction store: away")
        if any(map(self.refused, some)):
            raise StoreError("the prediction store: unfit")
        self.times.append(time.monotonic())
        self.groups.append([one.prediction_id for one in some])

    def prune_old(self, limit: AgeLimit, now: int) -> tuple[int, bool]:  # noqa: ARG002  the protocol's
        """Say that there is more to delete, once."""
        self.deleted.append("old")
        return 1, len(self.deleted) < 2

    def prune_beyond(self, limit: int) -> int:  # noqa: ARG002  the protocol's
        """Nothing is too much."""
        self.deleted.append("much")
        return 0

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


class Writing:
    """A writer to a store, and what it has reported."""

    def __init__(self, store: Fake, *, most_rows: int = 1000, tidy_every: float = 1000.0) -> None:
        self.heard: list[WriteOutcome] = []
        config = StoreConfig("nowhere", 30, 1000, "0.1.0")
        self.writer = PredictionWriter(
            config, on_outcome=self.heard.append, open_store=lambda _: store, max_rows=most_rows,
            retention_interval=tidy_every,
        )  # fmt: skip

    def total(self) -> Counter[tuple[str, str]]:
        """Rows by outcome and reason."""
        found: Counter[tuple[str, str]] = Counter()
        for one in self.heard:
            found[one.outcome, one.error_type] += one.rows
        return found

    def stop(self, seconds: float = 5.0) -> None:
        """End it."""
        self.writer.stop()
        self.writer.join(time.monotonic() + seconds)


def test_what_comes_together_is_one_transaction() -> None:
    """The first row is written at once, those of the next moment together."""
    store = Fake()
    writing = Writing(store)
    writing.writer.enqueue([answered_request("first")])
    wait_until(lambda: store.groups, description="the first")
    for number in range(20):
        writing.writer.enqueue([answered_request(f"a{number}", f"b{number}")])
    writing.stop()

    assert store.groups[0] == ["first"]
    assert len(store.groups) <= 3
    assert sum(map(len, store.groups)) == 41
    assert writing.total() == {("stored", ""): 41}
    assert store.closed


def test_a_store_that_is_away_gets_everything_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again and again, in order; the log says so once, and when it is over."""
    store = Fake(away=True)
    writing = Writing(store)
    writing.writer.enqueue([answered_request("a", "b")])
    wait_until(lambda: store.attempts > 2, description="attempts")
    writing.writer.enqueue([answered_request("c")])
    assert writing.heard == []
    store.away = False
    wait_until(lambda: writing.total() == {("stored", ""): 3}, description="all of it")
    writing.stop()

    assert [one for group in store.groups for one in group] == ["a", "b", "c"]
    assert [record.message for record in caplog.records] == [
        "no prediction is stored for now: the prediction store: away", "predictions are stored again",
    ]  # fmt: skip


def test_what_finds_no_room_is_lost_and_counted() -> None:
    """A request is taken whole or not at all; one that is larger than the queue is, when nothing waits."""
    store = Fake(away=True)
    writing = Writing(store, most_rows=5)
    writing.writer.enqueue([answered_request(*"abcdefg")])
    writing.writer.enqueue([answered_request("h")])
    assert writing.total() == {("lost", "queue_full"): 1}
    store.away = False
    wait_until(lambda: writing.total()["stored", ""] == 7, description="the large one")
    writing.writer.enqueue([answered_request("i")])
    writing.stop()

    assert writing.total() == {("stored", ""): 8, ("lost", "queue_full"): 1}


def test_a_stop_returns_in_time_and_counts_what_is_left() -> None:
    """A store that stays away does not hold up the stop; what comes after it is lost, too."""
    writing = Writing(Fake(away=True))
    writing.writer.enqueue([answered_request("a", "b")])
    writing.stop(0.2)
    writing.writer.enqueue([answered_request("c")])

    assert writing.total() == {("lost", "shutdown"): 2, ("lost", "queue_full"): 1}


def test_a_row_that_is_refused_for_good_takes_no_other_with_it() -> None:
    """It is found by halves, and counted."""
    store = Fake(refused=lambda one: one.prediction_id in ("c", "g"))
    writing = Writing(store)
    writing.writer.enqueue([answered_request(*"abcd"), answered_request(*"efgh")])
    writing.stop()

    assert sorted(one for group in store.groups for one in group) == list("abdefh")
    assert writing.total() == {("stored", ""): 6, ("lost", "StoreError"): 2}


def test_a_record_that_nobody_foresaw_is_counted() -> None:
    """It makes no row, and the others do."""
    store = Fake()
    writing = Writing(store)
    writing.writer.enqueue([AnsweredRequest([answered_row("unfit", inputs=("too few",))]), answered_request("fit")])
    writing.stop()

    assert store.groups == [["fit"]]
    assert writing.total() == {("stored", ""): 1, ("lost", "ValueError"): 1}


def test_old_rows_are_deleted_while_nothing_is_written_too() -> None:
    """At the start and then now and then; again at once while there is more of it."""
    store = Fake()
    writing = Writing(store, tidy_every=0.3)
    wait_until(lambda: len(store.deleted) >= 6, description="three times")
    writing.stop()

    assert set(store.deleted) == {"old", "much"}
    assert store.groups == []


def test_many_threads_may_put() -> None:
    """Every row is stored once."""
    store = Fake()
    writing = Writing(store, most_rows=10_000)

    def put(name: int) -> None:
        for number in range(200):
            writing.writer.enqueue([answered_request(f"{name}-{number}")])

    threads = [threading.Thread(target=put, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writing.stop()

    stored = [one for group in store.groups for one in group]
    assert len(stored) == len(set(stored)) == 800


@pytest.mark.slow
def test_a_database_that_goes_away_and_comes_back_has_every_row_once(postgres: Postgres) -> None:
    """PostgreSQL crashes in the midst of it: nothing is lost, nothing is there twice."""
    name = postgres.create_database()
    heard: list[WriteOutcome] = []
    open_store(postgres.url(name)).close()
    writer = PredictionWriter(StoreConfig(postgres.url(name), 0, 0, "0.1.0"), on_outcome=heard.append)
    try:
        for number in range(300):
            writer.enqueue([answered_request(f"p{number}")])
            time.sleep(0.005)
            if number == 100:
                postgres.stop()
            if number == 200:
                postgres.start()
        wait_until(lambda: sum(one.rows for one in heard) == 300, description="all rows")
    finally:
        writer.stop()
        writer.join(time.monotonic() + 5)

    assert {one.outcome for one in heard} == {"stored"}
    assert postgres.query(name, "SELECT count(*), count(DISTINCT prediction_id) FROM predictions") == [(300, 300)]


def test_a_real_store_keeps_its_days(tmp_path: Path) -> None:
    """What is older than the retention goes by itself."""
    with open_store(str(tmp_path / "s.db")) as store:
        store.add_predictions(stored_rows(10))
        now = time.time_ns()
        store.add_predictions(
            [one._replace(prediction_id=f"new{n}", time=now) for n, one in enumerate(stored_rows(90))]
        )
        writer = PredictionWriter(StoreConfig(str(tmp_path / "s.db"), 30, 0, "0.1.0"), on_outcome=lambda _: None)
        wait_until(lambda: left(store) == 90, description="the old ones to go")
        writer.stop()
        writer.join(time.monotonic() + 5)


def left(store: Store) -> int:
    """How many predictions there are."""
    return store.counts().predictions
