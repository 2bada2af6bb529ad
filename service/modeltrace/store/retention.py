"""What is too old, or too much, goes: a chunk at a time, so that nobody waits long for the database."""

from typing import Final

from sqlalchemy import Connection, delete, func, select

from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.schema import labels, predictions

# Rows of one transaction, or a few more when many were answered at the same time.
CHUNK: Final = 2000
# Rows after which it is asked again whether there is still too much.
FEW: Final = 100
_MILLISECOND: Final = 1_000_000


def prune(connection: Connection, before: int | None, chunk: int = CHUNK) -> tuple[int, bool]:
    """Delete the oldest predictions that are older than `before`, with their labels; how many, and if any are left.

    `None`: the oldest of all.
    """
    old = [] if before is None else [predictions.c.time < before]
    times = select(predictions.c.time).where(*old).order_by(predictions.c.time)
    last = connection.execute(times.offset(chunk - 1).limit(1)).scalar_one_or_none()
    if last is None and before is None:
        last = connection.execute(select(predictions.c.time).order_by(predictions.c.time.desc()).limit(1)).scalar()
    cut = before if last is None else last + 1
    if cut is None:  # there is nothing at all
        return 0, False
    gone = connection.execute(delete(predictions).where(predictions.c.time < cut)).rowcount
    # A label knows the time of its prediction to the millisecond.
    connection.execute(delete(labels).where(labels.c.prediction_time < cut - cut % _MILLISECOND))
    return gone, cut != before


def prune_old(connection: Connection, limit: AgeLimit, now: int) -> tuple[int, bool]:
    """Delete some of the predictions that are too old; how many, and whether more may be deleted at once."""
    oldest, newest = (
        connection.execute(select(predictions.c.time).order_by(order).limit(1)).scalar_one_or_none()
        for order in (predictions.c.time, predictions.c.time.desc())
    )
    if oldest is None or newest is None:
        return 0, False
    cut = limit.cut(now, newest)
    if oldest >= cut:
        return 0, limit.spend(0, more=False)
    allowed = limit.allowed(lambda: connection.execute(select(func.count()).select_from(predictions)).scalar_one())
    gone, more = prune(connection, cut, min(CHUNK, allowed)) if allowed else (0, True)
    return gone, limit.spend(gone, more=more)


def prune_beyond(connection: Connection, limit: int) -> int:
    """Delete the oldest until a SQLite database takes no more than that, or a chunk is done; how many."""
    gone = 0
    while gone < CHUNK and _used_bytes(connection) > limit:
        number, _ = prune(connection, None, FEW)
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
