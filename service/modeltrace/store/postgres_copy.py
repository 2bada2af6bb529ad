"""Copy predictions from PostgreSQL to a temporary store of DuckDB, in Arrow batches.

Each aggregate query in PostgreSQL reads the rows of the selection with their inputs. A copy reads them once, without
the inputs, and DuckDB computes the aggregates on all cores.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

import adbc_driver_manager
import duckdb
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo
from sqlalchemy import Select, select
from sqlalchemy.dialects import postgresql

from modeltrace.errors import StoreUnavailableError
from modeltrace.store.columnar_store import TableLoader, open_columnar_store
from modeltrace.store.database import libpq_options, store_error
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.store.store_url import StoreLocation

# A shadow has the label of the primary prediction, whose time differs by less than this.
MAX_SHADOW_DELAY_NS: Final = 3600 * 10**9


@contextmanager
def open_postgres_copy(store: Store, selection: Selection, columns: Sequence[str]) -> Iterator[Store]:
    """Copy selected predictions and their labels into a temporary store, which is deleted at the end of the block.

    All rows are of one state of the database.

    Args:
        store: a store in PostgreSQL.
        selection: the predictions to copy.
        columns: the names of the columns to copy.

    Raises:
        StoreUnavailableError: the database cannot be read, or the disk for temporary files is full.
    """
    rows = select(*(predictions.c[name] for name in columns)).where(*selection.conditions())
    true_labels = select(labels)
    if selection.since is not None:
        true_labels = true_labels.where(labels.c.prediction_time >= selection.since - MAX_SHADOW_DELAY_NS)
    if selection.until is not None:
        true_labels = true_labels.where(labels.c.prediction_time < selection.until + MAX_SHADOW_DELAY_NS)

    def load(loader: TableLoader) -> None:
        with (
            closing(dbapi.connect(_connection_string(store.location))) as connection,
            closing(connection.cursor()) as cursor,
        ):
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for table, statement in ((predictions, rows), (labels, true_labels)):
                cursor.execute(_to_sql(statement))
                loader.add(table.name, cursor.fetch_record_batch())

    with ExitStack() as stack:
        try:
            copy = stack.enter_context(open_columnar_store(store.location.description, load))
        except (adbc_driver_manager.Error, duckdb.Error, OSError) as error:
            raise store_error(StoreUnavailableError, str(error), store.location) from None
        yield copy


def _to_sql(statement: Select[Any]) -> str:
    """Return the SQL text with all values, because a COPY statement has no parameters."""
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def _connection_string(location: StoreLocation) -> str:
    """Return the connection string of libpq, in which several hosts are written in another way than in SQLAlchemy."""
    _, arguments = location.url.get_dialect()().create_connect_args(location.url)
    return make_conninfo(**{**libpq_options(location), **arguments})
