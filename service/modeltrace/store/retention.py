"""Delete expired or surplus predictions in small transactions, so that other writers wait only briefly."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, MetaData, Table, delete, func, select

from modeltrace.store import partitions
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.schema import labels, predictions

# Maximum number of predictions that a transaction deletes. It deletes more if several predictions have the same time.
MAX_ROWS_PER_TRANSACTION: Final = 2000
# Number of rows to delete before the size of the store is measured again.
SIZE_CHECK_ROWS: Final = 100
_MILLISECOND: Final = 1_000_000
_TABLES: Final = (predictions, labels)
# In a store with partitions, the tables of the days before the first partition.
_HISTORY: Final = tuple(table.to_metadata(MetaData(), name=f"{table.name}{partitions.HISTORY}") for table in _TABLES)


def delete_oldest(
    connection: Connection,
    cutoff: int | None,
    max_rows: int = MAX_ROWS_PER_TRANSACTION,
    tables: Sequence[Table] = _TABLES,
) -> tuple[int, bool]:
    """Delete the oldest predictions and their labels.

    Args:
        connection: a connection within a write transaction.
        cutoff: delete only predictions before this time, in nanoseconds since the epoch; `None` for no limit.
        max_rows: the maximum number of predictions.
        tables: the table of predictions, and that of labels.

    Returns:
        The number of deleted predictions, and whether more predictions may be left before the cutoff.
    """
    rows, true_labels = tables
    expired = [] if cutoff is None else [rows.c.time < cutoff]
    times = select(rows.c.time).where(*expired).order_by(rows.c.time)
    last = connection.execute(times.offset(max_rows - 1).limit(1)).scalar_one_or_none()
    if last is None and cutoff is None:
        last = connection.execute(select(rows.c.time).order_by(rows.c.time.desc()).limit(1)).scalar()
    end = cutoff if last is None else last + 1
    if end is None:  # the table is empty
        return 0, False
    deleted = connection.execute(delete(rows).where(rows.c.time < end)).rowcount
    # A label contains the time of its prediction only with a precision of one millisecond.
    connection.execute(delete(true_labels).where(true_labels.c.prediction_time < end - end % _MILLISECOND))
    return deleted, end != cutoff


def delete_expired(connection: Connection, limit: AgeLimit, now_ns: int) -> tuple[int, bool]:
    """Delete expired predictions; return their number, and whether more may be deleted now."""
    oldest, newest = (
        connection.execute(select(predictions.c.time).order_by(order).limit(1)).scalar_one_or_none()
        for order in (predictions.c.time, predictions.c.time.desc())
    )
    if oldest is None or newest is None:
        return 0, False
    cutoff = limit.cutoff(now_ns, newest)
    if oldest >= cutoff:
        return 0, limit.consume(0, more=False)
    if partitions.first_day(connection) is not None:
        return _delete_expired_partition(connection, limit, cutoff)
    allowed = limit.available(lambda: connection.execute(select(func.count()).select_from(predictions)).scalar_one())
    deleted, more = delete_oldest(connection, cutoff, min(MAX_ROWS_PER_TRANSACTION, allowed)) if allowed else (0, True)
    return deleted, limit.consume(deleted, more=more)


def _delete_expired_partition(connection: Connection, limit: AgeLimit, cutoff: int) -> tuple[int, bool]:
    """Delete expired rows of the history, or drop one expired day. A day may exceed the budget, but only one does."""
    allowed = limit.available(lambda: partitions.count_rows(connection))
    if not allowed:
        return 0, limit.consume(0, more=True)
    deleted, more = delete_oldest(connection, cutoff, min(MAX_ROWS_PER_TRANSACTION, allowed), _HISTORY)
    days = _expired_days(connection, cutoff)
    if not deleted and days:
        dropped = partitions.drop(connection, days.pop(0))
        if dropped is None:  # in use: the next run tries again
            return 0, False
        deleted, more = dropped, False
    return deleted, limit.consume(deleted, more=more or bool(days))


def delete_before(connection: Connection, cutoff: int) -> tuple[int, bool]:
    """Delete a part of the predictions before a time: a whole day if it has a partition, else the oldest ones.

    Returns:
        The number of deleted predictions, and whether more may be left.
    """
    if partitions.first_day(connection) is not None and (days := _expired_days(connection, cutoff)):
        dropped = partitions.drop(connection, days[0])
        if dropped is not None:
            return dropped, True
    return delete_oldest(connection, cutoff)


def _expired_days(connection: Connection, cutoff: int) -> list[int]:
    days = partitions.days_with_partitions(connection)
    return [day for day in days if (day + 1) * partitions.DAY_NS <= cutoff]


def shrink(connection: Connection, max_bytes: int) -> int:
    """Delete the oldest predictions while a SQLite database exceeds `max_bytes`; return their number.

    At most about `MAX_ROWS_PER_TRANSACTION` predictions are deleted.
    """
    total = 0
    while total < MAX_ROWS_PER_TRANSACTION and _used_bytes(connection) > max_bytes:
        deleted, _ = delete_oldest(connection, None, SIZE_CHECK_ROWS)
        if not deleted:
            break
        total += deleted
    return total


def _used_bytes(connection: Connection) -> int:
    """Return the size of the pages in use; SQLite reuses free pages before the file grows."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
