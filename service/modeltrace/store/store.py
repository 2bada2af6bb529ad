"""The prediction store: opened by path or URL, written by many processes, read by time or by trace.

Each write can be retried, because existing rows are not inserted again.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, Self

from sqlalchemy import Connection, Select, func, insert, inspect, select, text, tuple_, update

from modeltrace.errors import StoreError
from modeltrace.store import retention
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.database import Database, create_file
from modeltrace.store.label_insertion import LabelOutcome, insert_labels
from modeltrace.store.leader_lock import leader_lock
from modeltrace.store.migration import MIGRATIONS, migrate
from modeltrace.store.partitioning import partition_store
from modeltrace.store.prediction_insertion import PredictionInsertion
from modeltrace.store.rows import Row, StoredLabel, StoredPrediction, from_json, to_stored_prediction
from modeltrace.store.schema import SCHEMA_LOCK_KEY, SCHEMA_VERSION, labels, metadata, predictions, schema_version
from modeltrace.store.selection import ALL, Selection, predictions_with_labels, select_by_external_id
from modeltrace.store.store_url import StoreLocation, parse_store_url

# Rows per page of `Store.read` and `Store.fetch_pages`.
PAGE_SIZE: Final = 1000


class Counts(NamedTuple):
    """The size of a store; times are nanoseconds since the epoch, and `None` without predictions."""

    predictions: int
    labels: int
    oldest: int | None
    latest: int | None


class QueryRunner(Protocol):
    """Runs queries on the tables of a prediction store."""

    @property
    def location(self) -> StoreLocation:
        """The location of the store."""

    def fetch_all(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        """Run a query with a small result, and return all rows.

        Raises:
            StoreError: the store cannot be read.
        """


class Store:
    """An open prediction store; see `open_store`. Thread-safe. All methods raise `StoreError` if they fail."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._retention_lock = leader_lock(database.location, "retention")
        self._insertion = PredictionInsertion("?" if self.location.file else "%s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def location(self) -> StoreLocation:
        """The location of the store."""
        return self._database.location

    def close(self) -> None:
        """Close all connections."""
        self._retention_lock.release()
        self._database.close()

    # Write.

    def add_predictions(self, rows: Sequence[Row]) -> None:
        """Insert rows in one transaction. Existing rows stay unchanged, except that a missing `shadow_of` is added.

        Raises:
            StoreUnavailableError: the store is unavailable; a retry may succeed.
            StoreError: the store rejects one of the rows.
        """
        with self._database.transaction() as connection:
            self._insertion.insert(connection, rows)

    def add_labels(self, items: Sequence[StoredLabel]) -> list[LabelOutcome]:
        """Insert true labels in one transaction, whether or not the rows of their predictions exist yet.

        Returns:
            An outcome per label, in order: `new`, `same`, or `conflict` if the prediction has another label. The
            existing label is not changed.
        """
        with self._database.transaction() as connection:
            return insert_labels(connection, items)

    def erase(self, ids: Sequence[str], now_ns: int) -> list[str]:
        """Erase inputs, named outputs, external IDs and tags of predictions and of their shadows, and keep the rows.

        Named outputs may be computed from the inputs in a way that can be inverted.

        Returns:
            The IDs that exist in the store, including those erased before.
        """
        change = update(predictions).values(
            inputs=None, outputs=None, external_id=None, tags=None, erased=func.coalesce(predictions.c.erased, now_ns)
        )
        with self._database.transaction() as connection:
            matches = change.where(predictions.c.prediction_id.in_(ids)).returning(predictions.c.prediction_id)
            existing = list(connection.execute(matches).scalars())
            connection.execute(change.where(predictions.c.shadow_of.in_(ids)))
        self._database.truncate_wal()
        return existing

    def delete_before(self, cutoff: int) -> tuple[int, bool]:
        """Delete a chunk of the oldest predictions before a time, and their labels.

        Returns:
            The number of deleted predictions, and whether more are left.
        """
        with self._database.transaction() as connection:
            return retention.delete_before(connection, cutoff)

    def delete_expired(self, limit: AgeLimit, now_ns: int) -> tuple[int, bool]:
        """Delete a chunk of the expired predictions. Do nothing if another process has the retention lock.

        Returns:
            The number of deleted predictions, and whether more may be deleted now.
        """
        if not self._retention_lock.try_acquire():
            return 0, False
        with self._database.transaction() as connection:
            return retention.delete_expired(connection, limit, now_ns)

    def partition(self, now_ns: int) -> tuple[int, bool]:
        """Divide a PostgreSQL store into partitions by day; see `modeltrace.store.partitioning`."""
        return partition_store(self._database, now_ns)

    def shrink(self, max_bytes: int) -> int:
        """Delete a chunk of the oldest predictions if a SQLite store exceeds `max_bytes`; return their number.

        A PostgreSQL store is never limited in size.
        """
        if self.location.file is None:
            return 0
        with self._database.transaction() as connection:
            return retention.shrink(connection, max_bytes)

    # Read.

    def read(self, selection: Selection = ALL) -> Iterator[list[StoredPrediction]]:
        """Yield pages of predictions in order of time; see `fetch_pages`."""
        for rows in self.fetch_pages(predictions_with_labels().where(*selection.conditions())):
            yield [to_stored_prediction(row) for row in rows]

    def fetch_pages(self, statement: Select[Any], size: int = PAGE_SIZE) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query of `predictions` in order of time, in pages of at most `size` rows.

        The query must select the columns `time` and `prediction_id`. Each page has its own transaction, so a slow
        reader does not hold a transaction open.
        """
        key = predictions.c.time, predictions.c.prediction_id
        ordered = statement.order_by(*key).limit(size)
        next_page = ordered
        while True:
            with self._database.transaction(read_only=True) as connection:
                page = connection.execute(next_page).all()
            if page:
                yield page
            if len(page) < size:
                return
            next_page = ordered.where(tuple_(*key) > tuple_(page[-1].time, page[-1].prediction_id))

    def latest_inputs(self, selection: Selection, limit: int) -> list[object]:
        """Return the inputs of the newest selected predictions that have any."""
        newest = select(predictions.c.inputs).where(*selection.conditions(), predictions.c.inputs.is_not(None))
        rows = self.fetch_all(newest.order_by(predictions.c.time.desc()).limit(limit))
        return [from_json(inputs) for (inputs,) in rows]

    def find(self, prediction_id: str) -> StoredPrediction | None:
        """Return one prediction, or `None`."""
        with self._database.transaction(read_only=True) as connection:
            statement = predictions_with_labels().where(predictions.c.prediction_id == prediction_id)
            row = connection.execute(statement).one_or_none()
            return None if row is None else to_stored_prediction(row)

    def find_by_external_id(self, external_ids: Sequence[str], model_name: str) -> dict[str, tuple[int, str]]:
        """Return the number of predictions of a model, and one prediction ID, by external ID."""
        rows = self.fetch_all(select_by_external_id(external_ids, model_name))
        return {external_id: (number, prediction_id) for external_id, number, prediction_id in rows}

    def fetch_all(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        """Run a query with a small result, and return all rows."""
        with self._database.transaction(read_only=True) as connection:
            return connection.execute(statement).all()

    def counts(self, selection: Selection = ALL) -> Counts:
        """Return the number of selected predictions and the number of all labels."""
        with self._database.transaction(read_only=True) as connection:
            number, oldest, latest = connection.execute(selection.select_summary()).one()
            all_labels = connection.execute(select(func.count()).select_from(labels)).scalar_one()
        return Counts(number, all_labels, oldest, latest)


def open_store(url: str, *, create: bool = True) -> Store:
    """Open a store, and migrate it if its tables are of an older version.

    Args:
        url: a path or a URL, as in MODELTRACE_STORE.
        create: whether to create the store if it does not exist.

    Raises:
        StoreError: the store cannot be opened; the message contains the reason and no password.
    """
    location = parse_store_url(url)
    if create:
        create_file(location)
    elif location.file is not None and not location.file.is_file():
        raise _missing_store_error(location)
    database = Database(location)
    try:
        with database.transaction(read_only=not create) as connection:
            outdated = _check_schema(connection, location, create=create)
        if outdated:
            with database.transaction() as connection:
                _lock_schema(connection, location)
                migrate(connection)
    except StoreError:
        database.close()
        raise
    return Store(database)


def _lock_schema(connection: Connection, location: StoreLocation) -> None:
    """Wait for other processes that create or migrate tables. In SQLite, the write transaction is the lock."""
    if location.file is None:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK_KEY})"))


def _check_schema(connection: Connection, location: StoreLocation, *, create: bool) -> bool:
    """Check the version of the tables, and create them if necessary; return whether they must be migrated."""
    if create:
        _lock_schema(connection, location)
    if not inspect(connection).has_table(schema_version.name):
        if not create:
            raise _missing_store_error(location)
        metadata.create_all(connection, checkfirst=False)  # fail if there are other tables with these names
        connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
    version = connection.execute(select(schema_version.c.version)).scalar_one_or_none()
    if version not in (*MIGRATIONS, SCHEMA_VERSION):
        raise StoreError(
            f"the prediction store {location.description} has tables of version {version}, and this release of "
            f"Modeltrace needs version {SCHEMA_VERSION}: choose another store with MODELTRACE_STORE, or export this "
            "one with the release that wrote it"
        )
    return bool(version != SCHEMA_VERSION)


def _missing_store_error(location: StoreLocation) -> StoreError:
    return StoreError(
        f"there is no prediction store at {location.description}. The service creates it at its start; set its "
        "location with MODELTRACE_STORE"
    )
