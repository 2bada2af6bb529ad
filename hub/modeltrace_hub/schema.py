"""Create the tables of an empty database, or convert those of an older version.

Each table is a file in hub/modeltrace_hub/sql/schema. The table `meta` has the version of the schema.
"""

import logging
from importlib import resources
from pathlib import Path
from typing import Final

import duckdb

from modeltrace_hub.errors import StoreError, StoreFormatError
from modeltrace_hub.migration import convert_from_version_1
from modeltrace_hub.trace_summaries import summarize_all_traces

# Increase this with every change of hub/modeltrace_hub/sql/schema. A test compares the two.
SCHEMA_VERSION: Final = "4"
_OLDER_VERSIONS: Final = frozenset({"1", "2", "3"})

logger = logging.getLogger(__name__)


def prepare_schema(connection: duckdb.DuckDBPyConnection, path: Path | None) -> None:
    """Create the tables in an empty database, or convert the tables of an older version.

    Raises:
        StoreFormatError: the database has another schema; nothing was changed.
        StoreError: the tables cannot be converted, for example because the disk is full; nothing was changed.
    """
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        connection.begin()
        for table in sorted(_table_files()):
            _create_table(connection, table)
        connection.execute("INSERT INTO meta VALUES ('schema', ?)", [SCHEMA_VERSION])
        connection.commit()
        return
    version = _read_version(connection, path, tables)
    if version in _OLDER_VERSIONS:
        _convert(connection, path, version)


def check_schema(connection: duckdb.DuckDBPyConnection, path: Path | None) -> None:
    """Check that the database has the tables of this version. This changes nothing.

    Raises:
        StoreFormatError: the database has another schema.
    """
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    version = _read_version(connection, path, tables)
    if version != SCHEMA_VERSION:
        raise StoreFormatError(
            f"{path} has schema version {version}, and version {SCHEMA_VERSION} is needed. Start the hub with this "
            "file once, which converts it."
        )


def _read_version(connection: duckdb.DuckDBPyConnection, path: Path | None, tables: set[str]) -> str:
    """Return the version of the schema.

    Raises:
        StoreFormatError: the version is unknown, or the database is of another program.
    """
    if "meta" not in tables:
        raise StoreFormatError(f"{path} is a DuckDB database of another program. Choose another folder with --data.")
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    version = str(row[0]) if row else "unknown"
    if version not in {*_OLDER_VERSIONS, SCHEMA_VERSION}:
        raise StoreFormatError(
            f"{path} has schema version {version}; this hub needs version {SCHEMA_VERSION}. Nothing was changed. Use "
            "the version of Modeltrace that wrote the file, choose another folder with --data, or move the file away."
        )
    return version


def _convert(connection: duckdb.DuckDBPyConnection, path: Path | None, version: str) -> None:
    """Convert a database of an older version in one transaction.

    Raises:
        StoreError: it cannot be converted; nothing was changed.
    """
    logger.info("Converting %s from schema version %s to %s.", path, version, SCHEMA_VERSION)
    try:
        connection.begin()
        if version == "1":
            convert_from_version_1(connection, lambda table: _create_table(connection, table))
        connection.execute("DROP TABLE IF EXISTS traces")
        _create_table(connection, "traces")
        summarize_all_traces(connection)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", [SCHEMA_VERSION])
        connection.commit()
        connection.checkpoint()  # free the blocks of the old tables
    except duckdb.Error as error:
        raise StoreError(
            f"{path} cannot be converted to schema version {SCHEMA_VERSION} ({str(error).splitlines()[0]}). Nothing "
            "was changed. Free as much disk space as the file has, or choose another folder with --data."
        ) from None


def _create_table(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    connection.execute(_table_files()[table])


def _table_files() -> dict[str, str]:
    """Return the SQL that creates each table."""
    files = resources.files("modeltrace_hub").joinpath("sql/schema").iterdir()
    return {file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in files}
