"""Convert a PostgreSQL store to one with partitions by day, without copying its rows.

The existing tables become the partition of all earlier days. Indexes are built before the tables are locked, so running
services wait only for the last step, which reads no rows.
"""

from typing import Final

from sqlalchemy import Connection, Table, select, text

from modeltrace.errors import StoreError
from modeltrace.store.database import Database
from modeltrace.store.partitions import DAY, DAY_NS, HISTORY, first_day
from modeltrace.store.schema import SCHEMA_LOCK_KEY, labels, predictions

# While a statement waits for a lock, all other statements on the table wait behind it.
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '10s'"
# The column of each table whose ranges are its partitions.
_KEYS: Final[tuple[tuple[Table, str], ...]] = ((predictions, DAY), (labels, "prediction_time"))


def partition_store(database: Database, now_ns: int) -> tuple[int, bool]:
    """Convert a store. If this is interrupted, it can be called again.

    Args:
        database: the database of the store. Its user must own the tables.
        now_ns: the time, in nanoseconds since the epoch.

    Returns:
        The first day that has a partition of its own, in days since the epoch, and whether the store was converted by
        this call.

    Raises:
        StoreError: the store is not in PostgreSQL.
        StoreUnavailableError: the tables are in use for longer than ten seconds, or the user does not own them.
    """
    if database.location.file is not None:
        raise StoreError(f"{database.location.description} is SQLite, which has no partitions: use PostgreSQL")
    with database.transaction() as connection:
        if (existing := first_day(connection)) is not None:
            return existing, False
        empty = not any(connection.execute(select(table.c.prediction_id).limit(1)).first() for table, _ in _KEYS)
    # Rows and labels of today and tomorrow may arrive before the last step, and must be in the range of the history.
    first = now_ns // DAY_NS + (0 if empty else 2)
    for statement in _preparation(first):
        if "INDEX CONCURRENTLY" in statement:  # not possible in a transaction; it does not block others while it waits
            with database.autocommit() as connection:
                connection.execute(text(statement))
        else:
            with database.transaction() as connection:
                connection.execute(text(_LOCK_TIMEOUT))
                connection.execute(text(statement))
    with database.transaction() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK_KEY})"))
        connection.execute(text(_LOCK_TIMEOUT))
        connection.execute(text("LOCK TABLE predictions, labels IN ACCESS EXCLUSIVE MODE"))
        for table, key in _KEYS:
            _replace_table(connection, table, key, _bound(key, first))
    return first, True


def _preparation(first: int) -> list[str]:
    """Return statements that block writers for a moment at most, once they have their locks."""
    statements = [f"ALTER TABLE predictions ADD COLUMN IF NOT EXISTS {DAY} INTEGER NOT NULL DEFAULT 0"]
    for table, key in _KEYS:
        name = f"{table}{HISTORY}"
        statements += [
            f"DROP INDEX CONCURRENTLY IF EXISTS {name}_key",  # of an interrupted call
            f"CREATE UNIQUE INDEX CONCURRENTLY {name}_key ON {table} (prediction_id, {key})",
            f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}_range",
            f"ALTER TABLE {table} ADD CONSTRAINT {name}_range CHECK ({key} < {_bound(key, first)}) NOT VALID",
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}_range",
        ]
    return statements


def _replace_table(connection: Connection, table: Table, key: str, bound: int) -> None:
    """Replace a table by one with partitions, of which the table is the first."""
    history = f"{table}{HISTORY}"
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    columns = f"LIKE {history} INCLUDING DEFAULTS"
    key_constraint = f"{history}_pkey PRIMARY KEY USING INDEX {history}_key"
    statements = [
        f"ALTER TABLE {table} RENAME TO {history}",
        *(f"ALTER INDEX {index.name} RENAME TO {index.name}{HISTORY}" for index in indexes),
        f"ALTER TABLE {history} DROP CONSTRAINT {table}_pkey, ADD CONSTRAINT {key_constraint}",
        f"CREATE TABLE {table} ({columns}, PRIMARY KEY (prediction_id, {key})) PARTITION BY RANGE ({key})",
    ]
    for statement in statements:
        connection.execute(text(statement))
    for index in indexes:
        index.create(connection)
    # The check constraint proves that the rows are in the range, so they are not read. Equal indexes are used.
    connection.execute(text(f"ALTER TABLE {table} ATTACH PARTITION {history} FOR VALUES FROM (MINVALUE) TO ({bound})"))
    connection.execute(text(f"ALTER TABLE {history} DROP CONSTRAINT {history}_range"))


def _bound(key: str, first: int) -> int:
    return first if key == DAY else first * DAY_NS
