"""Read the rows of a file in bounded memory: CSV, TSV, JSON Lines (each also compressed with gzip) and Parquet.

A row that cannot be read does not end the iteration: its `error` says why. The values are raw: text in CSV and TSV,
JSON values in JSON Lines, Python values in Parquet. `modeltrace.tables.values` converts them for a feature.
"""

import csv
import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TypeAlias

from modeltrace.errors import ModeltraceError

if TYPE_CHECKING:  # an extra, which only Parquet files need
    import pyarrow as pa
    import pyarrow.parquet

TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]
SUFFIXES: Final[Mapping[str, TableFormat]] = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
# Rows that are decoded at a time from Parquet.
PARQUET_BATCH_ROWS: Final = 4096
MAX_LINE_BYTES: Final = 16 * 2**20
Content: TypeAlias = IO[bytes] | gzip.GzipFile


class TableError(ModeltraceError):
    """A table cannot be read."""


class _FormatError(Exception):
    """The content of a file is not a table. The message says why, without the name of the file."""


_READ_ERRORS: Final = (OSError, EOFError, zlib.error, _FormatError, UnicodeError)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table.

    Attributes:
        number: 1 for the first row. The header and empty lines are not counted.
        values: the values by column.
        error: why the row cannot be read; "" if it can.
    """

    number: int
    values: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """An open table.

    Attributes:
        format: the format of the file.
        columns: the names of the columns; `None` if each row has its own (JSON Lines).
        types: the Arrow types of the columns of a Parquet file; empty for other formats.
        rows: the rows, in order.
        progress: returns the share of the file that has been read, from 0 to 1.
    """

    format: TableFormat
    columns: tuple[str, ...] | None
    rows: Iterator[TableRow]
    progress: Callable[[], float]
    types: "Mapping[str, pa.DataType]" = field(default_factory=dict)


def table_format(path: Path) -> tuple[TableFormat, bool]:
    """Return the format of a file by its suffix, and whether it is compressed with gzip.

    Raises:
        TableError: the suffix is unknown.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    file_format = SUFFIXES.get(suffixes[-2] if compressed and len(suffixes) > 1 else suffixes[-1] if suffixes else "")
    if file_format is None or (compressed and file_format == "parquet"):
        raise TableError(f"{path}: the name must end in .csv, .tsv, .jsonl (or one of these and .gz), or .parquet")
    return file_format, compressed


@contextmanager
def open_table(path: Path, wanted: Collection[str] | None = None) -> Iterator[Table]:
    """Open a table.

    Args:
        path: the file. Its suffix is .csv, .tsv, .jsonl or .ndjson, or one of these and .gz, or .parquet.
        wanted: the columns to read from a Parquet file, which stores each column separately; `None`: all.

    Raises:
        TableError: the file cannot be read, or two columns have the same name. Iterating over the rows may raise it,
            too.
    """
    file_format, compressed = table_format(path)
    with ExitStack() as stack:
        try:
            if file_format == "parquet":
                table = _open_parquet(stack, path, wanted)
            else:
                raw = stack.enter_context(path.open("rb"))
                content = stack.enter_context(gzip.GzipFile(fileobj=raw)) if compressed else raw
                size = os.fstat(raw.fileno()).st_size
                table = _open_lines(stack, file_format, content, lambda: min(raw.tell() / size, 1.0) if size else 1.0)
        except _READ_ERRORS as error:
            raise _read_error(path, error) from None
        repeated = [name for name, number in Counter(table.columns or ()).items() if number > 1]
        if repeated:
            raise TableError(f"{path}: two columns have the name {repeated[0]}")
        yield Table(table.format, table.columns, _translate(table.rows, path), table.progress, table.types)


def _translate(rows: Iterator[TableRow], path: Path) -> Iterator[TableRow]:
    try:
        yield from rows
    except _READ_ERRORS as error:
        raise _read_error(path, error) from None


def _read_error(path: Path, error: BaseException) -> TableError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TableError(f"{path} cannot be read: {reason}")


def _open_parquet(stack: ExitStack, path: Path, wanted: Collection[str] | None) -> Table:
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        import pyarrow.parquet  # noqa: PLC0415  an extra
    except ModuleNotFoundError:
        raise TableError(f"{path}: Parquet files need pyarrow: pip install 'modeltrace[arrow]'") from None

    try:
        return _read_parquet(stack.enter_context(pyarrow.parquet.ParquetFile(path)), wanted)
    except pa.ArrowException as error:
        raise _FormatError(error) from None


def _read_parquet(file: "pyarrow.parquet.ParquetFile", wanted: Collection[str] | None) -> Table:
    import pyarrow as pa  # noqa: PLC0415  an extra

    schema, total = file.schema_arrow, file.metadata.num_rows
    names = tuple(schema.names)
    selected = [name for name in names if wanted is None or name in wanted]
    done = 0

    def rows() -> Iterator[TableRow]:
        nonlocal done
        try:
            for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=selected):
                columns = [batch.column(name).to_pylist() for name in selected]
                for values in zip(*columns, strict=True) if columns else [()] * batch.num_rows:
                    done += 1
                    yield TableRow(done, dict(zip(selected, values, strict=True)))
        except pa.ArrowException as error:
            raise _FormatError(error) from None

    types = {name: schema.field(index).type for index, name in enumerate(names)}
    return Table("parquet", names, rows(), lambda: done / total if total else 1.0, types)


def _open_lines(stack: ExitStack, file_format: TableFormat, content: Content, progress: Callable[[], float]) -> Table:
    if file_format == "jsonl":
        return Table(file_format, None, _json_rows(content), progress)
    # Bytes that are not UTF-8 become surrogates, so that only their row is rejected.
    text = io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")
    stack.enter_context(text)
    lines = csv.reader(text, delimiter="\t" if file_format == "tsv" else ",", strict=True)
    try:
        header = tuple(next(lines, ()))
    except csv.Error as error:
        raise _FormatError(f"the header: {error}") from None
    if not header:
        raise _FormatError("it is empty; the first line must contain the names of the columns")
    return Table(file_format, header, _csv_rows(lines, header), progress)


def _csv_rows(lines: Iterator[list[str]], header: tuple[str, ...]) -> Iterator[TableRow]:
    number = 0
    while True:
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            yield TableRow(number, {}, str(error))
            continue
        if not cells:
            continue
        number += 1
        if len(cells) != len(header):
            yield TableRow(number, {}, f"{len(cells)} fields, the header has {len(header)}")
        elif not _is_unicode(cells):
            yield TableRow(number, {}, "the text is not UTF-8")
        else:
            yield TableRow(number, dict(zip(header, cells, strict=True)))


def _is_unicode(cells: list[str]) -> bool:
    text = "".join(cells)
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(content: Content) -> Iterator[TableRow]:
    number = 0
    while line := content.readline(MAX_LINE_BYTES):
        if not line.strip():
            continue
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (more := content.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
                pass
            yield TableRow(number, {}, f"the line has more than {MAX_LINE_BYTES // 2**20} MiB")
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield TableRow(number, {}, f"not JSON: {error}")
            continue
        yield TableRow(number, row) if isinstance(row, dict) else TableRow(number, {}, "not a JSON object")
