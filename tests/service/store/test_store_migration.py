"""A store that an earlier version of the tables has made is brought up in place, whoever opens it."""

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

# As the first Modeltrace with a store made it.
FIRST: Final = (
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
# As a service of that version goes on writing.
ADDING: Final = """INSERT INTO predictions
    (prediction_id, time, trace_id, span_id, row, sampled, model_name, model_version, model_hash, code_version, inputs,
     label, value, confidence, erased)
    VALUES (:id, :time, NULL, NULL, 0, true, 'm', '1', 'a', '0.1.0', :inputs, '"benign"', NULL, 0.9, NULL)"""

LABEL: Final = "INSERT INTO labels VALUES ('old', '\"benign\"', :time, :time)"


@pytest.fixture
def first(store_url: str) -> str:
    """A store of version 1 with one labelled prediction, by plain SQL."""
    location = parse_store_url(store_url)
    if location.file:
        location.file.parent.mkdir(parents=True)
    say(store_url, *FIRST)
    add(store_url, "old")
    say(store_url, LABEL)
    return store_url


def say(url: str, *statements: str, **values: str) -> None:
    """Plain SQL, beside any store that is open."""
    engine = create_engine(parse_store_url(url).url)
    with engine.begin() as connection:
        for one in statements:
            connection.execute(text(one), {**values, "time": TIME, "inputs": '{"radius":1.5}'})
    engine.dispose()


def add(url: str, prediction_id: str) -> None:
    """A prediction, written by a service of version 1."""
    say(url, ADDING, id=prediction_id)


def shadows(store: Store) -> dict[str, str | None]:
    """What each prediction is a shadow of."""
    return {one.prediction_id: one.shadow_of for chunk in store.read() for one in chunk}


@pytest.mark.parametrize("create", [True, False])
def test_an_older_store_keeps_what_it_has_and_takes_what_is_new(first: str, create: bool) -> None:
    """Its rows and labels are read as before, rows of services of both versions are added; twice is as good as once."""
    with open_store(first, create=create) as store:
        kept = store.find("old")
        assert kept is not None
        assert (kept.label, kept.true_label, kept.schema_hash, kept.shadow_of) == ("benign", "benign", None, None)
        store.add_predictions(RowBuilder("0.2.0").build(AnsweredRequest([answered_row("new")], shadow_of=("old",))))
        add(first, "late")
    with open_store(first, create=create) as store:
        assert shadows(store) == {"old": None, "new": "old", "late": None}
        found = store.find("new")
        assert found is not None
        assert found.schema_hash == "b" * 64
        assert found.true_label == "benign"


def test_many_bring_up_a_store_at_the_same_time(first: str) -> None:
    """Whoever is first does it, and the others find it done."""

    def read(_: int) -> int:
        with open_store(first) as store:
            return store.counts().predictions

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [1] * 8


def test_a_step_that_fails_leaves_the_store_as_it_was(first: str) -> None:
    """The old version is still the version, and none of the new columns is there."""
    say(first, "CREATE INDEX predictions_shadow_of ON predictions (time)")
    with pytest.raises(StoreError, match="predictions_shadow_of"):
        open_store(first)
    add(first, "another")
    say(first, "DROP INDEX predictions_shadow_of")
    with open_store(first) as store:
        assert shadows(store) == {"old": None, "another": None}


def test_erasing_an_answer_erases_its_shadows(store_url: str) -> None:
    """They were given the same inputs; what else is of that trace stays."""
    with open_store(store_url) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([answered_row("p"), answered_row("q")])))
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([answered_row("s")], shadow_of=("p",))))

        assert store.erase(["p"], TIME + 9) == ["p"]
        found = {one.prediction_id: (one.inputs is None, one.erased) for chunk in store.read() for one in chunk}
        assert found == {"p": (True, TIME + 9), "s": (True, TIME + 9), "q": (False, None)}


# SQLite says how its tables were made; the steps are the same for both.
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_new_store_and_one_brought_up_are_the_same(first: str, store_url: str) -> None:
    """The same columns in the same order, and the same indexes."""
    fresh = f"{store_url}-{os.getpid()}"
    for url in (first, fresh):
        open_store(url).close()

    def made(url: str) -> tuple[list[object], list[object]]:
        with sqlite3.connect(url) as raw:
            columns = raw.execute("SELECT name FROM pragma_table_info('predictions')").fetchall()
            indexes = raw.execute("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
            return columns, [*indexes, raw.execute("SELECT version FROM modeltrace_store").fetchall()]

    assert made(first) == made(fresh)
    assert made(first)[1][-1] == [(SCHEMA_VERSION,)]
