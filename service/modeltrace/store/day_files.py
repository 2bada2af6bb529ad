"""Predictions as Parquet files, one per day (UTC), in a folder or in object storage.

The layout is that of Hive, ``date=2026-11-30/predictions.parquet``, which Spark, Trino and DuckDB read as a table with
the column `date`. The other columns are those of `modeltrace.store.export`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from modeltrace.store.arrow_writer import arrow_schema, to_columns
from modeltrace.store.columnar_store import open_columnar_store
from modeltrace.store.export import ExportError, open_private
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.store import Store

DAY_NS: Final = 86_400 * 10**9
FILE_NAME: Final = "predictions.parquet"
EXPORTED_COLUMNS: Final = StoredPrediction._fields
# Columns without which a Parquet file contains no predictions; an older release may lack others.
_REQUIRED_COLUMNS: Final = ("prediction_id", "time", "model_name")


def whole_days(since: int | None, until: int | None, now_ns: int) -> tuple[int | None, int]:
    """Extend a time range to the start of its first day, and end it at the start of its last day, at most today."""
    end = now_ns if until is None else min(until, now_ns)
    return None if since is None else since - since % DAY_NS, end - end % DAY_NS


def export_days(
    chunks: Iterable[list[StoredPrediction]],
    target: str,
    *,
    replace: bool,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write a file for each day. A file appears under its name when it is complete.

    Args:
        chunks: the predictions in order of time, all of each day.
        target: a folder, or a URI such as ``s3://bucket/folder``.
        replace: whether files that exist are replaced.
        on_progress: called with the number of predictions written so far.

    Returns:
        The number of predictions.

    Raises:
        ExportError: a file exists, or cannot be written. The files of earlier days are complete.
    """
    filesystem, root = _open_filesystem(target)
    written = 0
    with ExitStack() as stack:
        current, writer = -1, None
        for chunk in chunks:
            for day, rows in groupby(chunk, key=lambda prediction: prediction.time // DAY_NS):
                if day != current or writer is None:
                    stack.close()  # the file of the day before is complete
                    writer = stack.enter_context(_open_day(filesystem, root, day, replace=replace))
                    current = day
                part = list(rows)
                writer.write_table(pa.table(to_columns(part), schema=arrow_schema()))
                written += len(part)
            on_progress(written)
        stack.close()
    return written


@contextmanager
def _open_day(filesystem: fs.FileSystem, root: str, day: int, *, replace: bool) -> Iterator[pq.ParquetWriter]:
    """Yield a writer for the file of a day, which is copied to its place at the end of the block without an error."""
    folder = f"{root}/date={datetime.fromtimestamp(day * DAY_NS // 10**9, UTC):%Y-%m-%d}"
    path = f"{folder}/{FILE_NAME}"
    try:
        if not replace and filesystem.get_file_info(path).type != fs.FileType.NotFound:
            raise ExportError(f"{path} exists already; --force replaces it")
        with TemporaryDirectory(prefix="modeltrace-") as work:
            local = Path(work, FILE_NAME)
            with open_private(local) as file, pq.ParquetWriter(file, arrow_schema(), compression="zstd") as writer:
                yield writer
            _publish(filesystem, local, folder, path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from None


def _publish(filesystem: fs.FileSystem, local: Path, folder: str, path: str) -> None:
    """Copy a local file to its place. A reader sees the old file or the new one, not a part of it."""
    if not isinstance(filesystem, fs.LocalFileSystem):  # an object is visible when it is complete
        fs.copy_files(str(local), path, destination_filesystem=filesystem)
        return
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    part = Path(f"{path}.part")
    try:
        with local.open("rb") as source, open_private(part) as copy:
            while block := source.read(2**20):
                copy.write(block)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def open_exported_store(
    source: str, since: int | None, until: int | None, columns: Sequence[str] = EXPORTED_COLUMNS
) -> Iterator[Store]:
    """Load exported predictions and their labels into a temporary store, which is deleted at the end of the block.

    Args:
        source: a folder or a URI that `export_days` wrote, or a single Parquet file of `modeltrace audit export`.
        since: the earliest time, in nanoseconds since the epoch; earlier days are not read.
        until: the first time after the selection, in nanoseconds since the epoch; later days are not read.
        columns: the columns to read, among them those of labels.

    Raises:
        ExportError: the source cannot be read, or its files are no exported predictions.
    """
    # Times are nanoseconds since the epoch in a store.
    fields = [arrow_schema().field(name) for name in columns]
    schema = pa.schema([f.with_type(pa.int64()) if pa.types.is_timestamp(f.type) else f for f in fields])

    # DuckDB reports an error of the reader as text with a traceback, so the original error is stored.
    errors: list[Exception] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in _read_batches(source, since, until, columns):
                yield batch.cast(schema)
        except (ExportError, OSError, ValueError, pa.ArrowException) as error:
            errors.append(error)
            raise

    with ExitStack() as stack:
        try:
            store = stack.enter_context(
                open_columnar_store(
                    source,
                    lambda loader: loader.add_labelled(pa.RecordBatchReader.from_batches(schema, batches())),
                )
            )
        except (ExportError, OSError, pa.ArrowException, duckdb.Error) as error:
            raise _read_error(source, errors[0] if errors else error) from None
        yield store


def _read_error(source: str, error: Exception) -> ExportError:
    """Return the error of a source in one sentence."""
    if isinstance(error, ExportError):
        return error
    if isinstance(error, FileNotFoundError):
        return ExportError(f"cannot read {source}: it does not exist")
    return ExportError(f"cannot read {source}: {str(error).partition(chr(10))[0]}")


def _read_batches(
    source: str, since: int | None, until: int | None, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    filesystem, root = _open_filesystem(source)
    date = pa.schema([("date", pa.string())])
    partitioning = ds.partitioning(date, flavor="hive")
    # With a schema, only files of the range are opened, and a column that a file of an older release lacks is null.
    schema = pa.unify_schemas([arrow_schema(), date])
    dataset = ds.dataset(root, schema=schema, filesystem=filesystem, format="parquet", partitioning=partitioning)
    time = ds.field("time")
    conditions = [time >= _timestamp(since)] if since is not None else []
    conditions += [time < _timestamp(until)] if until is not None else []
    # A single file has no partition, so its date is null.
    conditions += [ds.field("date").is_null() | (ds.field("date") >= _date(since))] if since is not None else []
    conditions += [ds.field("date").is_null() | (ds.field("date") <= _date(until))] if until is not None else []
    condition = None
    for one in conditions:
        condition = one if condition is None else condition & one
    for fragment in dataset.get_fragments(condition):
        _check_columns(fragment)
        yield from fragment.to_batches(schema, columns=list(columns), filter=condition)


def _check_columns(fragment: ds.ParquetFileFragment) -> None:
    """Check that a file contains exported predictions.

    Raises:
        ExportError: it is not Parquet, or lacks the columns of a prediction.
    """
    try:
        names = fragment.physical_schema.names
    except pa.ArrowInvalid:
        raise ExportError(
            f"cannot read {fragment.path}: it is not a Parquet file, which modeltrace audit export writes"
        ) from None
    missing = [name for name in _REQUIRED_COLUMNS if name not in names]
    if missing:
        raise ExportError(f"{fragment.path} was not written by modeltrace audit export: no column {missing[0]}")


def _open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it.

    Raises:
        ExportError: the URI has an unknown scheme, or is invalid.
    """
    try:
        if "://" not in location:
            return fs.LocalFileSystem(), str(Path(location).resolve())
        filesystem, path = fs.FileSystem.from_uri(location)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ExportError(f"{location}: {str(error).partition(chr(10))[0]}") from None
    return filesystem, path.rstrip("/")


def _timestamp(nanoseconds: int) -> pa.Scalar:
    return pa.scalar(nanoseconds, pa.timestamp("ns", "UTC"))


def _date(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%d}"
