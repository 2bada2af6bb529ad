"""The database: one DuckDB file, or memory. Opened once, read by many, written by one.

Access is by intent. `Store.read` lends a cursor inside a read-only transaction, so that what one question sees is one
moment, and interrupts what takes too long. `Store.write` is for the one writer thread (`modeltrace_hub.writer`).
DuckDB itself may touch no other file and load no extension.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Final

import duckdb

from modeltrace_hub.errors import QueryTimeoutError, ReadersBusyError, StoreError, StoreFormatError, StoreLockedError

# Changes with any change of hub/modeltrace_hub/sql/schema; a test holds the two together.
SCHEMA_STAMP: Final = "1"

FILE_NAME: Final = "hub.duckdb"
READERS: Final = 4
WORKING_MEMORY: Final = 512 * 2**20

Config = dict[str, str | bool | int | float | list[str]]

_CONFIG: Final[Config] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "lock_configuration": True,
    "threads": 2,
    # Never by itself: it would run inside a commit, and its failure would look like one of the (durable) commit.
    "checkpoint_threshold": "1TB",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes that the data takes.

    `live` is what the retention limit goes by: blocks in use, plus the log that is not yet merged. `file` is the size
    on disk; it does not shrink when rows are deleted, their blocks are used again. In memory it is 0.
    """

    live: int
    file: int


