"""Delete expired or surplus predictions in small transactions, so that other writers wait only briefly."""

from typing import Final

from sqlalchemy import Connection, delete, func, select

from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.schema import labels, predictions

# Maximum number of predictions that a transaction deletes. It deletes more if several predictions have the same time.
MAX_ROWS_PER_TRANSACTION: Final = 2000
# Number of rows to delete before the size of the store is measured again.
SIZE_CHECK_ROWS: Final = 100
_MILLISECOND: Final = 1_000_000


def delete_oldest(
    connection: Connection, cutoff: int | None, max_rows: int = MAX_ROWS_PER_TRANSACTION
) -> tuple[int, bool]:
    """Delete the oldest predictions and their labels.

    Args:
        connection: a connection within a write transaction.
        cutoff: delete only predictions before this time, in nanoseconds since the epoch; `None` for no limit.
        max_rows: the maximum number of predictions.

    Returns:
        The number of deleted predictions, and whether more predictions may be left before the cutoff.
    """
    expired = [] if cutoff is None else [predictions.c.time < cutoff]
    times = select(predictions.c.time).where(*expired).order_by(predictions.c.time)
    last = connection.execute(times.offset(max_rows - 1).limit(1)).scalar_one_or_none()
    if last is None and cutoff is None:
        last = connection.execute(select(predictions.c.time).order_by(predictions.c.time.desc()).limit(1)).scalar()
    end = cutoff if last is None else last + 1
    if end is None:  # the table is empty
        return 0, False
    deleted = connection.execute(delete(predictions).where(predictions.c.time < end)).rowcount
    # A label contains the time of its prediction only with a precision of one millisecond.
    connection.execute(delete(labels).where(labels.c.prediction_time < end - end % _MILLISECOND))
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
    allowed = limit.available(lambda: connection.execute(select(func.count()).select_from(predictions)).scalar_one())
    deleted, more = delete_oldest(connection, cutoff, min(MAX_ROWS_PER_TRANSACTION, allowed)) if allowed else (0, True)
    return deleted, limit.consume(deleted, more=more)


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
