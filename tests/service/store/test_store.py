"""The store itself, in SQLite and in PostgreSQL: what is written is read back equal, once, by time or by trace."""

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from modeltrace.errors import StoreError, StoreUnavailableError
from modeltrace.store.rows import Row, RowBuilder, StoredLabel, StoredPrediction
from modeltrace.store.schema import SCHEMA_VERSION, schema_version
from modeltrace.store.selection import Selection
from modeltrace.store.store import STATEMENT_SIZES, Counts, Store, open_store
from modeltrace.store.store_url import parse_store_url
from modeltrace.telemetry.records.prediction import ModelInfo
from tests.helpers.factories import MODEL, TIME, AnsweredRequest, answered_row, stored_row, stored_rows
from tests.helpers.postgres import Postgres

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
TRUE = True
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new one."""
    with open_store(store_url) as opened:
        yield opened


def everything(store: Store, selection: Selection = Selection()) -> list[StoredPrediction]:  # noqa: B008  it cannot change
    """All that is selected."""
    return [one for chunk in store.read(selection) for one in chunk]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@example(inputs=(-0.0, -0.0, -0.0), answer=(None, -0.0), confidence=None, time=0, flags=0, trace=bytes(16))
@given(
    inputs=st.tuples(VALUES, VALUES, VALUES),
    answer=st.tuples(VALUES, st.none()) | st.tuples(st.none(), st.floats(allow_nan=False)),
    confidence=st.none() | st.floats(0, 1),
    time=st.integers(0, 2**63 - 1),
    flags=st.integers(0, 3),
    trace=st.binary(min_size=16, max_size=16),
)
def test_every_value_is_read_back_as_it_was(
    store: Store,
    inputs: tuple[object, ...],
    answer: tuple[object, float | None],
    confidence: float | None,
    time: int,
    flags: int,
    trace: bytes,
) -> None:
    """Whatever the type: -0.0, U+0000, integers beyond 64 bits, infinite answers. As an answer -0.0 is 0.0."""
    label, value = answer
    one = answered_row(os.urandom(8).hex(), label=label, value=value, confidence=confidence, inputs=inputs, time=time)
    store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([one], trace, b"12345678", flags)))

    found = store.find(one.prediction_id)

    assert found is not None
    traced = (trace.hex(), b"12345678".hex()) if any(trace) else (None, None)
    assert found[:3] == (one.prediction_id, time, traced[0])
    assert repr(found) == repr(
        StoredPrediction(
            one.prediction_id, time, *traced, 0, bool(flags & 1), MODEL.name, MODEL.version, MODEL.hash, "0.1.0",
            dict(zip(MODEL.features, inputs, strict=True)), label if value is None else None,
            None if value is None else value + 0.0, confidence, None, MODEL.schema_hash, None, synthetic=False,
            true_label=None, received=None,
        )
    )  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(label=VALUES)
def test_every_label_is_read_back_as_it_was(store: Store, label: str | float | bool | None) -> None:
    """A label that is null is told from none by the time at which it came."""
    one = stored_row(os.urandom(8).hex())
    store.add_predictions([one])
    store.add_labels([StoredLabel(one.prediction_id, label, TIME + 5, TIME)])

    found = store.find(one.prediction_id)

    assert found is not None
    assert (repr(found.true_label), found.received) == (repr(label), TIME + 5)


@pytest.mark.parametrize("number", [0, 1, STATEMENT_SIZES[0] - 1, sum(STATEMENT_SIZES) + 1, 10_000])
def test_any_number_of_rows_is_one_transaction(store: Store, number: int) -> None:
    """A batch of 10,000 rows, too; and what comes again stays as it is."""
    made = stored_rows(number)
    store.add_predictions(made)
    store.add_predictions([one._replace(label='"another"') for one in made])

    found = everything(store)

    assert [one.prediction_id for one in found] == [one.prediction_id for one in made]
    assert {one.label for one in found} <= {"benign"}
    assert store.counts().predictions == number


def test_a_row_that_is_refused_leaves_none_of_its_group(store: Store) -> None:
    """All of a transaction or nothing."""
    with pytest.raises(StoreError, match=r"null value|NOT NULL"):
        store.add_predictions([*stored_rows(3), stored_row("unfit")._replace(time=None)])  # type: ignore[arg-type]  # on purpose

    assert everything(store) == []


def test_two_writers_share_a_store(store_url: str) -> None:
    """Each with a connection of its own, some rows the same: all of them are there, once."""
    made = [stored_rows(400, f"writer{number}-") + stored_rows(200, "shared-") for number in range(2)]

    def write(mine: list[Row]) -> None:
        with open_store(store_url) as store:
            for start in range(0, len(mine), 20):
                store.add_predictions(mine[start : start + 20])

    threads = [threading.Thread(target=write, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with open_store(store_url) as store:
        found = [one.prediction_id for one in everything(store)]
    assert len(found) == 1000
    assert set(found) == {one.prediction_id for mine in made for one in mine}


def test_many_may_make_the_same_store(store_url: str) -> None:
    """Workers and replicas that start together find one set of tables."""
    errors: list[StoreError] = []

    def make() -> None:
        try:
            open_store(store_url).close()
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with open_store(store_url, create=False) as store:
        assert store.counts() == Counts(0, 0, None, None)


def test_predictions_are_selected_by_time_and_by_trace(store: Store) -> None:
    """`since` is included, `until` is not; rows of one time keep an order, over any number of chunks."""
    same_time = [one._replace(time=TIME + 5000) for one in stored_rows(2500, "same-")]
    store.add_predictions([*stored_rows(1000), *same_time, stored_row("traced", trace_id="ab" * 16)])

    assert len(everything(store)) == 3501
    assert [one.time for one in everything(store, Selection(since=TIME + 3, until=TIME + 6))] == [
        TIME + 3, TIME + 4, TIME + 5,
    ]  # fmt: skip
    assert len(set(everything_ids(store, Selection(since=TIME + 5000)))) == 2500
    assert everything_ids(store, Selection(trace_id="ab" * 16)) == ["traced"]
    assert store.counts(Selection(since=TIME + 5000))[::2] == (2500, TIME + 5000)


def everything_ids(store: Store, selection: Selection) -> list[str]:
    """The IDs of all that is selected."""
    return [one.prediction_id for one in everything(store, selection)]


def test_labels_are_added_once_before_or_after_their_prediction(store: Store) -> None:
    """The first one stays; the same one again is no conflict, another one is, and changes nothing."""
    early = [StoredLabel("a", "benign", 7, 1), StoredLabel("b", 1, 7, 1), StoredLabel("a", "malignant", 7, 1)]

    assert store.add_labels(early) == ["new", "new", "conflict"]
    store.add_predictions([stored_row("a"), stored_row("b"), stored_row("c")])
    late = [StoredLabel("c", TRUE, 8, 1), StoredLabel("b", 1.0, 8, 1), StoredLabel("b", TRUE, 8, 1)]
    assert store.add_labels(late) == [
        "new", "same", "conflict",
    ]  # fmt: skip
    assert store.add_labels([]) == []
    assert {one.prediction_id: (one.true_label, one.received) for one in everything(store)} == {
        "a": ("benign", 7), "b": (1, 7), "c": (True, 8),
    }  # fmt: skip
    assert store.counts().labels == 3


def test_labels_of_many_senders_agree(store_url: str) -> None:
    """Two send the same 3,000 labels at once in different order: each is new for exactly one of them."""
    items = [StoredLabel(f"p{number}", "benign", 1, 1) for number in range(3000)]
    outcomes: list[list[str]] = []

    def send(mine: list[StoredLabel]) -> None:
        with open_store(store_url) as store:
            outcomes.append(list(store.add_labels(mine)))

    open_store(store_url).close()
    threads = [threading.Thread(target=send, args=(mine,)) for mine in (items, items[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    said = [one for some in outcomes for one in some]
    assert (said.count("new"), said.count("same")) == (3000, 3000)


def test_erased_inputs_are_gone_and_the_row_stays(store: Store) -> None:
    """Those that are not there are not named; erasing again changes nothing, and so does writing the row again."""
    first, second = stored_rows(2)
    store.add_predictions([first, second])

    assert store.erase([first.prediction_id, "unknown"], now_ns=77) == [first.prediction_id]
    assert store.erase([first.prediction_id], now_ns=99) == [first.prediction_id]
    store.add_predictions([first])

    found = everything(store)
    assert [(one.inputs is None, one.erased, one.label) for one in found] == [
        (True, 77, "benign"), (False, None, "benign"),
    ]  # fmt: skip


def test_nothing_of_erased_inputs_stays_in_the_file(tmp_path: Path) -> None:
    """Neither in the database nor in its log."""
    private = "a patient's very own name"
    with open_store(str(tmp_path / "s.db")) as store:
        store.add_predictions(
            [*stored_rows(50), stored_row("p", inputs=f'{{"name":"{private}"}}'), *stored_rows(50, "more-")]
        )
        assert holds(tmp_path, private)

        store.erase(["p"], now_ns=1)

        assert not holds(tmp_path, private)


def holds(folder: Path, text: str) -> bool:
    """Whether any file of a folder has these bytes."""
    return any(text.encode() in path.read_bytes() for path in folder.iterdir())


def test_old_predictions_are_deleted_with_their_labels(store: Store) -> None:
    """A chunk at a time, the oldest first; labels that wait for their prediction go by the time of that."""
    millisecond = 1_000_000
    made = [stored_row(f"p{number:04}", time=number * millisecond) for number in range(5000)]
    store.add_predictions(made)
    store.add_labels([StoredLabel(f"p{number:04}", 1, 9, number * millisecond) for number in range(0, 5000, 10)])

    deleted = 0
    more = True
    while more:
        number, more = store.delete_before(4500 * millisecond)
        deleted += number

    assert deleted == 4500
    assert store.counts() == Counts(500, 50, 4500 * millisecond, 4999 * millisecond)


def test_beyond_its_size_the_oldest_go(tmp_path: Path) -> None:
    """SQLite's limit is for what rows take: the file stays about as large, and what comes next finds room in it."""
    limit = 1_000_000
    file = tmp_path / "s.db"
    with open_store(str(file)) as store:
        for batch in range(20):
            store.add_predictions(
                [
                    stored_row(f"{batch}-{number}", time=batch * 1000 + number, inputs="x" * 500)
                    for number in range(1000)
                ]
            )
            while store.shrink(limit):
                pass
        counts = store.counts()
        assert store.shrink(10**12) == 0
        assert store.shrink(0) == counts.predictions

    assert counts.latest == 19_999
    assert 0 < counts.predictions < 3000
    assert file.stat().st_size < 4 * limit


