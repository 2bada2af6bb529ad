"""What is too old, or too much, goes: a chunk at a time, so that nobody waits long for the database."""

from typing import Final

from sqlalchemy import Connection, delete, func, select

from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.schema import labels, predictions

# Rows of one transaction, or a few more when many were answered at the same time.
MAX_ROWS_PER_TRANSACTION: Final = 2000
# Rows after which it is asked again whether there is still too much.
SIZE_CHECK_ROWS: Final = 100
_MILLISECOND: Final = 1_000_000


def delete_oldest(
    connection: Connection, cutoff: int | None, max_rows: int = MAX_ROWS_PER_TRANSACTION
) -> tuple[int, bool]:
    """Delete the oldest predictions that are older than `before`, with their labels; how many, and if any are left.

    `None`: the oldest of all.
    """
    old = [] if cutoff is None else [predictions.c.time < cutoff]
    times = select(predictions.c.time).where(*old).order_by(predictions.c.time)
    last = connection.execute(times.offset(max_rows - 1).limit(1)).scalar_one_or_none()
    if last is None and cutoff is None:
        last = connection.execute(select(predictions.c.time).order_by(predictions.c.time.desc()).limit(1)).scalar()
    cut = cutoff if last is None else last + 1
    if cut is None:  # there is nothing at all
        return 0, False
    gone = connection.execute(delete(predictions).where(predictions.c.time < cut)).rowcount
    # A label knows the time of its prediction to the millisecond.
    connection.execute(delete(labels).where(labels.c.prediction_time < cut - cut % _MILLISECOND))
    return gone, cut != cutoff


def delete_expired(connection: Connection, limit: AgeLimit, now_ns: int) -> tuple[int, bool]:
    """Delete some of the predictions that are too old; how many, and whether more may be deleted at once."""
    oldest, newest = (
        connection.execute(select(predictions.c.time).order_by(order).limit(1)).scalar_one_or_none()
        for order in (predictions.c.time, predictions.c.time.desc())
    )
    if oldest is None or newest is None:
        return 0, False
    cut = limit.cutoff(now_ns, newest)
    if oldest >= cut:
        return 0, limit.consume(0, more=False)
    allowed = limit.available(lambda: connection.execute(select(func.count()).select_from(predictions)).scalar_one())
    gone, more = delete_oldest(connection, cut, min(MAX_ROWS_PER_TRANSACTION, allowed)) if allowed else (0, True)
    return gone, limit.consume(gone, more=more)


def shrink(connection: Connection, max_bytes: int) -> int:
    """Delete the oldest until a SQLite database takes no more than that, or a chunk is done; how many."""
    gone = 0
    while gone < MAX_ROWS_PER_TRANSACTION and _used_bytes(connection) > max_bytes:
        number, _ = delete_oldest(connection, None, SIZE_CHECK_ROWS)
        if not number:
            break
        gone += number
    return gone


def _used_bytes(connection: Connection) -> int:
    """What the rows take: pages that are free are used again before the file grows."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
