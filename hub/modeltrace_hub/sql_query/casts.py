"""Cast the columns of a result to text where Python, JSON, CSV or Parquet lack their values."""

from typing import Any, Final

import duckdb

_PLAIN: Final = frozenset(
    {
        "boolean",
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "hugeint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
        "float",
        "double",
        "decimal",
        "varchar",
        "json",
        "uuid",
        "blob",
        "enum",
        "null",
    }
)
_TIMES: Final = frozenset(
    {"date", "time", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"}
)
# The smallest values that Python changes without an error: 24:00:00, and infinity.
_LIMITS: Final = {"time64[us": 24 * 3600 * 10**6, "timestamp[ns": 2**63 - 1}


def cast_types(connection: duckdb.DuckDBPyConnection, sql: str, relation: duckdb.DuckDBPyRelation) -> Any:  # noqa: ANN401  a relation
    """Return the relation of a query with text in place of the types that Arrow, Python or Parquet change or lack."""
    targets = [_target(type_, _PLAIN | _TIMES) for type_ in relation.types]
    if not any(targets):
        return relation
    return connection.sql(_without_semicolon(sql)).project(_columns(relation.columns, targets))


def cast_times(connection: duckdb.DuckDBPyConnection, table: Any) -> Any:  # noqa: ANN401  tables of Arrow
    """Return a table of Arrow with text in place of the columns with times that Python lacks, such as infinity."""
    unsupported = [not _is_supported(column) for column in table.columns]
    if not any(unsupported):
        return table
    relation = connection.from_arrow(table)
    targets = [
        _target(type_, _PLAIN) if is_text else None for type_, is_text in zip(relation.types, unsupported, strict=True)
    ]
    return relation.project(_columns(table.column_names, targets)).to_arrow_table()


def _is_supported(column: Any) -> bool:  # noqa: ANN401  a column of Arrow
    import pyarrow.compute as pc  # noqa: PLC0415  only needed for a query

    limit = _LIMITS.get(str(column.type).split(",")[0].rstrip("]"))
    if limit is not None:
        ends = pc.min_max(column.cast("int64")).as_py().values()
        if any(end is not None and abs(end) >= limit for end in ends):
            return False
    try:
        column.to_pylist()
    except (ValueError, OverflowError):
        return False
    return True


def _columns(names: list[str], targets: list[str | None]) -> str:
    """Return the list of a SELECT. Columns have positions, because names may repeat."""
    return ", ".join(
        f"{f'CAST(#{position} AS {target})' if target else f'#{position}'} AS {_quoted(name)}"
        for position, (name, target) in enumerate(zip(names, targets, strict=True), start=1)
    )


def _target(type_: Any, supported: frozenset[str]) -> str | None:  # noqa: ANN401  a type of DuckDB
    """Return the type to cast to: the same lists, structs and maps, but text inside; None if all is supported."""
    if type_.id in supported:
        return None
    if type_.id not in {"list", "array", "struct", "map"} or not type_.children:
        return "VARCHAR"
    # The second child of an array is its size.
    children = type_.children[:1] if type_.id in {"list", "array"} else type_.children
    targets = [_target(child, supported) for _, child in children]
    if not any(targets):
        return None
    texts = [target or str(child) for (_, child), target in zip(children, targets, strict=True)]
    match type_.id:
        case "map":
            return f"MAP({', '.join(texts)})"
        case "struct":
            fields = [f"{_quoted(name)} {text}" for (name, _), text in zip(children, texts, strict=True)]
            return f"STRUCT({', '.join(fields)})"
        case _:
            return f"{texts[0]}[]"


def _without_semicolon(sql: str) -> str:
    """Remove the semicolons and comments after a statement, which cannot be inside a subquery."""
    text = sql.encode()
    for position, kind in reversed(duckdb.tokenize(sql)):
        if kind != duckdb.token_type.comment and text[position : position + 1] != b";":
            break
        text = text[:position]
    return text.decode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
