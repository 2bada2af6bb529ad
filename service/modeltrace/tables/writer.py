"""Write tables to a file: Parquet, CSV or JSON Lines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Literal

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pyarrow import ArrowException

from modeltrace.tables.reader import TableError

OutputFormat = Literal["parquet", "csv", "jsonl"]
OUTPUT_SUFFIXES: Final[Mapping[str, OutputFormat]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def output_format(path: Path) -> OutputFormat:
    """Return the format of a file to write, by its suffix.

    Raises:
        TableError: the suffix is unknown.
    """
    try:
        return OUTPUT_SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise TableError(f"{path}: the name must end in .parquet, .csv or .jsonl") from None


def check_types(schema: pa.Schema, file_format: OutputFormat) -> None:
    """Check that a format can contain the columns of a schema.

    Raises:
        TableError: it cannot contain a column.
    """
    for field in schema:
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        if (binary and file_format != "parquet") or (pa.types.is_nested(field.type) and file_format == "csv"):
            raise TableError(f"the column {field.name} has the type {field.type}: write it to a .parquet file")


@contextmanager
def open_writer(
    file: IO[bytes], file_format: OutputFormat, schema: pa.Schema
) -> Iterator[Callable[[pa.Table], object]]:
    """Yield a function that appends a table with this schema to a file. The file is complete when the block ends.

    Raises:
        TableError: the format cannot contain a value.
    """
    try:
        if file_format == "parquet":
            with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as parquet:
                yield parquet.write_table
        elif file_format == "csv":
            with pyarrow.csv.CSVWriter(file, schema) as lines:
                yield lines.write_table
        else:
            yield lambda table: file.writelines(_json_lines(table))
    except ArrowException as error:
        raise TableError(f"the result cannot be written: {error}") from None


def _json_lines(table: pa.Table) -> Iterator[bytes]:
    return (orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE) for row in table.to_pylist())
