"""Partitions of a PostgreSQL store: one for each day, which is dropped as a whole when it has expired.

    predictions ─┬─ predictions_history    rows of days before the first partition; expired rows are deleted
                 ├─ predictions_20261201   one day (UTC)
                 └─ …                      and the same for labels

A partition is chosen by the time in the prediction ID, not by the column `time`: two services may store a prediction of
a remote challenger at different times, and its row must be unique. PostgreSQL requires a column for this, `day`: the
days since the epoch, and 0 in `predictions_history`.
"""

import re
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Select, func, select, table, text
from sqlalchemy.exc import OperationalError

from modeltrace.prediction_id_time import prediction_id_time
from modeltrace.store.schema import SCHEMA_LOCK_KEY

DAY: Final = "day"
DAY_NS: Final = 86_400 * 10**9
HISTORY: Final = "_history"
TABLES: Final = ("predictions", "labels")
# A store with more rows is not counted, because that takes long.
MAX_COUNTED: Final = 1_000_000
LOCK_TIMEOUT: Final = "1s"
LOCK_NOT_AVAILABLE: Final = "55P03"  # the SQLSTATE after LOCK_TIMEOUT
_EPOCH: Final = date(1970, 1, 1)
# The last day whose nanoseconds fit in 64 bits; a text that is no prediction ID may be read as a later one.
_MAX_DAY: Final = (2**63 - 1) // DAY_NS - 1


def first_day(connection: Connection) -> int | None:
    """Return the first day that has a partition of its own; `None` for a store without partitions."""
    if connection.dialect.name != "postgresql":
        return None
    statement = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = to_regclass('predictions_history')"
    bound = connection.execute(text(statement)).scalar()
    found = re.search(r"TO \('?(\d+)", bound or "")
    return int(found[1]) if found else None


def day_of_prediction(prediction_id: str, time: int, first: int) -> int:
    """Return the value of the column `day`.

    Args:
        prediction_id: the ID, which contains the time of the prediction. An ID of another format has the day of `time`.
        time: the time in the row, in nanoseconds since the epoch.
        first: the first day with a partition; earlier days are 0.
    """
    time_in_id = prediction_id_time(prediction_id)
    day = (time if time_in_id is None or time_in_id // DAY_NS > _MAX_DAY else time_in_id) // DAY_NS
    return day if day >= first else 0


def create_missing(connection: Connection, days: AbstractSet[int]) -> None:
    """Create the partitions of days that do not exist. Inserts and queries of other connections do not wait for it."""
    if all(_exists(connection, day) for day in days):
        return
    connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK_KEY})"))
    # Another connection may have created them. `to_regclass` does not see this within a transaction.
    for day in sorted(days - set(days_with_partitions(connection))):
        for name, start, end in (
            ("predictions", day, day + 1),
            ("labels", day * DAY_NS, (day + 1) * DAY_NS),
        ):
            partition = _partition(name, day)
            # ATTACH needs a weaker lock on the table than CREATE TABLE … PARTITION OF.
            connection.execute(text(f"CREATE TABLE {partition} (LIKE {name} INCLUDING DEFAULTS)"))
            connection.execute(
                text(f"ALTER TABLE {name} ATTACH PARTITION {partition} FOR VALUES FROM ({start}) TO ({end})")
            )


def days_with_partitions(connection: Connection) -> list[int]:
    """Return the days that have a partition, in order."""
    statement = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass('predictions')"
    names = connection.execute(text(statement)).scalars()
    return sorted(_day(found[1]) for name in names if (found := re.search(r"predictions_(\d{8})\"?$", name)))


def drop(connection: Connection, day: int) -> int | None:
    """Drop the partitions of a day.

    Returns:
        The number of its predictions, or `None` if a query used the tables for longer than `LOCK_TIMEOUT`. Inserts wait
        meanwhile.
    """
    rows: int = connection.execute(_count(_partition("predictions", day))).scalar_one()
    try:
        with connection.begin_nested():
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.execute(text(f"DROP TABLE {', '.join(_partition(name, day) for name in TABLES)}"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        return None
    return rows


def count_rows(connection: Connection) -> int:
    """Return the number of predictions: of a large store, that when PostgreSQL last analyzed each partition."""
    statement = (
        "SELECT coalesce(sum(greatest(reltuples, 0)), 0) FROM pg_class JOIN pg_inherits ON inhrelid = oid "
        "WHERE inhparent = to_regclass('predictions')"
    )
    estimate = int(connection.execute(text(statement)).scalar_one())
    return estimate if estimate > MAX_COUNTED else int(connection.execute(_count("predictions")).scalar_one())


def _count(name: str) -> Select[int]:
    return select(func.count()).select_from(table(name))


def format_day(day: int) -> str:
    """Return a day since the epoch as a date (ISO 8601)."""
    return (_EPOCH + timedelta(day)).isoformat()


def _exists(connection: Connection, day: int) -> bool:
    statement = text("SELECT to_regclass(:name) IS NOT NULL")
    return bool(connection.execute(statement, {"name": _partition("predictions", day)}).scalar_one())


def _partition(table: str, day: int) -> str:
    return f"{table}_{_EPOCH + timedelta(day):%Y%m%d}"


def _day(text_of_date: str) -> int:
    return (datetime.strptime(text_of_date, "%Y%m%d").replace(tzinfo=UTC).date() - _EPOCH).days
