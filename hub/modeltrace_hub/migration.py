"""Convert the tables of an older version of the hub.

Version 1 had the columns of the resource and of the scope in every row. Version 2 has the tables `resources` and
`scopes`. Version 3 adds the table `traces` (hub/modeltrace_hub/trace_summaries.py), and version 4 its columns about LLM
calls.
"""

from collections.abc import Callable
from typing import Final

import duckdb

from modeltrace_hub.decode.resource import row_id

_RECORD_TABLES: Final = ("spans", "logs", "metric_points")
_RESOURCE_COLUMNS: Final = (
    "resource_attributes, resource_dropped_attributes_count, resource_entity_refs, resource_schema_url"
)
_SCOPE_COLUMNS: Final = "scope_name, scope_version, scope_attributes, scope_dropped_attributes_count, scope_schema_url"


def convert_from_version_1(connection: duckdb.DuckDBPyConnection, create_table: Callable[[str], object]) -> None:
    """Convert all rows of version 1 to version 2.

    Args:
        connection: a connection in a transaction. If this function fails, roll the transaction back.
        create_table: creates an empty table of version 2 by name.
    """
    for table in _RECORD_TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    for table, columns in (("resources", _RESOURCE_COLUMNS), ("scopes", _SCOPE_COLUMNS)):
        create_table(table)
        distinct = " UNION ".join(f"SELECT {columns} FROM {records}_1" for records in _RECORD_TABLES)  # noqa: S608  fixed names
        rows = connection.execute(distinct).fetchall()
        with connection.appender(table) as appender:
            appender.append_rows([(row_id(row), *row) for row in rows])
    for table in _RECORD_TABLES:
        create_table(table)
        connection.execute(
            f"INSERT INTO {table} SELECT old.* EXCLUDE ({_RESOURCE_COLUMNS}, {_SCOPE_COLUMNS}), resource_id, scope_id "  # noqa: S608  fixed names
            f"FROM {table}_1 AS old JOIN resources USING ({_RESOURCE_COLUMNS}) JOIN scopes USING ({_SCOPE_COLUMNS}) "
            "ORDER BY received_ns"
        )
        connection.execute(f"DROP TABLE {table}_1")
