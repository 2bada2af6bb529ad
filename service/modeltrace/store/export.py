"""Predictions to a file: JSON Lines, CSV, or Parquet with a row group a chunk.

What may be of any type (`inputs`, `label`, `true_label`) is JSON as text in Parquet and CSV, whose columns have one
type each. In CSV what is not there is an empty field, and times are as RFC 3339 has them, to the nanosecond.
A file has its name once it is complete.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import StoredPrediction, to_json

ExportFormat = Literal["parquet", "jsonl", "csv"]
SUFFIXES: Final[dict[str, ExportFormat]] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


class ExportError(ModeltraceError):
    """Predictions cannot be written to a file."""


def format_from_suffix(path: Path) -> ExportFormat:
    """The format that a file's suffix names.

    Raises:
        ExportError: it names none.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(f"{path}: the suffix says nothing of the format; name one: --format parquet, jsonl or csv")
    return SUFFIXES[path.suffix.lower()]


def export_predictions(
    chunks: Iterable[list[StoredPrediction]],
    path: Path,
    file_format: ExportFormat,
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write all of it, a chunk at a time; how many. `progress` hears how many there are so far.

    Raises:
        ExportError: the file cannot be written; what was written of it is removed.
    """
    number = 0
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            with os.fdopen(_for_the_user_alone(part), "wb") as file, _open_writer(file, file_format) as add:
                for chunk in chunks:
                    add(chunk)
                    number += len(chunk)
                    on_progress(number)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from None
    return number


def _for_the_user_alone(path: Path) -> int:
    """Inputs of predictions are in it."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


@contextmanager
def _open_writer(file: IO[bytes], kind: ExportFormat) -> Iterator[Callable[[list[StoredPrediction]], None]]:
    if kind == "jsonl":
        yield lambda chunk: file.writelines(f"{to_json(one._asdict())}\n".encode() for one in chunk)
        return
    schema = _arrow_schema()
    if kind == "csv":
        with pyarrow.csv.CSVWriter(file, schema) as rows:
            yield lambda chunk: rows.write_table(pa.table(_to_columns(chunk), schema=schema))
        return
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield lambda chunk: writer.write_table(pa.table(_to_columns(chunk), schema=schema))


def _to_columns(chunk: list[StoredPrediction]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = dict(
        zip(StoredPrediction._fields, map(list, zip(*chunk, strict=True)), strict=True)
    )
    columns["inputs"] = [None if value is None else to_json(value) for value in columns["inputs"]]
    columns["label"] = [
        None if value is None and one.value is not None else to_json(value)
        for value, one in zip(columns["label"], chunk, strict=True)
    ]
    columns["true_label"] = [
        None if one.received is None else to_json(value)
        for value, one in zip(columns["true_label"], chunk, strict=True)
    ]
    return columns


def _arrow_schema() -> pa.Schema:
    time = pa.timestamp("ns", "UTC")
    types = {
        "time": time, "erased": time, "received": time,
        "row": pa.int32(), "sampled": pa.bool_(), "synthetic": pa.bool_(),
        "value": pa.float64(), "confidence": pa.float64(),
    }  # fmt: skip
    return pa.schema([(name, types.get(name, pa.string())) for name in StoredPrediction._fields])
