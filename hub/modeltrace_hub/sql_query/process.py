"""The process that runs one query. It has no access to the database of the hub, to files or to the network.

The parent process sends the query, this process answers with the columns that the query reads, the parent sends their
rows, and this process answers with the result. Rows are sent as Arrow IPC streams, everything else as lines of JSON.

The query is text of a user, and functions such as `repeat` allocate memory that the memory limit of DuckDB does not
count. The limits of the operating system for this process therefore apply, and the parent can end it at any time.
"""

import os
import resource
import sys
from typing import Any, BinaryIO, Final

# The parent ends this process at its time limit. If the parent is killed before, this limit of CPU time applies.
CPU_TIMES: Final = 3
THREADS: Final = 2


def main() -> None:
    """Run one query: requests on standard input, responses on standard output."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    import orjson  # noqa: PLC0415  the limits apply first to what is imported

    request = orjson.loads(source.readline())
    resource.setrlimit(resource.RLIMIT_AS, (request["process_bytes"], request["process_bytes"]))
    cpu_seconds = CPU_TIMES * int(request["timeout"] + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _run(request, source, target)
    except MemoryError:
        _write_line(target, {"error": "memory", "message": ""})


def _run(request: dict[str, Any], source: BinaryIO, target: BinaryIO) -> None:
    import duckdb  # noqa: PLC0415  see above
    import pyarrow as pa  # noqa: PLC0415  see above

    from modeltrace_hub.errors import InvalidQueryError  # noqa: PLC0415  see above
    from modeltrace_hub.sql_query.analysis import find_columns, find_equalities  # noqa: PLC0415  see above

    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{request['memory_bytes'] // 2**20}MiB",
            "threads": THREADS,
            "temp_directory": "",
            "python_enable_replacements": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
        },
    )
    try:
        columns = find_columns(connection, request["sql"], request["views"])
        equal = find_equalities(connection, request["sql"], request["views"])
        _write_line(target, {"columns": columns, "equal": equal})
        for view in columns:
            with pa.ipc.open_stream(source) as stream:
                connection.register(view, stream.read_all())
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        _write_result(connection, request, target)
    except InvalidQueryError as error:
        _write_line(target, {"error": "invalid", "message": str(error)})
    except pa.ArrowMemoryError:
        _write_line(target, {"error": "memory", "message": ""})
    except (duckdb.Error, OSError) as error:  # Arrow raises OSError for an error of DuckDB in a later batch
        kind = "memory" if "Out of Memory" in str(error) else "invalid"
        _write_line(target, {"error": kind, "message": str(error)})


def _write_result(connection: Any, request: dict[str, Any], target: BinaryIO) -> None:  # noqa: ANN401  duckdb's connection
    """Execute the query and write its result, cut after a number of rows or bytes."""
    import pyarrow as pa  # noqa: PLC0415  see above

    from modeltrace_hub.sql_query.casts import cast_times, cast_types  # noqa: PLC0415  see above

    relation = connection.sql(request["sql"])
    types = [str(type_) for type_ in relation.types]
    reader = cast_types(connection, request["sql"], relation).to_arrow_reader(1024)
    batches, rows, size, truncated = [], 0, 0, False
    for batch in reader:
        kept = batch.slice(0, request["max_rows"] - rows)
        if size + kept.nbytes > request["max_bytes"]:
            kept = kept.slice(0, int(kept.num_rows * (request["max_bytes"] - size) / kept.nbytes))
        truncated = kept.num_rows < batch.num_rows
        batches.append(kept)
        rows, size = rows + kept.num_rows, size + kept.nbytes
        if truncated:
            break
    table = cast_times(connection, pa.Table.from_batches(batches, reader.schema))
    _write_line(target, {"types": types, "truncated": truncated})
    with pa.ipc.new_stream(target, table.schema) as stream:
        stream.write_table(table)
    target.flush()


def _write_line(target: BinaryIO, content: object) -> None:
    import orjson  # noqa: PLC0415  see above

    target.write(orjson.dumps(content) + b"\n")
    target.flush()


if __name__ == "__main__":
    main()
