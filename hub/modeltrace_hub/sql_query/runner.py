"""Run queries of users: start a process for each one, send it the rows that the query reads, and read the result."""

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import IO, Any, Final

import orjson

from modeltrace_hub.durations import MAX_NS
from modeltrace_hub.errors import InvalidQueryError, QueryTimeoutError
from modeltrace_hub.sql_files import load_views
from modeltrace_hub.store import Store

logger = logging.getLogger(__name__)

MAX_QUERY_LENGTH: Final = 8000
MAX_ROWS: Final = 100_000
MAX_RESULT_BYTES: Final = 32 * 2**20
MAX_INPUT_BYTES: Final = 256 * 2**20
MEMORY_BYTES: Final = 512 * 2**20
PROCESS_BYTES: Final = 2 * 2**30  # address space: with the libraries, the rows and what DuckDB does not count
MAX_CONCURRENT: Final = 2
_ROWS_PER_BATCH: Final = 10_000
# How Python, the dynamic linker and the thread library report that the address space is used up.
_OUT_OF_MEMORY: Final = re.compile(r"MemoryError|bad_alloc|annot allocate|can't start new thread|failed to map segment")

_UNKNOWN_TABLE: Final = "Catalog Error: Table with name"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view or of a result, with its DuckDB type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of a query.

    Attributes:
        columns: the columns; names may repeat.
        table: a `pyarrow.Table` with the same columns.
        truncated: whether rows are missing, because of the limit of rows or bytes.
    """

    columns: list[Column]
    table: Any
    truncated: bool


@dataclass(slots=True)
class Cancellation:
    """Cancel a query from another thread."""

    _process: subprocess.Popen[bytes] | None = None
    _reason: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def reason(self) -> str | None:
        """Why the query was cancelled: `timeout` or `cancelled`; None if it was not."""
        return self._reason

    def cancel(self, reason: str = "cancelled") -> None:
        """End the process of the query, now or as soon as it starts."""
        with self._lock:
            self._reason = self._reason or reason
            if self._process is not None:
                self._process.kill()

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        """Set the process to end."""
        with self._lock:
            self._process = process
            if self._reason is not None:
                process.kill()


class SqlRunner:
    """Run queries over the views of hub/modeltrace_hub/sql/views. Thread-safe."""

    def __init__(self, store: Store, *, timeout: float = 10.0) -> None:
        self._store = store
        self._views = load_views()
        self.timeout = timeout

    @cached_property
    def views(self) -> Mapping[str, list[Column]]:
        """The columns of all views, by name."""
        with self._store.read() as cursor:
            return {
                name: [Column(row[0], row[1]) for row in cursor.execute(f"DESCRIBE {sql}").fetchall()]
                for name, sql in self._views.items()
            }

    def run(
        self,
        sql: str,
        *,
        since_ns: int = 0,
        until_ns: int = MAX_NS,
        max_rows: int = MAX_ROWS,
        cancellation: Cancellation | None = None,
    ) -> QueryResult:
        """Run one SELECT statement. The caller limits how many run at the same time, to `MAX_CONCURRENT`.

        Args:
            sql: the statement.
            since_ns: the views contain no rows before this time, in unix nanoseconds.
            until_ns: the views contain no rows after this time, in unix nanoseconds.
            max_rows: the result is cut after this number of rows.
            cancellation: cancels the query.

        Raises:
            InvalidQueryError: the text is not one valid SELECT statement, it needs too much memory, or pyarrow is not
                installed.
            QueryTimeoutError: the query took too long.
        """
        if find_spec("pyarrow") is None:
            raise InvalidQueryError(
                "SQL queries need pyarrow, which is not installed: pip install 'modeltrace[arrow]'."
            )
        if len(sql) > MAX_QUERY_LENGTH:
            raise InvalidQueryError(f"The query has more than {MAX_QUERY_LENGTH:,} characters.")
        cancellation = cancellation or Cancellation()
        timer = threading.Timer(self.timeout, cancellation.cancel, ["timeout"])
        timer.daemon = True
        try:
            with _start_process() as process:
                cancellation.attach(process)
                timer.start()
                return self._talk(process, cancellation, sql, since_ns, until_ns, max_rows)
        finally:
            timer.cancel()

    def _talk(
        self,
        process: subprocess.Popen[bytes],
        cancellation: Cancellation,
        sql: str,
        since_ns: int,
        until_ns: int,
        max_rows: int,
    ) -> QueryResult:
        """Send the query and its rows to the process, and return its result."""
        import pyarrow as pa  # noqa: PLC0415  only needed for a query

        source, target = process.stdout, process.stdin
        assert source is not None  # noqa: S101  pipes
        assert target is not None  # noqa: S101  pipes
        request = {
            "sql": sql,
            "views": {view: {column.name: column.type for column in columns} for view, columns in self.views.items()},
            "max_rows": max_rows,
            "max_bytes": MAX_RESULT_BYTES,
            "memory_bytes": MEMORY_BYTES,
            "process_bytes": PROCESS_BYTES,
            "timeout": self.timeout,
        }
        try:
            target.write(orjson.dumps(request) + b"\n")
            target.flush()
            needed = _read_line(source)
            self._send_rows(target, needed, since_ns, until_ns)
            result = _read_line(source)
            with pa.ipc.open_stream(source) as stream:
                table = stream.read_all()
        except InvalidQueryError as error:
            if str(error).startswith(_UNKNOWN_TABLE):
                raise InvalidQueryError(
                    f"{str(error).splitlines()[0]} The views are {', '.join(self._views)}."
                ) from None
            raise
        except (OSError, EOFError, pa.ArrowInvalid):
            # The process has ended.
            raise self._describe_end(process, cancellation) from None
        columns = [Column(name, type_) for name, type_ in zip(table.column_names, result["types"], strict=True)]
        return QueryResult(columns, table, result["truncated"])

    def _send_rows(self, target: IO[bytes], needed: Mapping[str, Any], since_ns: int, until_ns: int) -> None:
        """Send the rows of all views that the query reads.

        Args:
            target: the standard input of the process.
            needed: by view, the `columns`, and in `equal` the texts that columns must be equal to.
            since_ns: the earliest time.
            until_ns: the latest time.

        Raises:
            InvalidQueryError: the rows are too large.
        """
        import pyarrow as pa  # noqa: PLC0415  only needed for a query

        size = 0
        with self._store.read(self.timeout) as cursor:
            for view, columns in needed["columns"].items():
                equal = {name: text for name, text in needed["equal"].get(view, {}).items() if name in columns}
                conditions = "".join(f' AND "{name}" = ?' for name in equal)
                names = ", ".join(f'"{name}"' for name in columns)
                sql = f"SELECT {names} FROM ({self._views[view]}) WHERE time_ns BETWEEN ? AND ?{conditions}"  # noqa: S608  names of a view
                rows = cursor.sql(sql, params=[since_ns, until_ns, *equal.values()])
                # An open reader would keep the cursor in its transaction after an error.
                with (
                    closing(rows.to_arrow_reader(_ROWS_PER_BATCH)) as reader,
                    pa.ipc.new_stream(target, reader.schema) as stream,
                ):
                    for batch in reader:
                        size += batch.nbytes
                        if size > MAX_INPUT_BYTES:
                            raise _too_much_input()
                        stream.write_batch(batch)
                target.flush()

    def _describe_end(self, process: subprocess.Popen[bytes], cancellation: Cancellation) -> Exception:
        if cancellation.reason == "timeout":
            return QueryTimeoutError(
                f"The query took over {self.timeout:g} s. Select fewer rows, or a shorter time range (since, until)."
            )
        if cancellation.reason is not None:
            return QueryTimeoutError("The query was cancelled.")
        assert process.stderr is not None  # noqa: S101  a pipe
        trace = process.stderr.read().decode(errors="replace")
        # The limits of the operating system end the process with a signal, or an allocation fails.
        if process.wait() > 0 and not _OUT_OF_MEMORY.search(trace):
            logger.error("The process of a SQL query failed: %s", trace)
            return unexpected_error(trace.strip().rpartition("\n")[2].partition(":")[0])
        return _too_much_memory()


def unexpected_error(name: str) -> InvalidQueryError:
    """Return the error to answer for one that is a fault of the hub."""
    return InvalidQueryError(f"The hub cannot run this query ({name}). The log of the hub has the details.")


def _too_much_input() -> InvalidQueryError:
    return InvalidQueryError(
        f"The query reads more than {MAX_INPUT_BYTES // 2**20} MiB. Select fewer columns (attributes, events and "
        "resource are large), a shorter time range (since, until), or rows with column = 'text'."
    )


def _too_much_memory() -> InvalidQueryError:
    return InvalidQueryError(
        f"The query needs more than {MEMORY_BYTES // 2**20} MiB of memory. Select fewer rows or columns, or aggregate."
    )


def _read_line(source: IO[bytes]) -> dict[str, Any]:
    """Read a response of the process.

    Raises:
        InvalidQueryError: the response is an error.
        EOFError: the process has ended.
    """
    line = source.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    response: dict[str, Any] = orjson.loads(line)
    if response.get("error") == "memory":
        raise _too_much_memory()
    if "error" in response:
        raise InvalidQueryError(response["message"])
    return response


@contextmanager
def _start_process() -> Iterator[subprocess.Popen[bytes]]:
    """Start the process of a query, and end it after the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "modeltrace_hub.sql_query.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
        cwd="/",
    )
    try:
        yield process
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.wait()
