"""Open SQLite or PostgreSQL, run transactions, and classify errors as temporary or permanent.

SQLite runs in WAL mode, so that readers and the writer do not block each other. It syncs at every commit, so that
committed rows survive a power failure. A write transaction acquires the write lock at its start: if a read transaction
asked for the lock later, SQLite could fail at once instead of waiting.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from modeltrace.errors import StoreError, StoreUnavailableError
from modeltrace.store.store_url import DUCKDB, StoreLocation

# Seconds for which a writer waits for another writer's transaction.
BUSY_TIMEOUT: Final = 5.0
# SQLite truncates its write-ahead log to this size after a large transaction.
MAX_WAL_BYTES: Final = 64 * 2**20
# Timeouts in seconds after which an unresponsive server is unavailable; tcp_user_timeout is in milliseconds.
_LIBPQ_OPTIONS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "modeltrace",
}
# DuckDB writes what exceeds the limit to temporary files. Without a limit, it uses most of the machine's memory.
DUCKDB_CONFIG: Final = {"memory_limit": "2GB"}
_READ_ONLY: Final = "modeltrace_read_only"
_SQLITE_PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",
    f"PRAGMA journal_size_limit={MAX_WAL_BYTES}",
    "PRAGMA secure_delete=ON",  # overwrite erased inputs with zeros
)


class Database:
    """A SQLAlchemy engine and its transactions. Thread-safe."""

    def __init__(self, location: StoreLocation) -> None:
        """Create the engine; no connection is opened yet."""
        self.location: Final = location
        self._engine = _create_engine(location)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[Connection]:
        """Run a transaction, and commit it if the block ends without an error.

        Raises:
            StoreUnavailableError: the database is locked, full or unreachable; a retry may succeed.
            StoreError: the database rejects the statement or its values.
        """
        try:
            with self._engine.connect().execution_options(**{_READ_ONLY: read_only}) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise translate_error(error, self.location) from None

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Open a connection without transactions.

        Raises:
            StoreUnavailableError: the database is unreachable, or a statement fails.
        """
        with self.connect() as connection:
            try:
                yield connection
            except SQLAlchemyError as error:
                raise translate_error(error, self.location) from None

    def connect(self) -> Connection:
        """Open a connection in autocommit mode, which the caller closes.

        Raises:
            StoreUnavailableError: the database is unreachable.
        """
        try:
            return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except SQLAlchemyError as error:
            raise translate_error(error, self.location) from None

    def truncate_wal(self) -> None:
        """Truncate SQLite's write-ahead log, which still contains erased inputs. Active readers may delay this."""
        if self.location.file is not None:
            with self._engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _create_engine(location: StoreLocation) -> Engine:
    """Create an engine. Its error messages contain no parameters, because parameters contain inputs of predictions."""
    if location.url.drivername == DUCKDB:
        return create_engine(location.url, connect_args={"config": DUCKDB_CONFIG}, hide_parameters=True)
    if location.file is None:
        return create_engine(location.url, connect_args=libpq_options(location), hide_parameters=True)
    arguments = {"timeout": BUSY_TIMEOUT, "check_same_thread": False}
    engine = create_engine(location.url, connect_args=arguments, hide_parameters=True)
    event.listen(engine, "connect", _configure_connection)
    event.listen(engine, "begin", _begin_transaction)
    return engine


def libpq_options(location: StoreLocation) -> dict[str, str]:
    """Return the options of a connection to PostgreSQL that its URL does not have."""
    return {name: value for name, value in _LIBPQ_OPTIONS.items() if name not in location.url.query}


def _configure_connection(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # `_begin_transaction` starts transactions, not the driver
    deadline = time.monotonic() + BUSY_TIMEOUT
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:  # changing the mode needs an exclusive lock, for which SQLite does not wait
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_transaction(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def translate_error(error: SQLAlchemyError, location: StoreLocation) -> StoreError:
    """Convert a SQLAlchemy error to a store error."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else None
    kind = StoreError if cause is None or isinstance(error, DataError | IntegrityError) else StoreUnavailableError
    return store_error(kind, str(cause or error), location)


def store_error(kind: type[StoreError], message: str, location: StoreLocation) -> StoreError:
    """Return an error with the location of the store and the first line of a database's message.

    The other lines may contain values.
    """
    reason = message.strip().partition("\n")[0]
    password = location.url.password
    if isinstance(password, str) and password:  # libpq does not repeat the password, but gives no guarantee
        reason = reason.replace(password, "***")
    if location.url.drivername == DUCKDB:
        return kind(f"the predictions of {location.description}: {reason}")
    return kind(f"the prediction store {location.description}: {reason} (MODELTRACE_STORE)")


def create_file(location: StoreLocation) -> None:
    """Create the file of a SQLite store and its folder. Only the user can read them, because inputs may be private.

    Raises:
        StoreUnavailableError: the file cannot be created.
    """
    if location.file is None:
        return
    try:
        location.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(location.file, os.O_CREAT | os.O_RDWR, 0o600))
        with suppress(PermissionError):  # the file belongs to another user, who sets its permissions
            location.file.chmod(0o600)
    except OSError as error:
        raise StoreUnavailableError(
            f"the prediction store {location.description}: {error.strerror or error} (MODELTRACE_STORE)"
        ) from None
