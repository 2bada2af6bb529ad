"""One of all workers and replicas: who holds the turn does what must be done once. It ends with its holder.

SQLite: an operating system's lock on a file beside the database. PostgreSQL: an advisory lock of a connection that does
nothing else, so it needs a server, or a pooler that keeps sessions apart.
"""

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from modeltrace.errors import StoreUnavailableError
from modeltrace.store.database import Database, translate_error
from modeltrace.store.store_url import StoreLocation

# By these the server finds out that a machine is gone, which takes it two hours otherwise.
_KEEPALIVES: Final = ("tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")


class LeaderLock(Protocol):
    """What one may hold and the others may wait for."""

    def try_acquire(self) -> bool:
        """Take it if it is free; whether it is held now.

        Raises:
            StoreUnavailableError: that cannot be known; it is not held.
        """

    def release(self) -> None:
        """Leave it to another one."""


def leader_lock(location: StoreLocation, task: str) -> LeaderLock:
    """The turn to do `what` for a store. Nothing is opened yet."""
    digest = hashlib.sha256(task.encode()).digest()
    if location.file is not None:
        return _FileLock(location, location.file.with_name(f"{location.file.name}.{digest.hex()[:16]}.turn"))
    return _AdvisoryLock(location, int.from_bytes(digest[:8], signed=True))


class _FileLock:
    def __init__(self, location: StoreLocation, path: Path) -> None:
        self._location = location
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror or error} (MODELTRACE_STORE)") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _AdvisoryLock:
    def __init__(self, location: StoreLocation, key: int) -> None:
        self._database = Database(location)
        self._key = key
        self._connection: Connection | None = None

    def try_acquire(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))  # without the connection there is no lock
                return True
            connection = self._database.connect()
            try:
                for one in _KEEPALIVES:
                    connection.execute(text(f"SET {one}"))
                question = text("SELECT pg_try_advisory_lock(:key)")
                if connection.execute(question, {"key": self._key}).scalar_one():
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
                self._connection.invalidate()  # closed, not kept for another time: the lock is the connection's
                self._connection.close()
            self._connection = None
        self._database.close()
