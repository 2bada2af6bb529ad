"""The file with test rows in a bundle."""

import orjson
import pandas as pd

from modeltrace.bundles.manifest import TrafficFile
from modeltrace.errors import PackError
from modeltrace.imports import has_pyarrow
from modeltrace.inference.schema import Schema
from modeltrace.printable import first_line
from modeltrace.tables.values import to_json_value

PARQUET_FILE = "traffic.parquet"
JSON_LINES_FILE = "traffic.jsonl"


def encode_traffic(traffic: pd.DataFrame, schema: Schema, target: str | None) -> tuple[TrafficFile, bytes]:
    """Return the description and the content of the file with test rows: Parquet, or JSON Lines without pyarrow.

    `target` is the column with the true labels, if there is one.

    Raises:
        PackError: a feature has no column, there are no rows, or a value cannot be written.
    """
    if not traffic.columns.is_unique:
        raise PackError(f"--traffic: two columns have the name {traffic.columns[traffic.columns.duplicated()][0]}")
    if missing := [name for name in schema.names if name not in traffic.columns]:
        raise PackError(f"--traffic: the column {missing[0]} is missing, which is a feature of the model")
    if not len(traffic):
        raise PackError("--traffic: the file has no rows")
    if target not in traffic.columns:
        target = None
    columns = [*schema.names, *([] if target is None else [target])]
    try:
        file, content = _encode(traffic[columns])
    except Exception as error:
        raise PackError(
            f"--traffic: the rows cannot be written to the bundle: {type(error).__name__}: {first_line(error)}"
        ) from error
    return TrafficFile(file=file, rows=len(traffic), target=target, size=len(content)), content


def _encode(table: pd.DataFrame) -> tuple[str, bytes]:
    """Return the name and the content of the file."""
    if has_pyarrow():
        return PARQUET_FILE, table.to_parquet(index=False)
    rows = zip(*(map(_to_json_value, table[name].tolist()) for name in table.columns), strict=True)
    names = [str(name) for name in table.columns]
    lines = (orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    return JSON_LINES_FILE, b"".join(lines)


def _to_json_value(value: object) -> object:
    is_missing = pd.api.types.is_scalar(value) and bool(pd.isna(value))  # type: ignore[call-overload]  # any scalar
    return None if is_missing else to_json_value(value)
