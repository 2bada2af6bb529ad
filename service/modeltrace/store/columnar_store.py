"""Load predictions into temporary tables of DuckDB, which aggregates millions of rows within seconds.

The tables are those of the prediction store, so the queries of the evaluation run on them unchanged. They are in
a file, because they may be larger than the memory.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import duckdb_engine  # noqa: F401  the dialect, which SQLAlchemy finds by its name
import pyarrow as pa
from sqlalchemy import URL

from modeltrace.store.database import DUCKDB_CONFIG, Database
from modeltrace.store.store import Store
from modeltrace.store.store_url import DUCKDB, StoreLocation

LABEL_COLUMNS: Final = ("true_label", "received", "label_api_key_name")
# DuckDB's compression takes two thirds of the CPU time of a load, and the tables are read only a few times.
_LOAD_CONFIG: Final = {**DUCKDB_CONFIG, "force_compression": "uncompressed"}


class TableLoader:
    """Writes Arrow batches to the tables of a temporary store. Call either `add` for both tables, or `add_labelled`.

    A table has only the columns of the batches, so a query of another column is an error.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def add(self, name: str, reader: pa.RecordBatchReader) -> None:
        """Create a table of the store from its rows."""
        self._connection.register("reader", reader)
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM reader")  # noqa: S608  fixed names
        self._connection.unregister("reader")

    def add_labelled(self, reader: pa.RecordBatchReader) -> None:
        """Create both tables from predictions with their labels.

        The columns of a label are `LABEL_COLUMNS`. The label of a shadow is that of the primary prediction. Of several
        rows with one ID, the first is used.
        """
        self.add("labelled", reader)
        self._delete_duplicates()
        others = ", ".join(LABEL_COLUMNS)
        self._connection.execute(f"CREATE VIEW predictions AS SELECT * EXCLUDE ({others}) FROM labelled")  # noqa: S608  fixed names
        # Without shadows, each labelled row is the row of its label, and nothing has to be grouped or copied.
        self._connection.execute(
            "CREATE TABLE shadow_labels AS SELECT shadow_of AS prediction_id, min(true_label) AS label, "
            "min(received) AS received, min(time) AS prediction_time, min(label_api_key_name) AS api_key_name "
            "FROM labelled WHERE received IS NOT NULL AND shadow_of IS NOT NULL GROUP BY 1"
        )
        self._connection.execute(
            "DELETE FROM shadow_labels USING labelled WHERE shadow_labels.prediction_id = labelled.prediction_id "
            "AND labelled.received IS NOT NULL AND labelled.shadow_of IS NULL"
        )
        self._connection.execute(
            "CREATE VIEW labels AS SELECT prediction_id, true_label AS label, received, time AS prediction_time, "
            "label_api_key_name AS api_key_name FROM labelled WHERE received IS NOT NULL AND shadow_of IS NULL "
            "UNION ALL SELECT * FROM shadow_labels"
        )

    def _delete_duplicates(self) -> None:
        """Delete all rows of an ID but the first. Files without duplicates only need the count of the hashes."""
        count = "SELECT count(*) = count(DISTINCT hash(prediction_id)) FROM labelled"
        if self._connection.execute(count).fetchall() == [(True,)]:
            return
        self._connection.execute(
            "DELETE FROM labelled USING (SELECT prediction_id AS id, min(rowid) AS first FROM labelled GROUP BY 1 "
            "HAVING count(*) > 1) WHERE prediction_id = id AND labelled.rowid > first"
        )


@contextmanager
def open_columnar_store(description: str, load: Callable[[TableLoader], None]) -> Iterator[Store]:
    """Open a temporary store that can only be read. It is deleted at the end of the block.

    Args:
        description: the source of the predictions, for messages.
        load: adds the predictions and labels.

    Raises:
        duckdb.Error: the rows cannot be written.
    """
    with TemporaryDirectory(prefix="modeltrace-") as work:
        file = os.path.join(work, "predictions.duckdb")  # noqa: PTH118  a store's location is text
        with duckdb.connect(file, config=dict(_LOAD_CONFIG)) as connection:
            load(TableLoader(connection))
        location = StoreLocation(URL.create(DUCKDB, database=file), description)
        with Store(Database(location)) as store:
            yield store
