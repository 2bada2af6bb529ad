"""Write stored predictions as Parquet or CSV."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from modeltrace.store.rows import StoredPrediction, to_json


@contextmanager
def open_arrow_writer(
    file: IO[bytes], file_format: Literal["parquet", "csv"]
) -> Iterator[Callable[[list[StoredPrediction]], None]]:
    """Yield a function that appends predictions to a file. The file is complete when the block ends."""
    schema = arrow_schema()
    if file_format == "csv":
        with pyarrow.csv.CSVWriter(file, schema) as csv:
            yield lambda chunk: csv.write_table(pa.table(to_columns(chunk), schema=schema))
        return
    with pq.ParquetWriter(file, schema, compression="zstd") as parquet:
        yield lambda chunk: parquet.write_table(pa.table(to_columns(chunk), schema=schema))


def to_columns(chunk: list[StoredPrediction]) -> dict[str, list[Any]]:
    """Return the values of each column of Parquet and CSV."""
    columns: dict[str, list[Any]] = dict(
        zip(StoredPrediction._fields, map(list, zip(*chunk, strict=True)), strict=True)
    )
    columns["inputs"] = [None if row.inputs is None else to_json(row.inputs) for row in chunk]
    columns["label"] = [None if row.label is None else to_json(row.label) for row in chunk]
    columns["tags"] = [None if row.tags is None else to_json(row.tags) for row in chunk]
    columns["probabilities"] = [None if row.probabilities is None else to_json(row.probabilities) for row in chunk]
    columns["outputs"] = [None if row.outputs is None else to_json(row.outputs) for row in chunk]
    columns["true_label"] = [None if row.received is None else to_json(row.true_label) for row in chunk]
    return columns


def arrow_schema() -> pa.Schema:
    """Return the names and types of the columns of Parquet and CSV."""
    time = pa.timestamp("ns", "UTC")
    types = {
        "time": time, "erased": time, "received": time,
        "row": pa.int32(), "sampled": pa.bool_(), "synthetic": pa.bool_(),
        "value": pa.float64(), "confidence": pa.float64(),
        "interval_low": pa.float64(), "interval_high": pa.float64(), "interval_level": pa.float64(),
    }  # fmt: skip
    return pa.schema([(name, types.get(name, pa.string())) for name in StoredPrediction._fields])
