"""What a large prediction store costs: inserts, disk space, evaluation, export by day, and retention.

The store is filled with predictions of 30 feature values, one per millisecond; half of them get a true label. Then the
metrics of all of them are computed in the database and in DuckDB from a copy, they are exported to one Parquet file per
day, and the metrics are computed again from these files (`modeltrace evaluate --from`). At last the oldest tenth is
deleted, as retention does, and PostgreSQL is vacuumed. `ratio` is the time of an evaluation of the files divided by
that of the store.

`--store` takes the URL of an empty PostgreSQL database. The default is SQLite in a temporary folder.
"""

import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from bench.command import format_load_average, make_parser, print_as
from bench.evaluation import fill_store
from modeltrace.cli.store import open_metrics_store
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.render import to_json
from modeltrace.store.day_files import export_days, open_exported_store
from modeltrace.store.selection import ALL
from modeltrace.store.store import Store, open_store


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the duration of the block to `seconds`."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 2)


def used_bytes(store: Store) -> int:
    """Return the size of the store's tables and indexes on disk."""
    if (file := store.location.file) is not None:  # and its write-ahead log
        return sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))
    with _connect(store) as connection:
        query = "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(ARRAY['predictions', 'labels']) AS name"
        (size,) = connection.execute(query).fetchone() or (0,)
    return int(size)


def vacuum(store: Store) -> None:
    """Let PostgreSQL make the space of deleted rows available again."""
    if store.location.file is None:
        with _connect(store) as connection:
            connection.execute("VACUUM predictions, labels")


def is_close(first: object, second: object) -> bool:
    """Return whether two values have equal JSON, except that numbers may differ by 1e-9 of their value or by 1e-12.

    Databases add up the same numbers in different orders. Where numbers cancel out, only the difference is small.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(is_close(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(is_close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)
    return first == second


def _to_json(store: Store) -> list[dict[str, Any]]:
    """Return the metrics of all predictions."""
    return [to_json(metrics) for metrics in evaluate(store, ALL)]


def _connect(store: Store) -> "psycopg.Connection[tuple[Any, ...]]":
    dsn = store.location.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(dsn, autocommit=True)


def run(url: str | None, rows: int) -> dict[str, Any]:
    """Run all steps."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, open_store(url or str(Path(folder, "predictions.db"))) as store:
        with timed(seconds, "insert"):
            fill_store(store, rows)
        counts = store.counts()
        if counts.predictions != rows:
            raise SystemExit(f"the store has {counts.predictions:,} predictions: use an empty one")
        size = used_bytes(store)
        with timed(seconds, "evaluate"):
            expected = _to_json(store)
        with timed(seconds, "evaluate a copy"), open_metrics_store(store, ALL) as copy:  # SQLite: the store itself
            equal = is_close(_to_json(copy), expected)
        lake = Path(folder, "lake")
        with timed(seconds, "export by day"):
            export_days(store.read(), str(lake), replace=False)
        exported = sum(path.stat().st_size for path in lake.rglob("*.parquet"))
        with timed(seconds, "evaluate the files"), open_exported_store(str(lake), None, None) as copy:
            equal = is_close(_to_json(copy), expected) and equal
        with timed(seconds, "delete a tenth"):
            cutoff = (counts.oldest or 0) + ((counts.latest or 0) - (counts.oldest or 0)) // 10
            more = True
            while more:
                _, more = store.delete_before(cutoff)
        with timed(seconds, "vacuum"):
            vacuum(store)
    return {
        "ratio": round(seconds["evaluate the files"] / seconds["evaluate"], 1),
        "store": "SQLite" if url is None else "PostgreSQL",
        "rows": rows,
        "equal_metrics": equal,
        "bytes_per_row": round(size / rows),
        "exported_bytes_per_row": round(exported / rows),
        "seconds": seconds,
        "rows_per_second": {name: round(rows / max(value, 0.01)) for name, value in seconds.items()},
        "load_average": os.getloadavg(),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console()
    table = Table("step", "seconds", "rows/s", title=f"{result['store']}, {result['rows']:,} predictions")
    for name, value in result["seconds"].items():
        table.add_row(name, f"{value:,}", f"{result['rows_per_second'][name]:,}")
    console.print(table)
    equal = "yes" if result["equal_metrics"] else "[red]no[/red]"
    sizes = f"{result['bytes_per_row']:,} in the store, {result['exported_bytes_per_row']:,} in Parquet"
    console.print(f"bytes per prediction: {sizes}; metrics of the files are equal: {equal}")
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="number of predictions (default: 100,000)")
    parser.add_argument("--store", metavar="URL", help="an empty PostgreSQL database (default: SQLite)")
    arguments = parser.parse_args()
    print_as(run(arguments.store, arguments.rows), print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
