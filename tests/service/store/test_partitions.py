"""A PostgreSQL store with partitions by day has the same rows, labels and metrics, and drops whole days."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from typer.testing import CliRunner

from bench.prediction_store import is_close
from modeltrace.cli.main import app
from modeltrace.errors import StoreError, StoreUnavailableError
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.render import to_json
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.prediction_id_time import prediction_id_time
from modeltrace.store import partitioning
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.partitions import DAY_NS, day_of_prediction
from modeltrace.store.rows import Row, StoredLabel
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from tests.helpers.factories import stored_row
from tests.helpers.postgres import Postgres

TODAY = 20_000
NOW = TODAY * DAY_NS + 3600 * 10**9
SIGNER = PredictionIdSigner(b"k" * 32)


def row_at(time: int, number: int = 0) -> Row:
    """Return a row with a real prediction ID of that time."""
    ref = PredictionRef(trace_id=number + 1, span_id=1, row=0, time_unix_ns=time, model_version="1", output="benign")
    return stored_row(SIGNER.sign(ref), time=time, confidence=0.5 + number % 50 / 100)


def label_of(row: Row, label: str = "benign") -> StoredLabel:
    """Return the true label of a prediction; the time in the ID has a resolution of a millisecond."""
    return StoredLabel(row.prediction_id, label, row.time + DAY_NS, row.time - row.time % 10**6)


@pytest.fixture
def url(postgres: Postgres) -> str:
    """The URL of an empty database."""
    return postgres.url(postgres.create_database())


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store with rows of the ten days before today, 20 each, half of them with a label; not yet partitioned."""
    with open_store(url) as store:
        rows = [
            row_at((TODAY - day) * DAY_NS + number, day * 100 + number) for day in range(10) for number in range(20)
        ]
        store.add_predictions(rows)
        store.add_labels([label_of(row, "benign" if index % 5 else "malignant") for index, row in enumerate(rows[::2])])
        yield store


def rows_by_table(postgres: Postgres, store: Store, table: str) -> dict[str, int]:
    """Return the number of rows of each partition that has any."""
    database = store.location.url.database or ""
    query = f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1 ORDER BY 1"  # noqa: S608  a fixed name
    return {str(name): int(str(number)) for name, number in postgres.query(database, query)}


def metrics(store: Store) -> list[object]:
    """Return all metrics."""
    return [to_json(result) for result in evaluate(store, Selection(), locate_drifts=True)]


def test_the_time_of_a_prediction_is_in_its_id() -> None:
    """It is read without the key; a text that is no prediction ID has the time of its row."""
    row = row_at(NOW + 123_456_789)

    assert prediction_id_time(row.prediction_id) == NOW + 123_000_000
    assert [prediction_id_time(text) for text in ("", "p00001", "ü" * 80, "A" * 80, "f" * 64)] == [None] * 5
    assert day_of_prediction(row.prediction_id, 0, TODAY) == TODAY
    assert day_of_prediction(row.prediction_id, NOW, TODAY + 1) == 0
    assert day_of_prediction("p00001", NOW, TODAY) == TODAY


def test_existing_rows_stay_in_one_table_and_new_ones_have_a_day(postgres: Postgres, store: Store) -> None:
    """Metrics are equal before and after; rows and labels that are sent again, or late, are stored once."""
    before, old_rows = metrics(store), [row for page in store.read() for row in page]

    assert store.partition(NOW) == (TODAY + 2, True)
    assert store.partition(NOW + 5 * DAY_NS) == (TODAY + 2, False)

    assert is_close(metrics(store), before)
    assert [row for page in store.read() for row in page] == old_rows
    new = [row_at((TODAY + day) * DAY_NS + 5, day) for day in (1, 2, 3, 3)]
    old = row_at((TODAY - 3) * DAY_NS + 1, 301)  # stored before, without a label
    for _ in range(2):
        store.add_predictions([*new, old])
    late = [label_of(row) for row in (*new[:3], old)]
    assert store.add_labels(late) == ["new"] * 4
    assert store.add_labels([*late, label_of(old, "malignant")]) == [*["same"] * 4, "conflict"]
    assert rows_by_table(postgres, store, "predictions") == {
        "predictions_20241006": 1, "predictions_20241007": 1, "predictions_history": 201,
    }  # fmt: skip
    assert rows_by_table(postgres, store, "labels") == {
        "labels_20241006": 1, "labels_20241007": 1, "labels_history": 102,
    }  # fmt: skip
    assert store.find(new[2].prediction_id) is not None


