"""A store returns what was written, exactly once, by time or by trace, in SQLite and PostgreSQL."""

import math
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from modeltrace.errors import StoreError, StoreUnavailableError
from modeltrace.store.prediction_insertion import STATEMENT_SIZES
from modeltrace.store.rows import Row, RowBuilder, StoredLabel, StoredPrediction
from modeltrace.store.schema import SCHEMA_VERSION, schema_version
from modeltrace.store.selection import Selection
from modeltrace.store.store import Counts, Store, open_store
from modeltrace.store.store_url import parse_store_url
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.factories import MODEL, TIME, AnsweredRequest, answered_row, stored_row, stored_rows
from tests.helpers.postgres import Postgres

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
TRUE = True
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new store."""
    with open_store(store_url) as opened:
        yield opened


def read_all(store: Store, selection: Selection = Selection()) -> list[StoredPrediction]:  # noqa: B008  it cannot change
    """Return all selected predictions."""
    return [row for page in store.read(selection) for row in page]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@example(
    inputs=(-0.0, -0.0, -0.0),
    answer=(None, -0.0),
    confidence=None,
    time=0,
    flags=0,
    trace=bytes(16),
    probabilities=None,
    outputs=None,
    interval=(-0.0, 1.0),
)
@given(
    inputs=st.tuples(VALUES, VALUES, VALUES),
    answer=st.tuples(VALUES, st.none()) | st.tuples(st.none(), st.floats(allow_nan=False)),
    confidence=st.none() | st.floats(0, 1),
    outputs=st.none() | st.tuples(VALUES, VALUES),
    interval=st.none() | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    time=st.integers(0, 2**63 - 1),
    flags=st.integers(0, 3),
    trace=st.binary(min_size=16, max_size=16),
    probabilities=st.none() | st.dictionaries(VALUES, st.floats(), min_size=1, max_size=4),
)
def test_every_value_is_read_back_unchanged(
    store: Store,
    inputs: tuple[object, ...],
    answer: tuple[object, float | None],
    confidence: float | None,
    outputs: tuple[Any, ...] | None,
    interval: tuple[float, float] | None,
    time: int,
    flags: int,
    trace: bytes,
    probabilities: dict[Any, float] | None,
) -> None:
    """This includes -0.0, U+0000, integers beyond 64 bits and infinite predictions.

    A predicted -0.0, also a bound, becomes 0.0, and a probability that is not finite becomes null.
    """
    label, value = answer
    row = answered_row(
        os.urandom(8).hex(), label=label, value=value, confidence=confidence, inputs=inputs, time=time,
        probabilities=None if probabilities is None else list(probabilities.values()),
    )._replace(outputs=outputs, interval=interval)  # fmt: skip
    model = MODEL._replace(
        classes=tuple(probabilities or ()), outputs=("height", "width"), interval_level=interval and 0.9
    )
    store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([row], trace, b"12345678", flags, model)))

    stored = store.find(row.prediction_id)

    assert stored is not None
    traced = (trace.hex(), b"12345678".hex()) if any(trace) else (None, None)
    assert stored[:3] == (row.prediction_id, time, traced[0])
    assert repr(stored) == repr(
        StoredPrediction(
            row.prediction_id, time, *traced, 0, bool(flags & 1), MODEL.name, MODEL.version, MODEL.hash, "0.1.0",
            dict(zip(MODEL.features, inputs, strict=True)), label if value is None else None,
            None if value is None else value + 0.0, confidence, None, MODEL.schema_hash, None, synthetic=False,
            external_id=None, tags=None,
            probabilities=None if probabilities is None else [
                [label, probability if math.isfinite(probability) else None]
                for label, probability in probabilities.items()
            ],
            api_key_name=None, outputs=outputs and dict(zip(("height", "width"), outputs, strict=True)),
            interval_low=interval and interval[0] + 0.0, interval_high=interval and interval[1] + 0.0,
            interval_level=interval and 0.9, true_label=None, received=None, label_api_key_name=None,
        )
    )  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(label=VALUES)
def test_every_label_is_read_back_unchanged(store: Store, label: str | float | bool | None) -> None:
    """`received` distinguishes a null label from a missing one."""
    row = stored_row(os.urandom(8).hex())
    store.add_predictions([row])
    store.add_labels([StoredLabel(row.prediction_id, label, TIME + 5, TIME)])

    stored = store.find(row.prediction_id)

    assert stored is not None
    assert (repr(stored.true_label), stored.received) == (repr(label), TIME + 5)


@pytest.mark.parametrize("number", [0, 1, STATEMENT_SIZES[0] - 1, sum(STATEMENT_SIZES) + 1, 10_000])
def test_any_number_of_rows_is_one_transaction(store: Store, number: int) -> None:
    """Inserting existing rows again changes nothing."""
    rows = stored_rows(number)
    store.add_predictions(rows)
    store.add_predictions([row._replace(label='"another"') for row in rows])

    stored = read_all(store)

    assert [row.prediction_id for row in stored] == [row.prediction_id for row in rows]
    assert {row.label for row in stored} <= {"benign"}
    assert store.counts().predictions == number


def test_a_rejected_row_rolls_the_transaction_back(store: Store) -> None:
    """No row of the transaction is stored."""
    with pytest.raises(StoreError, match=r"null value|NOT NULL"):
        store.add_predictions([*stored_rows(3), stored_row("unfit")._replace(time=None)])  # type: ignore[arg-type]  # on purpose

    assert read_all(store) == []


def test_two_writers_share_a_store(store_url: str) -> None:
    """Two connections write some identical rows: each row is stored once."""
    writers = [stored_rows(400, f"writer{number}-") + stored_rows(200, "shared-") for number in range(2)]

    def write(rows: list[Row]) -> None:
        with open_store(store_url) as store:
            for start in range(0, len(rows), 20):
                store.add_predictions(rows[start : start + 20])

    threads = [threading.Thread(target=write, args=(rows,)) for rows in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with open_store(store_url) as store:
        stored = [row.prediction_id for row in read_all(store)]
    assert len(stored) == 1000
    assert set(stored) == {row.prediction_id for rows in writers for row in rows}


def test_many_processes_may_create_the_same_store(store_url: str) -> None:
    """Workers and replicas that start at the same time create the tables once."""
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
    """`since` is inclusive, `until` is exclusive; rows with the same time have a stable order over several pages."""
    same_time = [row._replace(time=TIME + 5000) for row in stored_rows(2500, "same-")]
    store.add_predictions([*stored_rows(1000), *same_time, stored_row("traced", trace_id="ab" * 16)])

    assert len(read_all(store)) == 3501
    assert [row.time for row in read_all(store, Selection(since=TIME + 3, until=TIME + 6))] == [
        TIME + 3, TIME + 4, TIME + 5,
    ]  # fmt: skip
    assert len(set(selected_ids(store, Selection(since=TIME + 5000)))) == 2500
    assert selected_ids(store, Selection(trace_id="ab" * 16)) == ["traced"]
    assert store.counts(Selection(since=TIME + 5000))[::2] == (2500, TIME + 5000)


def selected_ids(store: Store, selection: Selection) -> list[str]:
    """Return the IDs of all selected predictions."""
    return [row.prediction_id for row in read_all(store, selection)]


def test_labels_are_added_once_before_or_after_their_prediction(store: Store) -> None:
    """The first label stays; an equal label is `same`, and another one is a `conflict`."""
    early = [StoredLabel("a", "benign", 7, 1), StoredLabel("b", 1, 7, 1), StoredLabel("a", "malignant", 7, 1)]

    assert store.add_labels(early) == ["new", "new", "conflict"]
    store.add_predictions([stored_row("a"), stored_row("b"), stored_row("c")])
    late = [StoredLabel("c", TRUE, 8, 1), StoredLabel("b", 1.0, 8, 1), StoredLabel("b", TRUE, 8, 1)]
    assert store.add_labels(late) == [
        "new", "same", "conflict",
    ]  # fmt: skip
    assert store.add_labels([]) == []
    assert {row.prediction_id: (row.true_label, row.received) for row in read_all(store)} == {
        "a": ("benign", 7), "b": (1, 7), "c": (True, 8),
    }  # fmt: skip
    assert store.counts().labels == 3


def test_each_label_is_new_for_one_sender(store_url: str) -> None:
    """Two threads send the same 3,000 labels in different order: each label is `new` for exactly one of them."""
    items = [StoredLabel(f"p{number}", "benign", 1, 1) for number in range(3000)]
    outcomes: list[list[str]] = []

    def send(labels: list[StoredLabel]) -> None:
        with open_store(store_url) as store:
            outcomes.append(list(store.add_labels(labels)))

    open_store(store_url).close()
    threads = [threading.Thread(target=send, args=(labels,)) for labels in (items, items[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    all_outcomes = [outcome for some in outcomes for outcome in some]
    assert (all_outcomes.count("new"), all_outcomes.count("same")) == (3000, 3000)


def test_erasing_removes_inputs_and_keeps_the_row(store: Store) -> None:
    """Unknown IDs are not returned; erasing again, or writing the row again, changes nothing."""
    first, second = (row._replace(outputs='{"score":1.5}') for row in stored_rows(2))
    store.add_predictions([first, second])

    assert store.erase([first.prediction_id, "unknown"], now_ns=77) == [first.prediction_id]
    assert store.erase([first.prediction_id], now_ns=99) == [first.prediction_id]
    store.add_predictions([first])

    stored = read_all(store)
    assert [(row.inputs is None, row.outputs, row.erased, row.label) for row in stored] == [
        (True, None, 77, "benign"), (False, {"score": 1.5}, None, "benign"),
    ]  # fmt: skip


def test_erased_inputs_are_overwritten_on_disk(tmp_path: Path) -> None:
    """Neither the database nor its write-ahead log contains them."""
    private = "a patient's very own name"
    with open_store(str(tmp_path / "s.db")) as store:
        store.add_predictions(
            [*stored_rows(50), stored_row("p", inputs=f'{{"name":"{private}"}}'), *stored_rows(50, "more-")]
        )
        assert holds(tmp_path, private)

        store.erase(["p"], now_ns=1)

        assert not holds(tmp_path, private)


def holds(folder: Path, text: str) -> bool:
    """Return whether any file of a folder contains the text."""
    return any(text.encode() in path.read_bytes() for path in folder.iterdir())


def test_old_predictions_are_deleted_with_their_labels(store: Store) -> None:
    """The oldest predictions are deleted first, in chunks; labels are deleted by the time of their prediction."""
    millisecond = 1_000_000
    rows = [stored_row(f"p{number:04}", time=number * millisecond) for number in range(5000)]
    store.add_predictions(rows)
    store.add_labels([StoredLabel(f"p{number:04}", 1, 9, number * millisecond) for number in range(0, 5000, 10)])

    deleted = 0
    more = True
    while more:
        number, more = store.delete_before(4500 * millisecond)
        deleted += number

    assert deleted == 4500
    assert store.counts() == Counts(500, 50, 4500 * millisecond, 4999 * millisecond)


def test_a_size_limit_deletes_the_oldest_predictions(tmp_path: Path) -> None:
    """The limit applies to the used pages: the file does not shrink, and new rows reuse free pages."""
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


@pytest.mark.slow
def test_a_postgresql_store_has_no_size_limit(postgres: Postgres) -> None:
    """`shrink` deletes nothing."""
    with open_store(postgres.url(postgres.create_database())) as store:
        store.add_predictions(stored_rows(10))
        assert store.shrink(0) == 0


def test_a_store_of_a_later_version_is_rejected(store_url: str) -> None:
    """The message names the version and the setting."""
    with open_store(store_url) as store, store._database.transaction() as connection:
        connection.execute(schema_version.delete())
        connection.execute(insert(schema_version).values(version=SCHEMA_VERSION + 1))

    with pytest.raises(StoreError, match=rf"tables of version {SCHEMA_VERSION + 1}.*MODELTRACE_STORE"):
        open_store(store_url)


def test_a_missing_store_is_created_only_on_request(store_url: str) -> None:
    """Opening it for reading is an error."""
    with pytest.raises(StoreError, match="there is no prediction store at"):
        open_store(store_url, create=False)


@pytest.mark.slow
def test_foreign_tables_are_not_used(postgres: Postgres) -> None:
    """A database with another table `predictions` is rejected."""
    name = postgres.create_database()
    with psycopg.connect(postgres.dsn(name)) as connection:
        connection.execute("CREATE TABLE predictions (mine int)")

    with pytest.raises(StoreError, match="already exists"):
        open_store(postgres.url(name))


def test_the_file_is_readable_by_its_user_only(tmp_path: Path) -> None:
    """The database and its write-ahead log contain inputs of predictions."""
    with open_store(str(tmp_path / "folder" / "s.db")) as store:
        store.add_predictions(stored_rows(1))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "folder").iterdir()}

    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:hunter2@db/x", "http://u:hunter2@h", "sqlite://",
        "postgresql+asyncpg://u:hunter2@h/d", "://hunter2", "sqlite:///:memory:", "postgresql://u:hunter2@h:port/d",
    ],
)  # fmt: skip
def test_an_invalid_url_is_rejected_without_repeating_it(url: str) -> None:
    """The URL may contain a password."""
    with pytest.raises(StoreError, match="MODELTRACE_STORE must be") as caught:
        parse_store_url(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "description"),
    [
        ("postgresql://u:hunter2@db.example/audit", "the PostgreSQL database 'audit' at db.example port 5432"),
        ("postgresql+psycopg://u@/a?host=/run/pg&password=hunter2", "the PostgreSQL database 'a' at /run/pg port 5432"),
        ("/data/audit.db", "/data/audit.db"),
        ("sqlite:////data/audit.db", "/data/audit.db"),
    ],
)
def test_the_description_of_a_location_has_no_password(url: str, description: str) -> None:
    """It names the file, or the host and the database."""
    assert parse_store_url(url).description == description


def test_a_password_is_in_no_error(postgres: Postgres) -> None:
    """This holds for a server that rejects it, and for a missing server."""
    wrong = "hunter2-and-more"
    for url in (postgres.url("postgres", wrong), f"postgresql://u:{wrong}@127.0.0.1:1/d"):
        with pytest.raises(StoreUnavailableError, match="MODELTRACE_STORE") as caught:
            open_store(url)
        assert wrong not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """The message names the file and the setting."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"file/s\.db: .*MODELTRACE_STORE"):
        open_store(str(tmp_path / "file" / "s.db"))


def test_a_file_that_is_not_a_database_is_an_error(tmp_path: Path) -> None:
    """The file stays unchanged."""
    (tmp_path / "s.db").write_text("something else " * 100)

    with pytest.raises(StoreError, match="not a database"):
        open_store(str(tmp_path / "s.db"))
    assert (tmp_path / "s.db").read_text().startswith("something else")


def test_a_locked_database_is_a_temporary_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer waits for the lock until its timeout."""
    monkeypatch.setattr("modeltrace.store.database.BUSY_TIMEOUT", 0.1)
    with open_store(str(tmp_path / "s.db")) as store:
        other_writer = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other_writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.add_predictions(stored_rows(1))
        other_writer.close()
        store.add_predictions(stored_rows(1))

        assert store.counts().predictions == 1


def test_each_row_names_its_model_and_code_version() -> None:
    """Rows have name, version and hash of the model, the version of the code and the hash of the schema."""
    request = AnsweredRequest([answered_row("p", inputs=(1,))], model=ModelInfo("m", "2", "f" * 64, ("x",), "5" * 64))

    (row,) = RowBuilder("9.9").build(request)

    assert row[6:11] == ("m", "2", "f" * 64, "9.9", '{"x":1}')
    assert row.schema_hash == "5" * 64