def test_the_size_of_postgresql_is_its_owners_business(postgres: Postgres) -> None:
    """Nothing is deleted for it."""
    with open_store(postgres.url(postgres.create_database())) as store:
        store.add_predictions(stored_rows(10))
        assert store.shrink(0) == 0


def test_a_store_of_another_version_is_refused(store_url: str) -> None:
    """The message says which, and where."""
    with open_store(store_url) as store, store._database.transaction() as connection:
        connection.execute(schema_version.delete())
        connection.execute(insert(schema_version).values(version=SCHEMA_VERSION + 1))

    with pytest.raises(StoreError, match=rf"tables of version {SCHEMA_VERSION + 1}.*MODELTRACE_STORE"):
        open_store(store_url)


def test_what_is_not_there_is_not_made_unless_asked(store_url: str) -> None:
    """Who only reads is told that there is nothing."""
    with pytest.raises(StoreError, match="there is no prediction store at"):
        open_store(store_url, create=False)


def test_tables_of_somebody_else_are_left_alone(postgres: Postgres) -> None:
    """A database that has a table `predictions` already is refused."""
    name = postgres.create_database()
    with psycopg.connect(postgres.dsn(name)) as connection:
        connection.execute("CREATE TABLE predictions (mine int)")

    with pytest.raises(StoreError, match="already exists"):
        open_store(postgres.url(name))


