"""The database: opened once, schema checked, with snapshots and timeouts for readers."""

import hashlib
import threading
from pathlib import Path

import duckdb
import pytest

from modeltrace_hub.errors import QueryTimeoutError, ReadersBusyError, StoreError, StoreFormatError
from modeltrace_hub.schema import SCHEMA_VERSION
from modeltrace_hub.store import FILE_NAME, MAX_READERS, Store

# A digest of all tables, columns and types, by schema version.
SCHEMAS = {"1": "cecd395a8640bd46", "2": "0c5d77fbdce2ae9c", "3": "648ac1f30a3b3c47", "4": "7758cbe2f263501b"}

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE (a.range * b.range) % 7 = 3"


def test_the_schema_version_identifies_the_schema(store: Store) -> None:
    """A change of the schema needs a new version, or old files would be misread."""
    with store.read() as cursor:
        columns = cursor.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal "
            "ORDER BY table_name, column_index"
        ).fetchall()
    assert hashlib.sha256(repr(columns).encode()).hexdigest()[:16] == SCHEMAS[SCHEMA_VERSION]


def test_a_restart_keeps_committed_rows(tmp_path: Path) -> None:
    """A file that is closed and opened again has its rows."""
    path = tmp_path / FILE_NAME
    store = Store(path)
    with store.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    store.close()
    store = Store(path)
    assert store.read_meta("a") == "b"
    store.close()


def test_the_folder_is_created(tmp_path: Path) -> None:
    """A missing data folder is created."""
    store = Store(tmp_path / "new" / "deep" / FILE_NAME)
    store.close()
    assert (tmp_path / "new" / "deep" / FILE_NAME).is_file()


def test_another_schema_version_is_rejected(tmp_path: Path) -> None:
    """The error names the file, which keeps its rows."""
    path = tmp_path / FILE_NAME
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE meta (key VARCHAR, value VARCHAR)")
        connection.execute("INSERT INTO meta VALUES ('schema', '999')")
    with pytest.raises(StoreFormatError, match=r"hub\.duckdb has schema version 999.*Nothing was changed"):
        Store(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("FROM meta").fetchall() == [("schema", "999")]


def test_a_database_of_another_program_is_rejected(tmp_path: Path) -> None:
    """A DuckDB file that no hub created is not changed."""
    path = tmp_path / FILE_NAME
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE bills (n INTEGER)")
    with pytest.raises(StoreFormatError, match="another program"):
        Store(path)


def test_a_file_that_is_not_a_database_is_rejected(tmp_path: Path) -> None:
    """The error names a file that DuckDB cannot read."""
    path = tmp_path / FILE_NAME
    path.write_bytes(b"notes" * 5000)
    with pytest.raises(StoreFormatError, match=r"hub\.duckdb is not a database"):
        Store(path)


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    """If a file has the name of the folder, the error says so."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be created"):
        Store(tmp_path / "file" / FILE_NAME)


def test_readers_cannot_write(store: Store) -> None:
    """The cursor of `read` is read-only."""
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
def test_the_database_accesses_nothing_else(tmp_path: Path, sql: str) -> None:
    """No SQL reads or writes another file, loads an extension or changes these rules."""
    store = Store(tmp_path / FILE_NAME)
    try:
        with pytest.raises(duckdb.Error), store.read() as cursor:
            cursor.execute(sql.format(folder=tmp_path)).fetchall()
    finally:
        store.close()


def test_a_reader_sees_a_snapshot(store: Store) -> None:
    """A commit during a read is visible to the next read only."""
    with store.read() as cursor:
        before = cursor.execute("SELECT count(*) FROM meta").fetchone()
        with store.write() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
        assert cursor.execute("SELECT count(*) FROM meta").fetchone() == before
    with store.read() as cursor:
        assert cursor.execute("SELECT count(*) FROM meta").fetchone() != before


def test_a_failed_write_is_rolled_back(store: Store) -> None:
    """An error inside `write` undoes all of it."""

    def fail() -> None:
        with store.write() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.read_meta("a") is None


def test_a_slow_query_is_interrupted(store: Store) -> None:
    """A read over its time ends with an error, and its cursor works for the next one."""
    with pytest.raises(QueryTimeoutError, match=r"over 0\.1 s"), store.read(timeout=0.1) as cursor:
        cursor.execute(ENDLESS).fetchall()
    for _ in range(MAX_READERS):
        with store.read() as cursor:
            assert cursor.execute("SELECT 1").fetchone() == (1,)


def test_readers_are_bounded(store: Store) -> None:
    """If all cursors are in use, the next reader waits, then gets an error."""
    held = threading.Barrier(MAX_READERS + 1)
    release = threading.Event()

    def read() -> None:
        with store.read(timeout=20):
            held.wait()
            release.wait()

    threads = [threading.Thread(target=read) for _ in range(MAX_READERS)]
    for thread in threads:
        thread.start()
    held.wait()
    with pytest.raises(ReadersBusyError), store.read(timeout=0.05):
        pass
    release.set()
    for thread in threads:
        thread.join()


def test_a_store_can_be_reopened(tmp_path: Path) -> None:
    """After `reopen`, the committed rows are there and cursors work."""
    store = Store(tmp_path / FILE_NAME)
    with store.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    store.reopen()
    with store.read() as cursor:
        assert cursor.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("b",)
    store.close()


def test_a_failed_reopen_fails_reads(tmp_path: Path) -> None:
    """After a failed `reopen`, reads fail at once with the reason; after a successful one, they work."""
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
    assert store.read_meta("schema") == SCHEMA_VERSION
    store.close()


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_the_size_grows_with_the_data(tmp_path: Path, storage: str) -> None:
    """The live size of a store includes new data."""
    store = Store(tmp_path / FILE_NAME if storage == "file" else None)
    empty = store.size()
    with store.write() as connection:
        connection.execute("INSERT INTO meta SELECT range::VARCHAR, md5(range::VARCHAR) FROM range(100000)")
    full = store.size()
    assert full.live > empty.live + 1_000_000
    assert (full.file > 0) == (storage == "file")
    store.close()


def test_permissions_of_an_existing_file_are_restricted(tmp_path: Path) -> None:
    """A database that others could read is readable by its owner only after it is opened."""
    path = tmp_path / FILE_NAME
    Store(path).close()
    path.chmod(0o644)
    Store(path).close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    """The database contains inputs of predictions, so only the owner can read the new folder."""
    path = tmp_path / "data" / FILE_NAME
    Store(path).close()

    assert path.parent.stat().st_mode & 0o077 == 0
