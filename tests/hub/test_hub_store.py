"""The database: opened once, refused when it is not ours, read at one moment and within a time."""

import hashlib
import threading
from pathlib import Path

import duckdb
import pytest

from modeltrace_hub.errors import QueryTimeoutError, ReadersBusyError, StoreError, StoreFormatError
from modeltrace_hub.store import FILE_NAME, READERS, SCHEMA_STAMP, Store

# What each stamp stands for: a digest of all tables, columns and types.
SCHEMAS = {"1": "cecd395a8640bd46"}

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE (a.range * b.range) % 7 = 3"


def test_the_stamp_stands_for_the_schema(store: Store) -> None:
    """A change of the schema needs a new stamp, or files of the old one would be misread."""
    with store.read() as cursor:
        columns = cursor.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal "
            "ORDER BY table_name, column_index"
        ).fetchall()
    assert hashlib.sha256(repr(columns).encode()).hexdigest()[:16] == SCHEMAS[SCHEMA_STAMP]


def test_a_restart_keeps_what_was_committed(tmp_path: Path) -> None:
    """A file that is closed and opened again has its rows."""
    path = tmp_path / FILE_NAME
    store = Store(path)
    with store.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    store.close()
    store = Store(path)
    assert store.meta("a") == "b"
    store.close()


def test_the_folder_is_made(tmp_path: Path) -> None:
    """A data folder that does not exist yet is made."""
    store = Store(tmp_path / "new" / "deep" / FILE_NAME)
    store.close()
    assert (tmp_path / "new" / "deep" / FILE_NAME).is_file()


def test_another_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A file with another stamp is named in the error and keeps its rows."""
    path = tmp_path / FILE_NAME
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE meta (key VARCHAR, value VARCHAR)")
        connection.execute("INSERT INTO meta VALUES ('schema', '999')")
    with pytest.raises(StoreFormatError, match=r"hub\.duckdb has schema 999.*Nothing was changed"):
        Store(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("FROM meta").fetchall() == [("schema", "999")]


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    """A DuckDB file that no hub wrote is not written to."""
    path = tmp_path / FILE_NAME
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE bills (n INTEGER)")
    with pytest.raises(StoreFormatError, match="something else"):
        Store(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file that DuckDB cannot read is named in the error."""
    path = tmp_path / FILE_NAME
    path.write_bytes(b"notes" * 5000)
    with pytest.raises(StoreFormatError, match=r"hub\.duckdb is not a database"):
        Store(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where a file stands in the way of the folder, the error says so."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / FILE_NAME)


def test_readers_cannot_write(store: Store) -> None:
    """The cursor that `read` lends refuses to change anything."""
    with pytest.raises(duckdb.TransactionException, match="read-only"), store.read() as cursor:
        cursor.execute("DELETE FROM meta")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        "ATTACH '{folder}/other.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
    ],
)
def test_the_database_reaches_nothing_else(tmp_path: Path, sql: str) -> None:
    """No SQL reads or writes another file, loads an extension or changes these rules."""
    store = Store(tmp_path / FILE_NAME)
    try:
        with pytest.raises(duckdb.Error), store.read() as cursor:
            cursor.execute(sql.format(folder=tmp_path)).fetchall()
    finally:
        store.close()


def test_a_reader_sees_one_moment(store: Store) -> None:
    """What is committed during a read is not seen by it, and is seen by the next."""
    with store.read() as cursor:
        before = cursor.execute("SELECT count(*) FROM meta").fetchone()
        with store.write() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
        assert cursor.execute("SELECT count(*) FROM meta").fetchone() == before
    with store.read() as cursor:
        assert cursor.execute("SELECT count(*) FROM meta").fetchone() != before


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    """An error inside `write` takes back all of it."""

    def fail() -> None:
        with store.write() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.meta("a") is None


def test_a_question_that_takes_too_long_is_interrupted(store: Store) -> None:
    """A read over its time ends with an error, and its cursor works for the next."""
    with pytest.raises(QueryTimeoutError, match=r"longer than 0\.1 s"), store.read(seconds=0.1) as cursor:
        cursor.execute(ENDLESS).fetchall()
    for _ in range(READERS):
        with store.read() as cursor:
            assert cursor.execute("SELECT 1").fetchone() == (1,)


def test_readers_are_bounded(store: Store) -> None:
    """With all cursors lent, the next one waits, and is told when none came free."""
    held = threading.Barrier(READERS + 1)
    release = threading.Event()

    def read() -> None:
        with store.read(seconds=20):
            held.wait()
            release.wait()

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    held.wait()
    with pytest.raises(ReadersBusyError), store.read(seconds=0.05):
        pass
    release.set()
    for thread in threads:
        thread.join()


def test_a_store_can_be_opened_anew(tmp_path: Path) -> None:
    """After `reopen` the committed rows are there and cursors work."""
    store = Store(tmp_path / FILE_NAME)
    with store.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    store.reopen()
    with store.read() as cursor:
        assert cursor.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("b",)
    store.close()


def test_a_store_that_cannot_be_opened_anew_says_so(tmp_path: Path) -> None:
    """When `reopen` fails, reads fail at once with the reason; when it succeeds later, all works again."""
    path = tmp_path / FILE_NAME
    store = Store(path)
    store.checkpoint()
    aside = tmp_path / "aside"
    path.rename(aside)
    path.mkdir()
    with pytest.raises(StoreError):
        store.reopen()
    with pytest.raises(StoreError, match=r"hub\.duckdb"), store.read():
        pass
    path.rmdir()
    aside.rename(path)
    store.reopen()
    assert store.meta("schema") == SCHEMA_STAMP
    store.close()


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_the_size_grows_with_the_data(tmp_path: Path, kept: str) -> None:
    """The live size of a store counts what was put into it."""
    store = Store(tmp_path / FILE_NAME if kept == "file" else None)
    empty = store.size()
    with store.write() as connection:
        connection.execute("INSERT INTO meta SELECT range::VARCHAR, md5(range::VARCHAR) FROM range(100000)")
    full = store.size()
    assert full.live > empty.live + 1_000_000
    assert (full.file > 0) == (kept == "file")
    store.close()


def test_an_older_file_becomes_the_users_alone(tmp_path: Path) -> None:
    """A database that others could read is closed to them when it is opened."""
    path = tmp_path / FILE_NAME
    Store(path).close()
    path.chmod(0o644)
    Store(path).close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_nobody_else_can_read_a_new_folder(tmp_path: Path) -> None:
    """The inputs of predictions are in the database: the folder that the hub makes is its user's alone."""
    path = tmp_path / "data" / FILE_NAME
    Store(path).close()

    assert path.parent.stat().st_mode & 0o077 == 0
