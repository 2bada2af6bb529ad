"""Find which views and columns a query reads, with the parser of DuckDB."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import duckdb
import orjson

from modeltrace_hub.errors import InvalidQueryError

# A row counts even if the query reads none of its columns, so one column is always read.
_SMALLEST_COLUMN: Final = "time_ns"


def find_columns(
    connection: duckdb.DuckDBPyConnection, sql: str, views: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return the columns that a query may read, by view. More columns than it reads are possible, fewer are not.

    Args:
        connection: any connection; nothing is executed but the parser.
        sql: the text of the query.
        views: the columns of each view.

    Raises:
        InvalidQueryError: the text is not one SELECT statement.
    """
    statement = _parse(connection, sql)
    nodes = [*_walk(statement)]
    texts = {text.lower() for node in nodes for text in _texts(node)}
    tables = {str(node["table_name"]).lower() for node in nodes if node.get("type") == "BASE_TABLE"}
    # Expressions have a class and tables have none. Aliases of expressions are no names of tables.
    aliases = {str(node["alias"]).lower() for node in nodes if node.get("alias") and "class" not in node}
    reads_all = any(_reads_whole_rows(node, tables | aliases) for node in nodes)
    return {
        view: [name for name in columns if reads_all or name in texts or name == _SMALLEST_COLUMN]
        for view, columns in views.items()
        if view in tables
    }


def find_equalities(
    connection: duckdb.DuckDBPyConnection, sql: str, views: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Return texts that columns must be equal to, by view and column: rows with other values cannot affect the result.

    These are conditions `column = 'text'` of a WHERE clause that all rows of a view must meet: the view is the only
    table of a SELECT, it occurs only once in the query, and the column has no qualifier or the name of this table.

    Args:
        connection: any connection; nothing is executed but the parser.
        sql: the text of the query.
        views: the DuckDB types of the columns of each view.

    Raises:
        InvalidQueryError: the text is not one SELECT statement.
    """
    nodes = [*_walk(_parse(connection, sql))]
    occurrences = Counter(str(node["table_name"]).lower() for node in nodes if node.get("type") == "BASE_TABLE")
    found: dict[str, dict[str, str]] = {}
    for node in nodes:
        table = node.get("from_table") or {}
        view = str(table.get("table_name", "")).lower()
        if node.get("type") != "SELECT_NODE" or view not in views or occurrences[view] != 1:
            continue
        # A sample is taken before the condition applies.
        if table.get("sample") is None and node.get("sample") is None and not table.get("column_name_alias"):
            # The column of another qualifier is that of an outer query, or a value inside a column.
            qualifiers = {(), (str(table.get("alias") or view).lower(),)}
            found[view] = {
                name: text
                for qualifier, name, text in _equalities(node["where_clause"])
                if qualifier in qualifiers and views[view].get(name) == "VARCHAR"
            }
    return found


def _equalities(condition: Mapping[str, Any] | None) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield qualifier, column and text of the equalities that a condition implies."""
    match condition:
        case {"type": "CONJUNCTION_AND", "children": list(children)}:
            for child in children:
                yield from _equalities(child)
        case {
            "type": "COMPARE_EQUAL",
            "left": {"type": "COLUMN_REF", "column_names": [*qualifier, str(name)]},
            "right": {"type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": str(text)}},
        }:
            yield tuple(str(part).lower() for part in qualifier), name.lower(), text


def _parse(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:  # noqa: ANN401  a tree of JSON
    (row,) = connection.execute("SELECT json_serialize_sql(CAST(? AS VARCHAR))", [sql]).fetchall()
    try:
        tree = orjson.loads(row[0])
    except orjson.JSONDecodeError:
        raise InvalidQueryError("The query is nested too deeply.") from None
    if tree.get("error"):
        if tree.get("error_type") == "not implemented":
            raise InvalidQueryError("Only a SELECT statement can run here. The database is read-only.")
        position = f" (character {int(tree['position']) + 1})" if tree.get("position") else ""
        message = tree.get("error_message", "The query is invalid").split(". Use ")[0]  # settings cannot be changed
        raise InvalidQueryError(f"{message}{position}.")
    if len(tree.get("statements", ())) != 1:
        raise InvalidQueryError("Write one SELECT statement.")
    return tree["statements"][0]


def _walk(tree: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  a tree of JSON
    """Yield all objects of a tree. The tree may be deep, so this does not recurse."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _texts(node: Mapping[str, Any]) -> Iterator[str]:
    for value in node.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))


def _reads_whole_rows(node: Mapping[str, Any], tables: set[str]) -> bool:
    """Whether a node reads columns that it does not name: a star, a natural join, or a table as one value."""
    # The type of a constant, such as the size of a sample, is an object.
    if str(node.get("type")) in {"STAR", "SHOW_REF"} or node.get("ref_type") in {"NATURAL", "POSITIONAL"}:
        return True
    names = node.get("column_names") or [""]
    return node.get("type") == "COLUMN_REF" and str(names[-1]).lower() in tables