def test_the_file_is_the_users_alone(tmp_path: Path) -> None:
    """Inputs of predictions are in it, and in its log."""
    with open_store(str(tmp_path / "folder" / "s.db")) as store:
        store.add_predictions(stored_rows(1))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "folder").iterdir()}

    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "said",
    [
        "mysql://root:hunter2@db/x", "http://u:hunter2@h", "sqlite://",
        "postgresql+asyncpg://u:hunter2@h/d", "://hunter2", "sqlite:///:memory:", "postgresql://u:hunter2@h:port/d",
    ],
)  # fmt: skip
def test_what_is_no_location_is_refused_without_repeating_it(said: str) -> None:
    """A password may be in it."""
    with pytest.raises(StoreError, match="MODELTRACE_STORE must be") as caught:
        parse_store_url(said)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("postgresql://u:hunter2@db.example/audit", "the PostgreSQL database 'audit' at db.example port 5432"),
        ("postgresql+psycopg://u@/a?host=/run/pg&password=hunter2", "the PostgreSQL database 'a' at /run/pg port 5432"),
        ("/data/audit.db", "/data/audit.db"),
        ("sqlite:////data/audit.db", "/data/audit.db"),
    ],
)
def test_a_location_is_spoken_of_without_its_password(said: str, words: str) -> None:
    """What is said of it names file, or host and database."""
    assert parse_store_url(said).description == words


def test_a_password_is_in_no_error(postgres: Postgres) -> None:
    """Neither of a server that refuses it nor of one that is not there."""
    wrong = "hunter2-and-more"
    for url in (postgres.url("postgres", wrong), f"postgresql://u:{wrong}@127.0.0.1:1/d"):
        with pytest.raises(StoreUnavailableError, match="MODELTRACE_STORE") as caught:
            open_store(url)
        assert wrong not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """The message names the file and the setting."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"file/s\.db: .*MODELTRACE_STORE"):
        open_store(str(tmp_path / "file" / "s.db"))


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / "s.db").write_text("something else " * 100)

    with pytest.raises(StoreError, match="not a database"):
        open_store(str(tmp_path / "s.db"))
    assert (tmp_path / "s.db").read_text().startswith("something else")


def test_a_lock_that_is_held_is_an_error_that_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that writes is waited for, and then told of."""
    monkeypatch.setattr("modeltrace.store.database.BUSY_TIMEOUT", 0.1)
    with open_store(str(tmp_path / "s.db")) as store:
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.add_predictions(stored_rows(1))
        other.close()
        store.add_predictions(stored_rows(1))

        assert store.counts().predictions == 1


def test_a_model_is_named_in_every_row() -> None:
    """The rows of one model's requests say which it was, and which code answered."""
    told = AnsweredRequest([answered_row("p", inputs=(1,))], model=ModelInfo("m", "2", "f" * 64, ("x",), "5" * 64))

    (made,) = RowBuilder("9.9").build(told)

    assert made[6:11] == ("m", "2", "f" * 64, "9.9", '{"x":1}')
    assert made.schema_hash == "5" * 64
