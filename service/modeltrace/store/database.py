"""The engine below the store: how each database is opened, and which of its errors pass by themselves.

SQLite is opened with a write-ahead log, so that readers and the writer do not wait for each other, and with a sync at
every commit: what is committed survives a power cut. Writers begin with the lock that they need, for one that asks
later is refused at once.
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
from modeltrace.store.store_url import StoreLocation

# Seconds that a writer waits for another one's transaction.
BUSY_TIMEOUT: Final = 5.0
# A log that has grown in a large transaction is cut to this size.
MAX_WAL_BYTES: Final = 64 * 2**20
# Seconds until a database that does not answer counts as away.
_LIBPQ_OPTIONS: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "modeltrace",
}
_READ_ONLY: Final = "modeltrace_reads"
_SQLITE_PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",
    f"PRAGMA journal_size_limit={MAX_WAL_BYTES}",
    "PRAGMA secure_delete=ON",  # what was erased is overwritten, not merely unlinked
)


class Database:
    """An engine, and the transactions on it. Of any thread."""

    def __init__(self, location: StoreLocation) -> None:
        """Nothing is opened yet."""
        self.location: Final = location
        self._engine = _create_engine(location)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[Connection]:
        """A transaction that is committed when the block ends without an error; `reads`: it does not write.

        Raises:
            StoreUnavailableError: the database is locked, full or away; it may pass by itself.
            StoreError: the database refuses what was written.
        """
        try:
            with self._engine.connect().execution_options(**{_READ_ONLY: read_only}) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise translate_error(error, self.location) from None

    def connect(self) -> Connection:
        """A connection of the caller's own, each statement by itself.

        Raises:
            StoreUnavailableError: there is none to be had.
        """
        try:
            return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except SQLAlchemyError as error:
            raise translate_error(error, self.location) from None

    def truncate_wal(self) -> None:
        """Overwrite SQLite's log, which still has what was removed; readers may hold that up until they are done."""
        if self.location.file is not None:
            with self._engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _create_engine(location: StoreLocation) -> Engine:
    """Its messages hide parameters, which hold inputs."""
    if location.file is None:
        arguments = {name: value for name, value in _LIBPQ_OPTIONS.items() if name not in location.url.query}
        return create_engine(location.url, connect_args=arguments, hide_parameters=True)
    arguments = {"timeout": BUSY_TIMEOUT, "check_same_thread": False}
    engine = create_engine(location.url, connect_args=arguments, hide_parameters=True)
    event.listen(engine, "connect", _configure_connection)
    event.listen(engine, "begin", _begin_transaction)
    return engine


def _configure_connection(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = (
        None  # transactions begin where `_begin_transaction` says, not where the driver guesses
    )
    deadline = time.monotonic() + BUSY_TIMEOUT
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:  # the change needs the file for itself, and waits for nobody
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_transaction(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def translate_error(error: SQLAlchemyError, location: StoreLocation) -> StoreError:
    """An error of the database as ours. The database's first line says what is wrong; the others may repeat values."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else None
    said = str(cause or error).strip().partition("\n")[0]
    password = location.url.password
    if isinstance(password, str) and password:  # libpq does not repeat it; nobody promises that it never will
        said = said.replace(password, "***")
    kind = StoreError if cause is None or isinstance(error, DataError | IntegrityError) else StoreUnavailableError
    return kind(f"the prediction store {location.description}: {said} (MODELTRACE_STORE)")


def create_file(location: StoreLocation) -> None:
    """Make the file of a SQLite store, and its folder, for the user alone: inputs of predictions are in it.

    Raises:
        StoreUnavailableError: it cannot be made.
    """
    if location.file is None:
        return
    try:
        location.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(location.file, os.O_CREAT | os.O_RDWR, 0o600))
        with suppress(PermissionError):  # one of somebody else, who decides about it
            location.file.chmod(0o600)
    except OSError as error:
        raise StoreUnavailableError(
            f"the prediction store {location.description}: {error.strerror or error} (MODELTRACE_STORE)"
        ) from None
