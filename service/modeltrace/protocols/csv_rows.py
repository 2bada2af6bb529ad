"""Rows of a CSV body, with the types that the feature schema has."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from modeltrace.errors import MalformedRequestError, RequestTooLargeError
from modeltrace.inference.schema import Schema

# The cells that pandas reads as missing values by default, and therefore `modeltrace pack`, too.
MISSING_CELLS: Final = frozenset(
    {
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
        "NULL", "NaN", "None", "n/a", "nan", "null",
    }
)  # fmt: skip
_BOOLEANS: Final[Mapping[str, bool]] = {"true": True, "false": False}
Cell = float | int | bool | str | None


def rows_from_csv(body: bytes, schema: Schema, max_rows: int) -> list[dict[str, Cell]]:
    """Return the rows of a CSV document in UTF-8 whose first line contains the names of the columns.

    A cell that its feature's type cannot represent stays a text, so that the validation reports it.

    Raises:
        MalformedRequestError: it is not CSV, has no header, or a line has another number of cells than the header.
        RequestTooLargeError: it has more than `max_rows` rows.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedRequestError(f"the CSV is not UTF-8: invalid byte at position {error.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = (cells for cells in reader if cells)  # blank lines are ignored, as pandas does
        header = next(lines, None)
        if header is None:
            raise MalformedRequestError("the CSV is empty; its first line must contain the feature names")
        if len(set(header)) != len(header):
            raise MalformedRequestError("the header of the CSV contains a name twice")
        return list(_parse_lines(lines, header, schema, max_rows, lambda: reader.line_num))
    except csv.Error as error:
        raise MalformedRequestError(f"the body is not CSV: line {reader.line_num}: {error}") from None


def _parse_lines(
    lines: Iterator[list[str]], header: list[str], schema: Schema, max_rows: int, line_number: Callable[[], int]
) -> Iterator[dict[str, Cell]]:
    kinds = {feature.name: feature.level_kind or feature.type for feature in schema.features}
    parsers = [(name, _PARSERS.get(kinds.get(name, ""), _parse_text)) for name in header]
    for index, cells in enumerate(lines):
        if index >= max_rows:
            raise RequestTooLargeError(f"the CSV has more than {max_rows} rows, the limit (MODELTRACE_MAX_BATCH_ROWS)")
        if len(cells) != len(header):
            raise MalformedRequestError(
                f"line {line_number()} of the CSV has {len(cells)} cells, the header has {len(header)}"
            )
        yield {
            name: None if cell in MISSING_CELLS else parse(cell)
            for (name, parse), cell in zip(parsers, cells, strict=True)
        }


def _parse_text(cell: str) -> Cell:
    return cell


def _parse_number(cell: str) -> Cell:
    if "_" in cell:  # Python reads 1_000 as a number, CSV does not
        return cell
    try:
        return int(cell) if cell.lstrip("+-").isdigit() and len(cell) < 20 else float(cell)
    except ValueError:
        return cell


def _parse_boolean(cell: str) -> Cell:
    return _BOOLEANS.get(cell.lower(), cell)


_PARSERS: Final[Mapping[str, Callable[[str], Cell]]] = {
    "number": _parse_number,
    "integer": _parse_number,
    "boolean": _parse_boolean,
}
