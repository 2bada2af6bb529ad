"""Export predictions to JSON Lines, CSV or Parquet, with one Parquet row group per chunk.

The values of `inputs`, `label`, `tags`, `probabilities`, `outputs` and `true_label` have different types. Parquet and
CSV contain them as JSON text, because a column has a single type there. In CSV, a missing value is an empty field, and
times have RFC 3339 format with nanoseconds.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Literal

from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import StoredPrediction, to_json

ExportFormat = Literal["parquet", "jsonl", "csv"]
SUFFIXES: Final[dict[str, ExportFormat]] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


class ExportError(ModeltraceError):
    """Predictions cannot be exported to a file."""


def format_from_suffix(path: Path) -> ExportFormat:
    """Return the format of a file by its suffix.

    Raises:
        ExportError: the suffix is unknown.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(f"{path}: unknown suffix; name the format with --format parquet, jsonl or csv")
    return SUFFIXES[path.suffix.lower()]


def export_predictions(
    chunks: Iterable[list[StoredPrediction]],
    path: Path,
    file_format: ExportFormat,
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Export all predictions, one chunk at a time.

    Args:
        chunks: the predictions.
        path: the file, which is replaced if it exists.
        file_format: the format of the file.
        on_progress: called after each chunk with the number of predictions written so far.

    Returns:
        The number of predictions.

    Raises:
        ExportError: the file cannot be written.
    """
    written = 0
    with replace_file(path) as file, _open_writer(file, file_format) as write:
        for chunk in chunks:
            write(chunk)
            written += len(chunk)
            on_progress(written)
    return written


@contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name, and rename it to `path` if the block ends without an error.

    Raises:
        ExportError: the file cannot be written. The incomplete file is removed.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            with open_private(part) as file:
                yield file
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from None


def open_private(path: Path) -> IO[bytes]:
    """Open a file for writing. Only the user can read it, because it contains inputs of predictions."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


@contextmanager
def _open_writer(file: IO[bytes], file_format: ExportFormat) -> Iterator[Callable[[list[StoredPrediction]], None]]:
    if file_format == "jsonl":
        yield lambda chunk: file.writelines(f"{to_json(prediction._asdict())}\n".encode() for prediction in chunk)
        return
    try:
        from modeltrace.store.arrow_writer import open_arrow_writer  # noqa: PLC0415  only these formats need the extra
    except ModuleNotFoundError:
        raise ExportError(
            "the formats csv and parquet need pyarrow: pip install 'modeltrace[arrow]', or export .jsonl"
        ) from None
    with open_arrow_writer(file, file_format) as write:
        yield write
