"""Elect a leader among all workers and replicas, for a task that only one of them may run.

When a process ends, its lock is released. For SQLite, the lock is a file next to the database (`flock`). For
PostgreSQL, it is a session-level advisory lock on a dedicated connection. This requires a direct connection, or a
pooler in session mode.
"""

import hashlib
from contextlib import suppress
from typing import Final, Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from modeltrace.errors import StoreUnavailableError
from modeltrace.file_lock import FileLock
from modeltrace.store.database import Database, translate_error
from modeltrace.store.store_url import StoreLocation

# With these settings, the server detects within 25 s that the client's machine is gone. The default is two hours.
_KEEPALIVES: Final = ("tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")


class LeaderLock(Protocol):
    """A lock that one process at a time holds."""

    def try_acquire(self) -> bool:
        """Acquire the lock if it is free; return whether this object holds it now.

        Raises:
            StoreUnavailableError: the state of the lock is unknown; this object does not hold it.
        """

    def release(self) -> None:
        """Release the lock if this object holds it."""


def leader_lock(location: StoreLocation, task: str) -> LeaderLock:
    """Return the lock of a task on a store. Nothing is opened yet."""
    digest = hashlib.sha256(task.encode()).digest()
    if location.file is not None:
        return _FileLock(location.file.with_name(f"{location.file.name}.{digest.hex()[:16]}.lock"))
    return _AdvisoryLock(location, int.from_bytes(digest[:8], signed=True))


class _FileLock(FileLock):
    def try_acquire(self) -> bool:
        try:
            return super().try_acquire()
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror or error} (MODELTRACE_STORE)") from None


class _AdvisoryLock:
    def __init__(self, location: StoreLocation, key: int) -> None:
        self._database = Database(location)
        self._key = key
        self._connection: Connection | None = None

    def try_acquire(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))  # a lost connection means a lost lock
                return True
            connection = self._database.connect()
            try:
                for setting in _KEEPALIVES:
                    connection.execute(text(f"SET {setting}"))
                statement = text("SELECT pg_try_advisory_lock(:key)")
                if connection.execute(statement, {"key": self._key}).scalar_one():
                    self._connection = connection
                    return True
            finally:
                if self._connection is None:
                    connection.close()
        except SQLAlchemyError as error:
            self.release()
            raise translate_error(error, self._database.location) from None
        return False

    def release(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.invalidate()  # close the session, which holds the lock, instead of pooling it
                self._connection.close()
            self._connection = None
        self._database.close()
