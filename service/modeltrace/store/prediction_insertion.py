"""Insert rows of predictions; an existing row stays unchanged, except that missing values are added."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from sqlalchemy import Connection

from modeltrace.store import partitions
from modeltrace.store.rows import Row
from modeltrace.store.schema import predictions

# Rows per INSERT statement. A driver releases the GIL during a statement and acquires it again afterwards, which takes
# long in a busy process. Large statements reduce this cost. With few different sizes, the driver can cache prepared
# statements.
STATEMENT_SIZES: Final = (512, 64, 8, 1)

# A remote challenger that shares the store writes its predictions with probabilities and intervals. The service that
# called it writes the same rows with `shadow_of`, external ID, tags and the name of its client's API key. Either may be
# first.
_ON_CONFLICT: Final = (
    "DO UPDATE SET shadow_of = coalesce(predictions.shadow_of, excluded.shadow_of), "
    "external_id = CASE WHEN predictions.erased IS NULL THEN coalesce(predictions.external_id, excluded.external_id) "
    "END, "
    "tags = CASE WHEN predictions.erased IS NULL THEN coalesce(predictions.tags, excluded.tags) END, "
    "api_key_name = CASE WHEN excluded.shadow_of IS NULL THEN predictions.api_key_name ELSE excluded.api_key_name END, "
    "probabilities = coalesce(predictions.probabilities, excluded.probabilities), "
    "interval_low = coalesce(predictions.interval_low, excluded.interval_low), "
    "interval_high = coalesce(predictions.interval_high, excluded.interval_high), "
    "interval_level = coalesce(predictions.interval_level, excluded.interval_level) "
    "WHERE predictions.shadow_of IS NULL AND excluded.shadow_of IS NOT NULL "
    "OR predictions.probabilities IS NULL AND excluded.probabilities IS NOT NULL "
    "OR predictions.interval_low IS NULL AND excluded.interval_low IS NOT NULL"
)

Statements: TypeAlias = dict[int, str]


class PredictionInsertion:
    """The INSERT statements of one database, with and without partitions."""

    def __init__(self, placeholder: Literal["?", "%s"]) -> None:
        names = [column.name for column in predictions.columns]
        self._plain = _statements(names, ["prediction_id"], placeholder)
        self._partitioned = _statements([*names, partitions.DAY], ["prediction_id", partitions.DAY], placeholder)

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Insert rows within a transaction. In a store with partitions, create those that are missing."""
        first_day = partitions.first_day(connection)
        if first_day is None:
            _insert(connection, self._plain, rows)
            return
        days = [partitions.day_of_prediction(row.prediction_id, row.time, first_day) for row in rows]
        partitions.create_missing(connection, {day for day in days if day >= first_day})
        _insert(connection, self._partitioned, [(*row, day) for row, day in zip(rows, days, strict=True)])


def _insert(connection: Connection, statements: Statements, rows: Sequence[tuple[object, ...]]) -> None:
    for size, chunk in _chunks(rows):
        connection.exec_driver_sql(statements[size], tuple(value for row in chunk for value in row))


def _chunks(rows: Sequence[tuple[object, ...]]) -> Iterator[tuple[int, Sequence[tuple[object, ...]]]]:
    start = 0
    for size in STATEMENT_SIZES:
        while len(rows) - start >= size:
            yield size, rows[start : start + size]
            start += size


def _statements(columns: Sequence[str], key: Sequence[str], placeholder: str) -> Statements:
    names = ", ".join(f'"{name}"' for name in columns)
    row = f"({', '.join([placeholder] * len(columns))})"
    return {
        size: f"INSERT INTO predictions ({names}) VALUES {', '.join([row] * size)} "  # noqa: S608  fixed names
        f"ON CONFLICT ({', '.join(key)}) {_ON_CONFLICT}"
        for size in STATEMENT_SIZES
    }
