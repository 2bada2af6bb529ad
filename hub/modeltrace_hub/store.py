"""Open the DuckDB database, in a file or in memory, for many readers and one writer.

`Store.read` yields a cursor in a read-only transaction: its queries see one snapshot, and slow ones are interrupted.
`Store.write` is for the writer thread. The configuration forbids DuckDB to access other files and to load extensions.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Final

import duckdb

from modeltrace_hub.errors import QueryTimeoutError, ReadersBusyError, StoreError, StoreFormatError, StoreLockedError
from modeltrace_hub.schema import check_schema, prepare_schema

FILE_NAME: Final = "hub.duckdb"
MAX_READERS: Final = 4
WORKING_MEMORY_BYTES: Final = 512 * 2**20

Config = dict[str, str | bool | int | float | list[str]]

_CONFIG: Final[Config] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "lock_configuration": True,
    "threads": 2,
    # Disable automatic checkpoints. They run inside a commit, so a failed checkpoint would look like a failed commit.
    "checkpoint_threshold": "1TB",
}


@dataclass(frozen=True, slots=True)
class StoreSize:
    """The size of the database in bytes."""

    live: int  # blocks in use plus the write-ahead log; the size limit applies to it
    file: int  # on disk; does not shrink, because DuckDB reuses the blocks of deleted rows; 0 in memory


class Store:
    """One open database. Thread-safe."""

    def __init__(self, path: Path | None, *, max_bytes: int = 2 * 2**30, read_only: bool = False) -> None:
        """Open or create the database.

        Args:
            path: the file; its folder is created if needed. None stores everything in memory.
            max_bytes: maximum size of the data in bytes. A store in memory adds it to the memory limit of DuckDB.
            read_only: open an existing file, and change neither the file nor its permissions.

        Raises:
            StoreLockedError: another process has opened the file.
            StoreFormatError: the file is not a hub's database, or has an unknown schema version.
            StoreError: the file cannot be opened, or its schema cannot be converted.
        """
        self.path = path
        self._config: Config = {**_CONFIG, "memory_limit": f"{WORKING_MEMORY_BYTES // 2**20}MiB"}
        if path is None:
            self._config |= {"memory_limit": f"{(WORKING_MEMORY_BYTES + max_bytes) // 2**20}MiB", "temp_directory": ""}
        if read_only:
            self._config |= {"access_mode": "READ_ONLY"}
        self._read_only = read_only
        self._cursors: LifoQueue[duckdb.DuckDBPyConnection] = LifoQueue()
        self._failure: str | None = None
        self._connection = self._open()

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self.path is not None and not self._read_only:
            _prepare_files(self.path)
        connection = _connect(self.path, self._config)
        try:
            if self._read_only:
                check_schema(connection, self.path)
            else:
                prepare_schema(connection, self.path)
        except BaseException:
            connection.close()
            raise
        for _ in range(MAX_READERS):
            self._cursors.put(connection.cursor())
        return connection

    @contextmanager
    def read(self, timeout: float = 10.0) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a cursor in a read-only transaction; all its queries see the same snapshot.

        Do not use the cursor after the block. Readers and the writer do not wait for each other, except during a
        checkpoint.

        Args:
            timeout: maximum seconds to wait for a cursor. The block may then take as many seconds again; a query that
                is still running is interrupted.

        Raises:
            QueryTimeoutError: the block took too long.
            ReadersBusyError: no cursor became available.
            StoreError: the database has failed and could not be opened again.
        """
        if self._failure:
            raise StoreError(self._failure)
        try:
            cursor = self._cursors.get(timeout=timeout)
        except Empty:
            raise ReadersBusyError(f"{MAX_READERS} other queries were running for over {timeout:g} s.") from None
        deadline = threading.Timer(timeout, cursor.interrupt)
        deadline.daemon = True
        deadline.start()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        except duckdb.InterruptException:
            raise QueryTimeoutError(f"The query took over {timeout:g} s. Request less data.") from None
        except (duckdb.FatalException, duckdb.ConnectionException):
            raise StoreError("The database has failed and is being opened again. Try again in a moment.") from None
        finally:
            deadline.cancel()
            deadline.join()  # from here on, the cursor is not interrupted
            _rollback(cursor)
            self._cursors.put(cursor)

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield the writing connection in a transaction. Commit at the end, roll back on any error.

        Only the writer thread may call this.
        """
        connection = self._connection
        connection.begin()
        try:
            yield connection
            connection.commit()
        except BaseException:
            _rollback(connection)
            raise

    @contextmanager
    def exclude_readers(self) -> Iterator[list[duckdb.DuckDBPyConnection]]:
        """Wait for running readers and block new ones. Only the writer thread may call this.

        Yields the cursors as a list. Readers can use the cursors again that are still in the list after the block.
        """
        cursors = [self._cursors.get() for _ in range(self._cursors.qsize() if self._failure else MAX_READERS)]
        try:
            yield cursors
        finally:
            for cursor in cursors:
                self._cursors.put(cursor)

    def checkpoint(self) -> None:
        """Merge the write-ahead log into the file and free the blocks of deleted rows.

        Readers are blocked, because DuckDB does not free rows that a transaction may still see. Only the writer thread
        may call this.
        """
        with self.exclude_readers():
            self._connection.checkpoint()

    def reopen(self) -> None:
        """Open the file again after a fatal error of DuckDB. Only the writer thread may call this.

        No committed row is lost. A database in memory cannot be opened again.

        Raises:
            StoreError: the file cannot be opened; every use fails until another `reopen` succeeds.
        """
        if self.path is None:
            raise StoreError("The database in memory has failed. Restart the hub; start it with a file to keep data.")
        with self.exclude_readers() as cursors:
            while cursors:
                cursors.pop().close()
            self._connection.close()
            try:
                self._connection = self._open()
            except StoreError as error:
                self._failure = str(error)
                raise
            self._failure = None

    def read_meta(self, key: str) -> str | None:
        """Return a property from the table `meta`, or None. Only the writer thread may call this."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return None if row is None else str(row[0])

    def size(self) -> StoreSize:
        """Return the size of the database. This does not scan any table."""
        with self.read() as cursor:
            if self.path is None:
                row = cursor.execute(
                    "SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'IN_MEMORY_TABLE'"
                ).fetchone()
                return StoreSize(live=row[0] if row else 0, file=0)
            row = cursor.execute("SELECT block_size * used_blocks FROM pragma_database_size()").fetchone()
        log = self.wal_bytes()
        return StoreSize(live=(row[0] if row else 0) + log, file=self.path.stat().st_size + log)

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log in bytes. The log contains the commits since the last checkpoint."""
        if self.path is None:
            return 0
        try:
            return _wal_path(self.path).stat().st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Close all cursors and the file. The writer must have stopped."""
        while True:
            try:
                self._cursors.get_nowait().close()
            except Empty:
                break
        self._connection.close()


