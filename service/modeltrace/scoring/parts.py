"""The partial result of a run, in a folder next to the result: it survives a kill, and the next run continues it.

    chunk ─► part-00000000.parquet ─┐
    chunk ─► part-00000001.parquet ─┼─► finish ─► result file, then the folder is removed
                                    │
    run.json: which input and model the parts belong to; its lock keeps a second process out

A part is written under another name and renamed, so it is complete or absent. Only the user can read the folder.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet

from modeltrace.scoring.config import PartialResultError, parts_folder
from modeltrace.store.export import open_private, replace_file
from modeltrace.tables.writer import open_writer, output_format

RUN_FILE: Final = "run.json"


class PartialResult:
    """The parts of a result that are complete."""

    def __init__(self, out: Path, folder: Path, schema: pa.Schema, parts: list[Path]) -> None:
        self._out = out
        self._folder = folder
        self._schema = schema
        self._parts = parts
        self.rows = sum(pyarrow.parquet.read_metadata(part).num_rows for part in parts)

    def append(self, table: pa.Table) -> None:
        """Write a table as the next part. When this returns, the part is on disk."""
        part = self._folder / f"part-{len(self._parts):08d}.parquet"
        temporary = part.with_suffix(".tmp")
        with open_private(temporary) as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(part)
        self._parts.append(part)
        self.rows += table.num_rows

    def finish(self) -> Iterator[pa.Table]:
        """Write the result file from the parts, yield each part when it is written, and remove the folder at the end.

        Raises:
            TableError: the format of the file cannot contain a value.
            ExportError: the file cannot be written.
        """
        with (
            replace_file(self._out) as file,
            open_writer(file, output_format(self._out), self._schema) as write,
        ):
            for part in self._parts:
                table = pyarrow.parquet.read_table(part, schema=self._schema)
                write(table)
                yield table
        shutil.rmtree(self._folder)


@contextmanager
def open_partial_result(
    out: Path, schema: pa.Schema, run: Mapping[str, Any], *, force: bool, restart: bool
) -> Iterator[PartialResult]:
    """Create a partial result, or continue one.

    Args:
        out: the result file.
        schema: the columns of the result.
        run: what determines the result: input, model and options, as JSON values.
        force: replace an existing result file.
        restart: discard an existing partial result.

    Raises:
        PartialResultError: another process writes it, it belongs to another run, the result file exists, or the folder
            cannot be written.
    """
    folder = parts_folder(out)
    try:
        if out.exists() and not force and not (folder / RUN_FILE).exists():
            raise PartialResultError(f"{out} exists already; --force replaces it")
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / RUN_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PartialResultError(f"{folder} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PartialResultError(f"another process is writing {out}") from None
        parts = sorted(folder.glob("part-*.parquet"))
        if restart:
            for part in parts:
                part.unlink()
            parts = []
        expected = json.dumps(run, sort_keys=True)
        if not parts:
            file.truncate()
            file.write(expected)
            file.flush()
            os.fsync(file.fileno())
        elif difference := _difference(file.read(), run):
            raise PartialResultError(
                f"{folder} contains {len(parts)} parts of an interrupted run with another {difference}. To discard "
                "them, add --restart"
            )
        yield PartialResult(out, folder, schema, parts)


def _difference(written: str, run: Mapping[str, Any]) -> str | None:
    """Return the first entry in which the interrupted run differs from this one; `None` if none does."""
    try:
        before = json.loads(written)
        return next((name for name in run if before.get(name) != run[name]), None)
    except (ValueError, AttributeError):
        return RUN_FILE