def test_every_partition_has_the_indexes_of_the_table(postgres: Postgres, store: Store) -> None:
    """The indexes of the history are the former ones; none is duplicate or invalid."""
    store.partition(NOW)
    store.add_predictions([row_at((TODAY + 2) * DAY_NS)])
    query = """SELECT tablename, count(*), bool_and(indisvalid) FROM pg_indexes
        JOIN pg_index ON indexrelid = indexname::regclass WHERE schemaname = 'public'
        AND tablename <> 'modeltrace_store'
        GROUP BY 1"""
    indexes = {
        name: (number, valid) for name, number, valid in postgres.query(store.location.url.database or "", query)
    }

    assert indexes == {
        **{f"predictions{suffix}": (5, True) for suffix in ("", "_history", "_20241006")},
        **{f"labels{suffix}": (2, True) for suffix in ("", "_history", "_20241006")},
    }


def test_an_empty_store_has_partitions_from_today_on(postgres: Postgres, url: str) -> None:
    """Rows of earlier days that arrive later are in the history."""
    with open_store(url) as store:
        assert store.partition(NOW) == (TODAY, True)
        store.add_predictions([row_at(NOW), row_at(NOW - DAY_NS, 1)])

        assert rows_by_table(postgres, store, "predictions") == {"predictions_20241004": 1, "predictions_history": 1}


@pytest.mark.parametrize("partitioned", [True, False], ids=["partitions", "one table"])
@pytest.mark.parametrize("caller_first", [True, False], ids=["caller first", "challenger first"])
def test_two_services_store_a_prediction_once(url: str, *, caller_first: bool, partitioned: bool) -> None:
    """The row of a remote challenger is one row with the values of both, even if their times are of different days."""
    challenger = row_at((TODAY + 1) * DAY_NS - 2)._replace(
        probabilities='[["benign",1.0]]', interval_low=1.0, interval_high=2.0, interval_level=0.9
    )
    caller = challenger._replace(
        time=challenger.time + 10**9, shadow_of="primary", probabilities=None, interval_low=None, interval_high=None,
        interval_level=None,
    )  # fmt: skip
    with open_store(url) as store:
        if partitioned:
            store.partition(NOW)
        for row in (caller, challenger) if caller_first else (challenger, caller):
            store.add_predictions([row])
        (stored,) = [row for page in store.read() for row in page]

    assert (stored.shadow_of, stored.probabilities) == ("primary", [["benign", 1.0]])
    assert (stored.interval_low, stored.interval_high, stored.interval_level) == (1.0, 2.0, 0.9)


def test_running_services_continue_to_write(store: Store, url: str) -> None:
    """A store that was opened before the conversion uses the partitions; several may create them at once."""
    with open_store(url) as other:
        other.partition(NOW)

    def write(number: int) -> None:
        with open_store(url) as writer:
            writer.add_predictions([row_at((TODAY + 2 + day) * DAY_NS, 10 * number + day) for day in range(5)])

    store.add_predictions([row_at((TODAY + 2) * DAY_NS, 1000)])
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert store.counts().predictions == 200 + 1 + 30


def fill_days(store: Store, days: int) -> None:
    """Convert an empty store, and add ten predictions a day with their labels."""
    store.partition(NOW)
    rows = [row_at((TODAY + day) * DAY_NS + number, day * 100 + number) for day in range(days) for number in range(10)]
    store.add_predictions([row_at(NOW - DAY_NS, 9999), *rows])
    store.add_labels([label_of(row) for row in rows])


def expire(store: Store, limit: AgeLimit, now: int) -> list[int]:
    """Run the retention until it has nothing to do; return the numbers of deleted predictions."""
    deleted = []
    more = True
    while more:
        number, more = store.delete_expired(limit, now)
        deleted.append(number)
    return deleted