def _rollback(connection: duckdb.DuckDBPyConnection) -> None:
    """Roll back the transaction, if there is one. Ignore the errors of a database that has failed."""
    with suppress(duckdb.Error):
        connection.rollback()


def _wal_path(path: Path) -> Path:
    """Return the path of the write-ahead log of a database."""
    return path.with_name(path.name + ".wal")


def _prepare_files(path: Path) -> None:
    """Create the folder, and restrict the permissions of existing files."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the database contains inputs of predictions
    except OSError as error:
        raise StoreError(
            f"{path.parent} cannot be created: {error.strerror}. Choose another folder with --data."
        ) from None
    for file in (path, _wal_path(path)):
        # Restrict files that were created with wider permissions. Files of another user cannot be changed.
        with suppress(FileNotFoundError, PermissionError):
            file.chmod(0o600)


def _connect(path: Path | None, config: Config) -> duckdb.DuckDBPyConnection:
    """Connect to the database, and translate DuckDB's errors into `StoreError` and its subclasses."""
    if path is None:
        return duckdb.connect(":memory:", config=config)
    try:
        return duckdb.connect(str(path), config=config)
    except duckdb.Error as error:
        text = str(error)
        if "lock" in text:
            raise StoreLockedError(
                f"{path} is open in another process, probably a running hub. Stop it, or choose another folder with "
                "--data."
            ) from None
        if "valid DuckDB" in text or isinstance(error, duckdb.SerializationException):
            raise StoreFormatError(
                f"{path} is not a database that this version can read ({text.splitlines()[0]}). Choose another folder "
                "with --data, or move the file away."
            ) from None
        raise StoreError(f"{path} cannot be opened: {text.splitlines()[0]}") from None
