"""Encode the result of a query as JSON, CSV or Parquet."""

import csv
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import orjson

from modeltrace_hub.decode.values import json_double
from modeltrace_hub.sql_query.runner import QueryResult, unexpected_error

logger = logging.getLogger(__name__)

_MAX_INTEGER: Final = 2**63


@contextmanager
def report_unexpected_errors() -> Iterator[None]:
    """Log an error while a result is encoded or drawn, and answer it as one of the query.

    Raises:
        InvalidQueryError: the block failed.
    """
    try:
        yield
    except Exception as error:
        logger.exception("The result of a SQL query cannot be encoded.")
        raise unexpected_error(type(error).__name__) from error


def to_rows(result: QueryResult) -> list[list[Any]]:
    """Return the rows with values that JSON supports.

    Times are texts in RFC 3339, numbers that JSON lacks are "NaN", "Infinity" and "-Infinity", integers over 64 bits
    and decimals that no float is equal to are texts, and bytes are hexadecimal. Other types, such as intervals, and
    columns with times outside of the years 1 to 9999 are already texts of DuckDB.
    """
    columns = [[encode_value(value) for value in column.to_pylist()] for column in result.table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def to_json(result: QueryResult) -> dict[str, Any]:
    """Return the result as the API answers it."""
    return {"columns": result.columns, "rows": to_rows(result), "truncated": result.truncated}


def to_csv(result: QueryResult) -> bytes:
    """Return the result as CSV (RFC 4180) with a header line. NULL is an empty field, lists and maps are JSON."""
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow([column.name for column in result.columns])
    for row in to_rows(result):
        writer.writerow([orjson.dumps(value).decode() if isinstance(value, list | dict) else value for value in row])
    return target.getvalue().encode()


def to_parquet(result: QueryResult) -> bytes:
    """Return the result as a Parquet file. Repeated names of columns get a number: readers need distinct ones."""
    import pyarrow.parquet as pq  # noqa: PLC0415  only needed for a download

    names: list[str] = []
    for name in result.table.column_names:
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    target = io.BytesIO()
    pq.write_table(result.table.rename_columns(names), target)
    return target.getvalue()


def encode_value(value: Any) -> Any:  # noqa: ANN401  any value of a database
    """Return a value of DuckDB as a value that JSON supports."""
    match value:
        case None | bool() | str():
            return value
        case float():
            return json_double(value)
        case int():
            return value if -_MAX_INTEGER <= value < _MAX_INTEGER else str(value)
        case Decimal():
            if value == value.to_integral_value():
                return encode_value(int(value))
            # A text has the digits that a float lacks.
            return float(value) if Decimal(repr(float(value))) == value else f"{value:f}"
        case datetime() | date() | time():
            return value.isoformat() + ("Z" if isinstance(value, datetime) and value.tzinfo is None else "")
        case bytes():
            return value.hex()
        case list() | tuple():  # a tuple is an entry of a map
            return [encode_value(item) for item in value]
        case dict():
            return {str(key): encode_value(item) for key, item in value.items()}
        case _:
            return str(value)
