"""What `modeltrace evaluate` costs for millions of predictions, in a PostgreSQL store and in Parquet files.

The predictions are of two classes, with 30 feature values, a trace ID and probabilities; half of them have a label.
They are those of ten days. Rows come from SQL, once: the next run finds them and only measures.

`--store` takes the URL of a PostgreSQL database, and `--parquet` a folder; without one of them, it is not measured.
The CPU seconds are those of the command, without those of the PostgreSQL server.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import duckdb
import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from bench.command import format_load_average, make_parser, print_as
from bench.evaluation import INPUTS
from modeltrace.store.arrow_writer import arrow_schema
from modeltrace.store.day_files import FILE_NAME
from modeltrace.store.store import open_store

DAY_NS: Final = 86_400 * 10**9
FIRST_DAY: Final = 20_000
DAYS: Final = 10
_PREDICTIONS: Final = """
    INSERT INTO predictions (prediction_id, time, trace_id, span_id, row, sampled, model_name, model_version,
        model_hash, code_version, inputs, label, confidence, synthetic, probabilities)
    SELECT md5(n::text) || md5('i' || n), time, md5('t' || n), left(md5('s' || n), 16), 0, true, 'bench', '1',
        repeat('f', 64), '0', %(inputs)s, CASE WHEN p > 0.5 THEN '"malignant"' ELSE '"benign"' END,
        greatest(p, 1 - p), false, format('[["benign",%%s],["malignant",%%s]]', 1 - p, p)
    FROM (
        SELECT n, %(start)s + n::bigint * %(step)s AS time, random() AS p FROM generate_series(0, %(rows)s - 1) n
    ) AS numbers
"""
_LABELS: Final = """
    INSERT INTO labels (prediction_id, label, received, prediction_time)
    SELECT prediction_id, CASE WHEN random() > 0.5 THEN '"malignant"' ELSE '"benign"' END,
        time + (random() * 1e15)::bigint, time
    FROM predictions WHERE right(prediction_id, 1) < '8'
"""
# The columns of a file of `modeltrace audit export`; those that are not named here are NULL.
_EXPORTED: Final = {
    "prediction_id": "md5(n::text) || md5('i' || n)",
    "time": "time",
    "trace_id": "md5('t' || n)",
    "span_id": "left(md5('s' || n), 16)",
    "row": "0",
    "sampled": "true",
    "model_name": "'bench'",
    "model_version": "'1'",
    "model_hash": "repeat('f', 64)",
    "code_version": "'0'",
    "inputs": f"'{INPUTS}'",
    "label": """CASE WHEN p > 0.5 THEN '"malignant"' ELSE '"benign"' END""",
    "confidence": "greatest(p, 1 - p)",
    "synthetic": "false",
    "probabilities": """'[["benign",' || (1 - p) || '],["malignant",' || p || ']]'""",
    "true_label": """CASE WHEN q < 0.25 THEN '"malignant"' WHEN q < 0.5 THEN '"benign"' END""",
    "received": "CASE WHEN q < 0.5 THEN time + to_seconds(q * 2e6) END",
}


def fill_postgres(url: str, rows: int) -> None:
    """Add rows to an empty store."""
    open_store(url).close()
    values = {"inputs": INPUTS, "start": FIRST_DAY * DAY_NS, "step": DAYS * DAY_NS // rows, "rows": rows}
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM predictions LIMIT 1").fetchone():
            return
        with connection.transaction():
            connection.execute(_PREDICTIONS, values)
            connection.execute(_LABELS)
        connection.execute("VACUUM ANALYZE")


def fill_parquet(folder: Path, rows: int) -> None:
    """Write a file for each day, with the columns of `modeltrace audit export`."""
    columns = ", ".join(
        f"CAST({_EXPORTED.get(field.name, 'NULL')} AS {_sql_type(str(field.type))}) AS {field.name}"
        for field in arrow_schema()
    )
    with duckdb.connect() as connection:
        for day in range(DAYS):
            start, end = (rows * index // DAYS for index in (day, day + 1))
            name = f"date={time.strftime('%Y-%m-%d', time.gmtime((FIRST_DAY + day) * 86_400))}"
            file = folder / name / FILE_NAME
            if file.exists():
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            connection.execute(
                f"COPY (SELECT {columns} FROM (SELECT n, random() AS p, random() AS q, "  # noqa: S608  own texts
                f"make_timestamp_ns({FIRST_DAY * DAY_NS} + n * {DAYS * DAY_NS // rows}) AS time "
                f"FROM range({start}, {end}) AS numbers(n))) TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
            )


def _sql_type(arrow_type: str) -> str:
    names = {"bool": "BOOLEAN", "int32": "INTEGER", "double": "DOUBLE", "string": "VARCHAR"}
    return names.get(arrow_type, "TIMESTAMP_NS")


def measure(arguments: list[str], store_url: str) -> dict[str, Any]:
    """Run `modeltrace evaluate`; return its seconds, its CPU seconds, its memory and the number of predictions."""
    environment = {**os.environ, "MODELTRACE_STORE": store_url}
    command = [sys.executable, "-m", "modeltrace", "evaluate", "--json", *arguments]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    (metrics,) = json.loads(output)
    return {
        "predictions": metrics["predictions"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_memory_mb": round(after.ru_maxrss / 1024),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    table = Table("", "predictions", "s", "CPU s", "peak memory, MB")
    for source, cost in result["sources"].items():
        table.add_row(source, *(f"{value:,}" for value in cost.values()))
    console = Console()
    console.print(table)
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="predictions to make (default: 1,000,000)")
    parser.add_argument("--store", metavar="URL", help="URL of a PostgreSQL database; it is filled if it is empty")
    parser.add_argument("--parquet", metavar="FOLDER", type=Path, help="folder of Parquet files; filled if it is empty")
    parser.add_argument("--only-fill", action="store_true", help="make the predictions, and measure nothing")
    arguments = parser.parse_args()
    if arguments.store is None and arguments.parquet is None:
        parser.error("--store or --parquet is required")
    sources = {}
    if arguments.parquet:
        fill_parquet(arguments.parquet, arguments.rows)
        if not arguments.only_fill:
            sources["Parquet files"] = measure(["--from", str(arguments.parquet)], "none")
    if arguments.store:
        fill_postgres(arguments.store, arguments.rows)
        if not arguments.only_fill:
            sources["PostgreSQL"] = measure([], arguments.store)
    result = {"sources": sources, "load_average": os.getloadavg()}
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