class Store:
    """One open database. Threads may share it."""

    def __init__(self, path: Path | None, *, max_bytes: int = 2 * 2**30) -> None:
        """Open or create the database.

        Args:
            path: the file, in a folder that exists or can be made; None keeps everything in memory.
            max_bytes: how large the data may become; decides how much memory a store without a file may use.

        Raises:
            StoreLockedError: another process holds the file.
            StoreFormatError: not a hub's file, or one of another version.
            StoreError: the file cannot be opened.
        """
        self.path = path
        self._config: Config = {**_CONFIG, "memory_limit": f"{WORKING_MEMORY // 2**20}MiB"}
        if path is None:
            self._config |= {"memory_limit": f"{(WORKING_MEMORY + max_bytes) // 2**20}MiB", "temp_directory": ""}
        self._cursors: LifoQueue[duckdb.DuckDBPyConnection] = LifoQueue()
        self._failure: str | None = None
        self._connection = self._open()

    def _open(self) -> duckdb.DuckDBPyConnection:
        connection = _connect(self.path, self._config)
        try:
            _prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        for _ in range(READERS):
            self._cursors.put(connection.cursor())
        return connection

    @contextmanager
    def read(self, seconds: float = 10.0) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a cursor inside a read-only transaction: all that is asked of it is answered as of one moment.

        The cursor must not be used afterwards. A writer never waits for readers, nor they for it.

        Args:
            seconds: how long the wait for a cursor and then the whole block may take; what runs by then is interrupted.

        Raises:
            QueryTimeoutError: it took longer.
            ReadersBusyError: all cursors were taken all the time.
            StoreError: the database has failed and could not be opened again.
        """
        if self._failure:
            raise StoreError(self._failure)
        try:
            cursor = self._cursors.get(timeout=seconds)
        except Empty:
            raise ReadersBusyError(f"{READERS} questions run at a time and all took over {seconds:g} s.") from None
        deadline = _Deadline(cursor, seconds)
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        except duckdb.InterruptException:
            raise QueryTimeoutError(f"The question took longer than {seconds:g} s. Ask for less.") from None
        except (duckdb.FatalException, duckdb.ConnectionException):
            raise StoreError("The database has failed and is to be opened again. Ask again in a moment.") from None
        finally:
            deadline.cancel()
            _rollback(cursor)
            self._cursors.put(cursor)

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend the writing connection inside a transaction: committed at the end, rolled back on any error.

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
    def exclusive(self) -> Iterator[list[duckdb.DuckDBPyConnection]]:
        """Keep readers away: wait for those that read, let no other begin. For the writer thread.

        The cursors taken are yielded as a list; those still in it at the end are lent again.
        """
        cursors = [self._cursors.get() for _ in range(self._cursors.qsize() if self._failure else READERS)]
        try:
            yield cursors
        finally:
            for cursor in cursors:
                self._cursors.put(cursor)

    def checkpoint(self) -> None:
        """Merge the write-ahead log into the file and free the blocks of deleted rows. For the writer thread.

        Readers are kept away meanwhile: DuckDB frees nothing that a transaction may still see.
        """
        with self.exclusive():
            self._connection.checkpoint()

    def reopen(self) -> None:
        """Open the file anew, after an error from which DuckDB does not recover by itself. For the writer thread.

        All that was committed is there again. In memory there is nothing to come back to.

        Raises:
            StoreError: it cannot be opened now; every use fails until another `reopen` succeeds.
        """
        if self.path is None:
            raise StoreError("The database in memory has failed. Restart the hub; give it a file to keep data.")
        with self.exclusive() as cursors:
            while cursors:
                cursors.pop().close()
            self._connection.close()
            try:
                self._connection = self._open()
            except StoreError as error:
                self._failure = str(error)
                raise
            self._failure = None

    def meta(self, key: str) -> str | None:
        """What the file says about itself, or None. For the thread that writes."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return None if row is None else str(row[0])

    def size(self) -> Size:
        """How much there is, cheaply."""
        with self.read() as cursor:
            if self.path is None:
                row = cursor.execute(
                    "SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'IN_MEMORY_TABLE'"
                ).fetchone()
                return Size(live=row[0] if row else 0, file=0)
            row = cursor.execute("SELECT block_size * used_blocks FROM pragma_database_size()").fetchone()
        log = self.log_bytes()
        return Size(live=(row[0] if row else 0) + log, file=self.path.stat().st_size + log)

    def log_bytes(self) -> int:
        """How long the write-ahead log is: what is committed and not yet merged."""
        if self.path is None:
            return 0
        try:
            return _log_file(self.path).stat().st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Close all cursors and the file. The writer has stopped by then."""
        while True:
            try:
                self._cursors.get_nowait().close()
            except Empty:
                break
        self._connection.close()


class _Deadline:
    """Interrupts a cursor once, after `seconds`, and surely not after `cancel` has returned."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, seconds: float) -> None:
        self._cursor = cursor
        self._lock = threading.Lock()
        self._over = False
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        with self._lock:
            if not self._over:
                self._cursor.interrupt()

    def cancel(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True


def _rollback(connection: duckdb.DuckDBPyConnection) -> None:
    """End the transaction, if there is one; in a database that has failed there is nothing to be done."""
    with suppress(duckdb.Error):
        connection.rollback()


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path | None) -> None:
    """Create the tables in an empty database; refuse one that is not this version's.

    Raises:
        StoreFormatError: it is not; nothing was changed.
    """
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        connection.begin()
        for file in sorted(
            resources.files("modeltrace_hub").joinpath("sql/schema").iterdir(), key=lambda file: file.name
        ):
            connection.execute(file.read_text(encoding="utf-8"))
        connection.execute("INSERT INTO meta VALUES ('schema', ?)", [SCHEMA_STAMP])
        connection.commit()
        return
    if "meta" not in tables:
        raise StoreFormatError(f"{path} is a DuckDB file of something else. Name another folder with --data.")
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    stamp = row[0] if row else "unknown"
    if stamp != SCHEMA_STAMP:
        raise StoreFormatError(
            f"{path} has schema {stamp}, this hub reads and writes schema {SCHEMA_STAMP}. Nothing was changed. Use the "
            "version of Modeltrace that wrote it, name another folder with --data, or move the file away."
        )


def _log_file(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(path.name + ".wal")


def _connect(path: Path | None, config: Config) -> duckdb.DuckDBPyConnection:
    """Connect, and say plainly why not."""
    if path is None:
        return duckdb.connect(":memory:", config=config)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # inputs of predictions are in it
    except OSError as error:
        raise StoreError(f"{path.parent} cannot be made: {error.strerror}. Name another folder with --data.") from None
    for file in (path, _log_file(path)):
        # One that was made with wider permissions; somebody else's is left to its owner.
        with suppress(FileNotFoundError, PermissionError):
            file.chmod(0o600)
    try:
        return duckdb.connect(str(path), config=config)
    except duckdb.Error as error:
        text = str(error)
        if "lock" in text:
            raise StoreLockedError(
                f"{path} is held by another process, probably a hub that still runs. Stop it, or name another folder "
                "with --data."
            ) from None
        if "valid DuckDB" in text or isinstance(error, duckdb.SerializationException):
            raise StoreFormatError(
                f"{path} is not a database that this version can read ({text.splitlines()[0]}). Name another folder "
                "with --data, or move the file away."
            ) from None
        raise StoreError(f"{path} cannot be opened: {text.splitlines()[0]}") from None
