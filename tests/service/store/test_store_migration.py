"""Opening a store of an older version migrates it in place."""

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from sqlalchemy import create_engine, text

from modeltrace.errors import StoreError
from modeltrace.store.rows import RowBuilder
from modeltrace.store.schema import SCHEMA_VERSION
from modeltrace.store.store import Store, open_store
from modeltrace.store.store_url import parse_store_url
from tests.helpers.factories import TIME, AnsweredRequest, answered_row

# The tables of version 1.
VERSION_1_TABLES: Final = (
    "CREATE TABLE modeltrace_store (version INTEGER NOT NULL)",
    "INSERT INTO modeltrace_store VALUES (1)",
    """CREATE TABLE predictions (
        prediction_id TEXT NOT NULL PRIMARY KEY, time BIGINT NOT NULL, trace_id TEXT, span_id TEXT,
        row INTEGER NOT NULL, sampled BOOLEAN NOT NULL, model_name TEXT NOT NULL, model_version TEXT NOT NULL,
        model_hash TEXT NOT NULL, code_version TEXT NOT NULL, inputs TEXT, label TEXT, value DOUBLE PRECISION,
        confidence DOUBLE PRECISION, erased BIGINT)""",
    "CREATE INDEX predictions_time ON predictions (time, prediction_id)",
    "CREATE INDEX predictions_trace_id ON predictions (trace_id)",
    """CREATE TABLE labels (
        prediction_id TEXT NOT NULL PRIMARY KEY, label TEXT NOT NULL, received BIGINT NOT NULL,
        prediction_time BIGINT NOT NULL)""",
    "CREATE INDEX labels_prediction_time ON labels (prediction_time)",
)
# The INSERT statement of a service of version 1.
INSERT: Final = """INSERT INTO predictions
    (prediction_id, time, trace_id, span_id, row, sampled, model_name, model_version, model_hash, code_version, inputs,
     label, value, confidence, erased)
    VALUES (:id, :time, NULL, NULL, 0, true, 'm', '1', 'a', '0.1.0', :inputs, '"benign"', NULL, 0.9, NULL)"""

INSERT_LABEL: Final = "INSERT INTO labels VALUES ('old', '\"benign\"', :time, :time)"


@pytest.fixture
def old_store(store_url: str) -> str:
    """A store of version 1 with one labelled prediction."""
    location = parse_store_url(store_url)
    if location.file:
        location.file.parent.mkdir(parents=True)
    execute(store_url, *VERSION_1_TABLES)
    add_as_version_1(store_url, "old")
    execute(store_url, INSERT_LABEL)
    return store_url


def execute(url: str, *statements: str, **values: str) -> None:
    """Execute SQL statements on a separate connection."""
    engine = create_engine(parse_store_url(url).url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), {**values, "time": TIME, "inputs": '{"radius":1.5}'})
    engine.dispose()


def add_as_version_1(url: str, prediction_id: str) -> None:
    """Insert a prediction like a service of version 1."""
    execute(url, INSERT, id=prediction_id)


def shadows(store: Store) -> dict[str, str | None]:
    """Return `shadow_of` of each prediction."""
    return {row.prediction_id: row.shadow_of for page in store.read() for row in page}


@pytest.mark.parametrize("create", [True, False])
def test_a_migrated_store_keeps_old_rows_and_accepts_new_ones(old_store: str, create: bool) -> None:
    """Old rows and labels are readable, services of both versions can write, and a second opening changes nothing."""
    with open_store(old_store, create=create) as store:
        stored = store.find("old")
        assert stored is not None
        assert (stored.label, stored.true_label) == ("benign", "benign")
        assert (stored.schema_hash, stored.shadow_of) == (None, None)
        store.add_predictions(RowBuilder("0.2.0").build(AnsweredRequest([answered_row("new")], shadow_of=("old",))))
        add_as_version_1(old_store, "late")
    with open_store(old_store, create=create) as store:
        assert shadows(store) == {"old": None, "new": "old", "late": None}
        new = store.find("new")
        assert new is not None
        assert new.schema_hash == "b" * 64
        assert new.true_label == "benign"


def test_many_threads_migrate_a_store_at_the_same_time(old_store: str) -> None:
    """The first thread migrates the store, and the others find it migrated."""

    def read(_: int) -> int:
        with open_store(old_store) as store:
            return store.counts().predictions

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [1] * 8


def test_a_failed_migration_is_rolled_back(old_store: str) -> None:
    """The store keeps its version, and has none of the new columns."""
    execute(old_store, "CREATE INDEX predictions_shadow_of ON predictions (time)")
    with pytest.raises(StoreError, match="predictions_shadow_of"):
        open_store(old_store)
    add_as_version_1(old_store, "another")
    execute(old_store, "DROP INDEX predictions_shadow_of")
    with open_store(old_store) as store:
        assert shadows(store) == {"old": None, "another": None}


def test_erasing_a_prediction_erases_its_shadows(store_url: str) -> None:
    """Shadows have the same inputs; other predictions of the trace stay."""
    with open_store(store_url) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([answered_row("p"), answered_row("q")])))
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([answered_row("s")], shadow_of=("p",))))

        assert store.erase(["p"], TIME + 9) == ["p"]
        rows = {row.prediction_id: (row.inputs is None, row.erased) for page in store.read() for row in page}
        assert rows == {"p": (True, TIME + 9), "s": (True, TIME + 9), "q": (False, None)}


# Only SQLite lists its tables this way; the migrations are the same for PostgreSQL.
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_migrated_store_equals_a_new_one(old_store: str, store_url: str) -> None:
    """Both have the same columns in the same order, and the same indexes."""
    fresh = f"{store_url}-{os.getpid()}"
    for url in (old_store, fresh):
        open_store(url).close()

    def tables(url: str) -> tuple[list[object], list[object]]:
        with sqlite3.connect(url) as raw:
            columns = [
                raw.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()  # noqa: S608  two fixed names
                for table in ("predictions", "labels")
            ]
            indexes = raw.execute("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
            return columns, [*indexes, raw.execute("SELECT version FROM modeltrace_store").fetchall()]

    assert tables(old_store) == tables(fresh)
    assert tables(old_store)[1][-1] == [(SCHEMA_VERSION,)]