def test_whole_days_are_dropped_when_they_have_expired(postgres: Postgres, url: str) -> None:
    """The history is deleted by row, and a day only when its last hour has expired."""
    with open_store(url) as store:
        fill_days(store, 20)
        limit = AgeLimit(18 * DAY_NS, clock=lambda: 0.0)
        # The newest prediction was made at the start of the last day, so one day and the history have expired.
        assert expire(store, limit, NOW + 100 * DAY_NS) == [1, 10]

        assert min(rows_by_table(postgres, store, "predictions")) == "predictions_20241005"
        assert store.counts().predictions == 190
        assert store.counts().labels == 190


def test_a_wrong_clock_drops_no_more_than_a_tenth_at_once(url: str) -> None:
    """One day may exceed the budget; the next ones wait until it is refilled."""
    with open_store(url) as store:
        fill_days(store, 5)
        seconds = 0.0
        limit = AgeLimit(DAY_NS, clock=lambda: seconds)
        deleted = expire(store, limit, NOW + 100 * DAY_NS)

        assert sum(deleted) <= 1 + 10
        seconds = 86_400 / 10
        assert sum(expire(store, limit, NOW + 100 * DAY_NS)) <= 20
        assert store.counts().predictions >= 20


def test_a_day_that_a_query_uses_is_dropped_later(postgres: Postgres, url: str) -> None:
    """The retention waits a second for the query, without an error."""
    with open_store(url) as store:
        fill_days(store, 20)
        limit = AgeLimit(18 * DAY_NS, clock=lambda: 0.0)
        with psycopg.connect(postgres.dsn(store.location.url.database or "")) as reader:
            reader.execute("SELECT count(*) FROM predictions_20241004")
            assert expire(store, limit, NOW + 100 * DAY_NS) == [1, 0]
            reader.rollback()
        assert expire(store, limit, NOW + 100 * DAY_NS) == [10]


def test_prune_deletes_all_predictions_before_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole days and a part of a day; the command counts all of them."""
    monkeypatch.setenv("MODELTRACE_STORE", url)
    with open_store(url) as store:
        fill_days(store, 3)
        cutoff = (TODAY + 2) * DAY_NS + 4
        deleted, more = 0, True
        while more:
            number, more = store.delete_before(cutoff)
            deleted += number

        assert deleted == 1 + 10 + 10 + 4
        assert (store.counts().predictions, store.counts().oldest) == (6, cutoff)


def test_the_command_converts_a_store_once(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says from which day on there are partitions."""
    monkeypatch.setenv("MODELTRACE_STORE", url)
    monkeypatch.setattr("time.time_ns", lambda: NOW)
    outputs = [CliRunner().invoke(app, ["audit", "partition"]).output for _ in range(2)]

    assert outputs[0].endswith("now has partitions by day, from 2024-10-06 on\n")
    assert outputs[1].endswith("has already partitions by day, from 2024-10-06 on\n")
    assert store.counts().predictions == 200


def test_an_interrupted_conversion_can_be_repeated(postgres: Postgres, store: Store) -> None:
    """What the first steps left behind is replaced, also on a later day."""
    with psycopg.connect(postgres.dsn(store.location.url.database or "")) as connection:
        connection.execute("ALTER TABLE predictions ADD COLUMN day INTEGER NOT NULL DEFAULT 0")
        connection.execute("CREATE UNIQUE INDEX predictions_history_key ON predictions (prediction_id, day)")
        connection.execute("ALTER TABLE predictions ADD CONSTRAINT predictions_history_range CHECK (day < 9)")

    assert store.partition(NOW + 3 * DAY_NS) == (TODAY + 5, True)
    assert rows_by_table(postgres, store, "predictions") == {"predictions_history": 200}


def test_a_conversion_does_not_wait_long_for_a_table_in_use(
    postgres: Postgres, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waited, all other statements on the table would wait, too. The next call converts the store."""
    monkeypatch.setattr(partitioning, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '50ms'")
    database = str(store.location.url.database)
    with psycopg.connect(postgres.dsn(database)) as reader:
        reader.execute("SELECT count(*) FROM predictions")
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            store.partition(NOW)
    _, converted = store.partition(NOW)
    assert converted


def test_sqlite_has_no_partitions(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The message says what to use."""
    with (
        open_store(str(tmp_path_factory.mktemp("store") / "s.db")) as store,
        pytest.raises(StoreError, match=r"s\.db is SQLite, which has no partitions: use PostgreSQL"),
    ):
        store.partition(NOW)
