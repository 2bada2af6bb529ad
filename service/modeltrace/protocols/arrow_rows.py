"""Rows of a body in Arrow's IPC stream format or in Parquet, and results as an Arrow IPC stream.

A body may expand to many times its size when it is decoded. Before values are converted, the number of rows and columns
and the bytes of the decoded columns are checked, and types whose values can share bytes (views, run-end encoded and
nested types) are rejected. An IPC stream must not have compressed buffers; the whole body may be compressed
(`Content-Encoding`). The size of Parquet is the size that its metadata declare, then that of each decoded batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from modeltrace.errors import InvalidFeaturesError, MalformedRequestError, RequestTooLargeError
from modeltrace.inference.intervals import INTERVAL_COLUMNS
from modeltrace.inference.model import Label, Model
from modeltrace.inference.pipeline import Prediction
from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.validate import MAX_UNKNOWN_FEATURES
from modeltrace.printable import truncate
from modeltrace.protocols.flatbuffers import has_compressed_buffers
from modeltrace.protocols.rows import MAX_NAME, ColumnRows
from modeltrace.tables.values import converter, to_json_value
from modeltrace.telemetry.records.prediction import ByRow

# The key of the schema's metadata whose value is a JSON object with `ids` and `tags`.
METADATA_KEY: Final = b"modeltrace"
PARQUET_BATCH_ROWS: Final = 1024
MAX_ERROR: Final = 200


class ArrowBatch(NamedTuple):
    """The rows of a body, and the text of its metadata for the service; "" if it has none."""

    rows: ColumnRows
    metadata: bytes


class Limits(NamedTuple):
    """Limits of a body: rows, and bytes of its decoded columns."""

    max_rows: int
    max_bytes: int


def rows_from_arrow(body: bytes, schema: Schema, limits: Limits) -> ArrowBatch:
    """Return the rows of a body in Arrow's IPC stream format, with one column for each feature.

    Raises:
        MalformedRequestError: it has another format, compressed buffers, or columns that rows cannot have.
        RequestTooLargeError: a limit is exceeded.
    """
    if body.startswith(b"ARROW1"):
        raise MalformedRequestError("the body is in Arrow's file format; send the IPC stream format")
    try:
        for message in pyarrow.ipc.MessageReader.open_stream(body):
            if has_compressed_buffers(bytes(message.metadata)):
                raise MalformedRequestError(
                    "the Arrow stream has compressed buffers; compress the whole body instead (Content-Encoding)"
                )
        with pyarrow.ipc.open_stream(body) as stream:
            _check_columns(stream.schema, schema)
            return _read(stream, stream.schema, schema, limits)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _malformed("an Arrow IPC stream", error) from None


def rows_from_parquet(body: bytes, schema: Schema, limits: Limits) -> ArrowBatch:
    """Return the rows of a Parquet file, with one column for each feature.

    Raises:
        MalformedRequestError: it is not Parquet, or has columns that rows cannot have.
        RequestTooLargeError: a limit is exceeded.
    """
    try:
        source = pa.BufferReader(body)
        metadata = pyarrow.parquet.read_metadata(source)
        stored = metadata.schema.to_arrow_schema()
        _check_columns(stored, schema)
        # Texts stay dictionaries: as plain values, a repeated text would exist once for each row.
        texts = [field.name for field in stored if pa.types.is_string(field.type)]
        with pyarrow.parquet.ParquetFile(source, metadata=metadata, read_dictionary=texts) as file:
            _check_columns(file.schema_arrow, schema)
            # The metadata of a column are not read here: pyarrow ends the process if they contradict the schema.
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            declared = sum(group.total_byte_size for group in groups)
            _check_size(file.metadata.num_rows, declared, limits)
            return _read(file.iter_batches(PARQUET_BATCH_ROWS), file.schema_arrow, schema, limits)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _malformed("Parquet", error) from None


def _malformed(expected: str, error: Exception) -> MalformedRequestError:
    return MalformedRequestError(f"the body is not {expected}: {truncate(str(error), MAX_ERROR)}")


def _read(batches: Iterable[pa.RecordBatch], source: pa.Schema, schema: Schema, limits: Limits) -> ArrowBatch:
    features = {feature.name: feature for feature in schema.features}
    columns: dict[str, list[object]] = {name: [] for name in source.names}
    n_rows = n_bytes = 0
    for batch in batches:
        n_rows += batch.num_rows
        _check_size(n_rows, n_bytes, limits)
        batch.validate(full=True)  # before anything depends on offsets
        n_bytes += batch.nbytes
        _check_size(n_rows, n_bytes, limits)
        for name, column in zip(source.names, batch.columns, strict=True):
            columns[name] += _convert(column, features.get(name))
    return ArrowBatch(ColumnRows(columns, n_rows), (source.metadata or {}).get(METADATA_KEY, b""))


def _check_size(n_rows: int, n_bytes: int, limits: Limits) -> None:
    if n_rows > limits.max_rows:
        limit = f"the limit is {limits.max_rows} (MODELTRACE_MAX_BATCH_ROWS)"
        raise RequestTooLargeError(f"the batch has {n_rows} rows or more, {limit}")
    if n_bytes > limits.max_bytes:
        raise RequestTooLargeError(f"the decoded columns exceed {limits.max_bytes} bytes (MODELTRACE_MAX_BODY_BYTES)")


def _check_columns(source: pa.Schema, schema: Schema) -> None:
    if len(source.names) > len(schema.names) + MAX_UNKNOWN_FEATURES:
        raise MalformedRequestError(f"the body has {len(source.names)} columns, the model has {len(schema.names)}")
    if len(set(source.names)) != len(source.names):
        raise MalformedRequestError("two columns have the same name")
    for field in source:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_supported(kind) for is_supported in _SUPPORTED):
            raise MalformedRequestError(
                f'the column "{field.name[:MAX_NAME]}" has the type {str(field.type)[:MAX_NAME]}; send numbers, '
                "booleans, texts or times"
            )
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        if zone is not None and not _is_known_zone(zone):
            raise MalformedRequestError(
                f'the column "{field.name[:MAX_NAME]}" has the unknown time zone {zone[:MAX_NAME]!r}; send a name of '
                "the IANA database, such as Europe/Berlin, or an offset, such as +01:00"
            )


def _is_known_zone(name: str) -> bool:
    try:
        pa.lib.string_to_tzinfo(name)
    except (pa.ArrowException, ValueError, KeyError, OSError):
        return False
    return True


_SUPPORTED: Final = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal,
    pa.types.is_string, pa.types.is_large_string, pa.types.is_date, pa.types.is_time, pa.types.is_timestamp,
    pa.types.is_duration,
)  # fmt: skip


def _convert(column: pa.Array, feature: Feature | None) -> list[object]:
    """Return the values of a column as a JSON body would have them for a feature."""
    if isinstance(column, pa.DictionaryArray):
        levels = _convert(column.dictionary, feature)
        return [None if index is None else levels[index] for index in column.indices.to_pylist()]
    kind = column.type
    values: list[object] = column.to_pylist()
    plain = pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if feature is None:
        return [to_json_value(value) for value in values]
    if feature.level_kind is None and feature.type != "boolean":
        if plain:
            return values
        if pa.types.is_floating(kind):
            return [None if value != value else value for value in values]
    convert = converter(feature, "parquet")
    return [convert(value) for value in values]


def encode_results(
    outcomes: Sequence[Prediction | InvalidFeaturesError],
    external_ids: ByRow[str | None] | None,
    model: Model,
    metadata: Mapping[str, str],
    *,
    details: bool,
) -> bytes:
    """Return results as an Arrow IPC stream: one row for each outcome, with the column names of `modeltrace score`.

    `metadata` are those of the schema.
    """
    predictions = [outcome if isinstance(outcome, Prediction) else None for outcome in outcomes]
    errors = [outcome if isinstance(outcome, InvalidFeaturesError) else None for outcome in outcomes]
    outputs = [prediction and prediction.output for prediction in predictions]
    columns: dict[str, pa.Array] = {"prediction_id": _texts(each.id if each else None for each in predictions)}
    if external_ids is not None:
        columns["id"] = _texts(external_ids[index] for index in range(len(outcomes)))
    if model.task == "regressor":
        columns["value"] = pa.array([output and output.value for output in outputs], pa.float64())
    if model.classes is not None:
        columns["label"] = _labels([output and output.label for output in outputs], model.classes)
    if model.can_have_probabilities:
        columns["confidence"] = pa.array([output and output.confidence for output in outputs], pa.float64())
    for index, named in enumerate(model.outputs):
        values = [output.outputs[index] if output and output.outputs else None for output in outputs]
        columns[f"output_{named.name}"] = _labels(values, named.classes or (0.0,))
    if details and model.interval:
        bounds = [output.interval if output else None for output in outputs]
        for index, name in enumerate(INTERVAL_COLUMNS):
            columns[name] = pa.array([pair[index] if pair else None for pair in bounds], pa.float64())
    elif details:
        rows = [output.probabilities if output else None for output in outputs]
        for index, name in enumerate(model.class_names):
            columns[f"probability_{name}"] = pa.array([row[index] if row else None for row in rows], pa.float64())
    first = [error.violations[0] if error else None for error in errors]
    columns["error"] = _texts(str(each) if each else None for each in errors)
    columns["error_column"] = _texts((each.feature or None) if each else None for each in first)
    columns["error_reason"] = _texts(each.reason if each else None for each in first)
    table = pa.table(columns).replace_schema_metadata(dict(metadata))
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _labels(labels: Sequence[Any], classes: Sequence[Label]) -> pa.Array:
    """Return a column with the type of the classes: text if they have several types."""
    kinds = {type(label) for label in classes}
    if len(kinds) == 1 and kinds != {str}:
        return pa.array(labels, {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kinds.pop()])
    return _texts(None if label is None else str(label) for label in labels)


def _texts(values: Iterable[str | None]) -> pa.Array:
    return pa.array([*values], pa.string())
