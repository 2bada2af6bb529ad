"""The store itself: opened by path or URL, written by many, read by time or by trace.

Whatever writes may be repeated: what is there already stays as it is.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import Connection, Select, func, insert, inspect, select, text, update

from modeltrace.errors import StoreError
from modeltrace.store import labels, retention
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.database import Database, create_file
from modeltrace.store.labels import LabelOutcome
from modeltrace.store.leader_lock import leader_lock
from modeltrace.store.migration import MIGRATIONS, migrate
from modeltrace.store.rows import Row, StoredLabel, StoredPrediction, to_stored_prediction
from modeltrace.store.schema import SCHEMA_VERSION, metadata, predictions, schema_version
from modeltrace.store.schema import labels as labels_table
from modeltrace.store.selection import ALL, Selection, predictions_with_labels
from modeltrace.store.store_url import StoreLocation, parse_store_url

# Rows of one statement: each is one call of the database, in which the interpreter's lock is free. With a call a row, a
# busy interpreter would be waited for after each of them. The sizes are few, so that each is prepared once.
STATEMENT_SIZES: Final = (512, 64, 8, 1)
# Rows of one answer when many are read, IDs of one question.
PAGE_SIZE: Final = 1000
# Of those who would make the tables at the same time, the one that holds this lock does. Any number.
_CREATE_LOCK_KEY: Final = 0x6D6F64656C

# A row that is there stays. Only two services can have one row to tell: a challenger that shares the store, which does
# not know that it was one, and the service that asked it.
_ON_CONFLICT: Final = (
    "ON CONFLICT (prediction_id) DO UPDATE SET shadow_of = excluded.shadow_of "
    "WHERE predictions.shadow_of IS NULL AND excluded.shadow_of IS NOT NULL"
)


class Counts(NamedTuple):
    """How much there is; times are `None` where there is nothing."""

    predictions: int
    labels: int
    oldest: int | None
    latest: int | None


class Store:
    """A prediction store that is open. Of any thread."""

    def __init__(self, database: Database) -> None:
        """See `open_store`."""
        self._database = database
        self._retention_lock = leader_lock(database.location, "retention")
        self._statements = {
            size: _insert_statement(size, "?" if self.location.file else "%s") for size in STATEMENT_SIZES
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def location(self) -> StoreLocation:
        """Where it is."""
        return self._database.location

    def close(self) -> None:
        """Close every connection."""
        self._retention_lock.release()
        self._database.close()

    # Writing.

    def add_predictions(self, rows: Sequence[Row]) -> None:
        """Add rows in one transaction; those that are there already stay as they are.

        Raises:
            StoreUnavailableError: not now.
            StoreError: one of them never.
        """
        with self._database.transaction() as connection:
            start = 0
            for size in STATEMENT_SIZES:
                while len(rows) - start >= size:
                    values = tuple(value for row in rows[start : start + size] for value in row)
                    connection.exec_driver_sql(self._statements[size], values)
                    start += size

    def add_labels(self, items: Sequence[StoredLabel]) -> list[LabelOutcome]:
        """Add true labels, whether or not their predictions' rows have arrived; what became of each, in order.

        The first label of a prediction stays: another one is a `conflict`, and changes nothing.

        Raises:
            StoreError: none of them was added.
        """
        with self._database.transaction() as connection:
            return labels.insert_labels(connection, items)

    def erase(self, ids: Sequence[str], now_ns: int) -> list[str]:
        """Remove the inputs of predictions and keep their rows; the IDs that are there, erased now or before.

        Those of their shadows, which are the same inputs, go with them.

        Raises:
            StoreError: nothing was removed.
        """
        found: list[str] = []
        with self._database.transaction() as connection:
            for start in range(0, len(ids), PAGE_SIZE):
                some = ids[start : start + PAGE_SIZE]
                change = update(predictions).values(inputs=None, erased=func.coalesce(predictions.c.erased, now_ns))
                chosen = change.where(predictions.c.prediction_id.in_(some))
                found += connection.execute(chosen.returning(predictions.c.prediction_id)).scalars()
                connection.execute(change.where(predictions.c.shadow_of.in_(some)))
        self._database.truncate_wal()
        return found

    def delete_before(self, cutoff: int) -> tuple[int, bool]:
        """Delete the oldest predictions before a time, and their labels; how many, and whether any are left.

        Raises:
            StoreError: nothing was deleted.
        """
        with self._database.transaction() as connection:
            return retention.delete_oldest(connection, cutoff)

    def delete_expired(self, limit: AgeLimit, now_ns: int) -> tuple[int, bool]:
        """Delete some of the predictions that are too old, unless another writer does; how many, and if there are more.

        Raises:
            StoreError: nothing was deleted.
        """
        if not self._retention_lock.try_acquire():
            return 0, False
        with self._database.transaction() as connection:
            return retention.delete_expired(connection, limit, now_ns)

    def shrink(self, max_bytes: int) -> int:
        """Delete some of the oldest if a SQLite store takes more than so many bytes; how many.

        PostgreSQL's size is its owner's business.

        Raises:
            StoreError: nothing was deleted.
        """
        if self.location.file is None:
            return 0
        with self._database.transaction() as connection:
            return retention.shrink(connection, max_bytes)

    # Reading.

    def read(self, selection: Selection = ALL) -> Iterator[list[StoredPrediction]]:
        """Predictions by time, a chunk at a time.

        Each chunk is a question of its own, so nothing is held open however slow the reader is.

        Raises:
            StoreError: they cannot be read.
        """
        after = None
        while True:
            with self._database.transaction(read_only=True) as connection:
                found = [
                    to_stored_prediction(row) for row in connection.execute(selection.select_page(after, PAGE_SIZE))
                ]
            if found:
                yield found
            if len(found) < PAGE_SIZE:
                return
            after = found[-1].time, found[-1].prediction_id

    def find(self, prediction_id: str) -> StoredPrediction | None:
        """One prediction.

        Raises:
            StoreError: it cannot be read.
        """
        with self._database.transaction(read_only=True) as connection:
            question = predictions_with_labels().where(predictions.c.prediction_id == prediction_id)
            row = connection.execute(question).one_or_none()
            return None if row is None else to_stored_prediction(row)

    def fetch_all(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        """The whole answer to a question whose answer is short.

        Raises:
            StoreError: it cannot be asked.
        """
        with self._database.transaction(read_only=True) as connection:
            return connection.execute(statement).all()

    def counts(self, selection: Selection = ALL) -> Counts:
        """How many predictions are selected, and how many labels there are altogether.

        Raises:
            StoreError: it cannot be read.
        """
        with self._database.transaction(read_only=True) as connection:
            number, oldest, latest = connection.execute(selection.select_summary()).one()
            others = connection.execute(select(func.count()).select_from(labels_table)).scalar_one()
        return Counts(number, others, oldest, latest)


def _insert_statement(size: int, placeholder: str) -> str:
    columns = ", ".join(f'"{column.name}"' for column in predictions.columns)
    row = f"({', '.join([placeholder] * len(predictions.columns))})"
    return f"INSERT INTO predictions ({columns}) VALUES {', '.join([row] * size)} {_ON_CONFLICT}"  # noqa: S608  our own words


def open_store(url: str, *, create: bool = True) -> Store:
    """Open what MODELTRACE_STORE names, a path or a URL; `create` makes what is not there yet.

    Raises:
        StoreError: it cannot be opened; the message says why, and nothing that is secret.
    """
    location = parse_store_url(url)
    if create:
        create_file(location)
    elif location.file is not None and not location.file.is_file():
        raise _missing_store_error(location)
    database = Database(location)
    try:
        with database.transaction(read_only=not create) as connection:
            old = _check_schema(connection, location, create=create)
        if old:
            with database.transaction() as connection:
                _lock_schema(connection, location)
                migrate(connection)
    except StoreError:
        database.close()
        raise
    return Store(database)


def _lock_schema(connection: Connection, location: StoreLocation) -> None:
    """Wait for whoever else makes or changes tables. With SQLite the transaction has the database for itself."""
    if location.file is None:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATE_LOCK_KEY})"))


def _check_schema(connection: Connection, location: StoreLocation, *, create: bool) -> bool:
    """See that the tables are those of this version; whether they are of an older one, which can be brought up."""
    if create:
        _lock_schema(connection, location)
    if not inspect(connection).has_table(schema_version.name):
        if not create:
            raise _missing_store_error(location)
        metadata.create_all(connection, checkfirst=False)  # tables of somebody else with these names are an error
        connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
    found = connection.execute(select(schema_version.c.version)).scalar_one_or_none()
    if found not in (*MIGRATIONS, SCHEMA_VERSION):
        raise StoreError(
            f"the prediction store {location.description} has version {found} of its tables, and this Modeltrace takes "
            f"{SCHEMA_VERSION}: name another one with MODELTRACE_STORE, or export it with the Modeltrace that wrote it"
        )
    return bool(found != SCHEMA_VERSION)


def _missing_store_error(location: StoreLocation) -> StoreError:
    return StoreError(
        f"there is no prediction store at {location.description}. A service that has answered makes one; "
        "MODELTRACE_STORE says where"
    )
