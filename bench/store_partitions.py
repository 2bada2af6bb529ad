"""What partitions by day cost and save in a PostgreSQL store: inserts, metrics of a week, and deletion of a day.

Equal numbers of rows are written to two databases, one of which has partitions: predictions of 30 feature values over
eight days, half of them with a label. Then the metrics of the last seven days are computed, from a copy in DuckDB as
`modeltrace evaluate` does and in PostgreSQL, and the first day is deleted: by row and with VACUUM in one database, by
dropping its partition in the other. `ratio` is the insert time with partitions divided by that without.

Rows come from SQL, except those of the insert measurement, which are written as the sidecar does: 2,048 in a
transaction. `--server` is the URL of a PostgreSQL server on which the user may create databases.
"""

import os
import secrets
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from bench.command import format_load_average, make_parser, print_as
from bench.evaluation import INPUTS
from bench.prediction_store import is_close, timed, vacuum
from modeltrace.cli.store import open_metrics_store
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.render import to_json
from modeltrace.store.rows import Row
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from modeltrace.store.writer import MAX_TRANSACTION_ROWS

DAY_NS: Final = 86_400 * 10**9
FIRST_DAY: Final = 20_000
DAYS: Final = 8
PREDICTIONS: Final = """
    INSERT INTO predictions (prediction_id, time, row, sampled, model_name, model_version, model_hash, code_version,
        inputs, label, confidence, synthetic, probabilities{column})
    SELECT repeat(md5(n::text), 2), time, 0, true, 'bench', '1', repeat('f', 64), '0', %(inputs)s,
        CASE WHEN p > 0.5 THEN '"malignant"' ELSE '"benign"' END, greatest(p, 1 - p), false,
        format('[["benign",%%s],["malignant",%%s]]', 1 - p, p){value}
    FROM (
        SELECT n, %(start)s + n::bigint * %(step)s AS time, random() AS p FROM generate_series(0, %(rows)s - 1) n
    ) AS numbers
"""
LABELS: Final = """
    INSERT INTO labels (prediction_id, label, received, prediction_time)
    SELECT prediction_id, CASE WHEN random() > 0.5 THEN '"malignant"' ELSE '"benign"' END, time + 1000000000, time
    FROM predictions WHERE right(prediction_id, 1) < '8'
"""


def make_rows(number: int, day: int) -> list[Row]:
    """Return predictions of one day with different IDs."""
    sampled = True
    return [
        Row(
            secrets.token_hex(32), day * DAY_NS + index, None, None, 0, sampled, "bench", "1", "f" * 64, "0", INPUTS,
            '"benign"', None, 0.75, probabilities='[["benign",0.75],["malignant",0.25]]',
        )
        for index in range(number)
    ]  # fmt: skip


def measure(url: str, rows: int, *, partitioned: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the seconds of each step, and the metrics of the week."""
    seconds: dict[str, float] = {}
    with open_store(url) as store:
        if partitioned:
            store.partition(FIRST_DAY * DAY_NS)
            store.add_predictions([make_rows(1, day)[0] for day in range(FIRST_DAY, FIRST_DAY + DAYS)])
        fill(store, rows, partitioned=partitioned)
        inserted = make_rows(max(rows // 20, 1), FIRST_DAY + DAYS)
        with timed(seconds, "insert"):
            for start in range(0, len(inserted), MAX_TRANSACTION_ROWS):
                store.add_predictions(inserted[start : start + MAX_TRANSACTION_ROWS])
        week = Selection((FIRST_DAY + 1) * DAY_NS, (FIRST_DAY + DAYS) * DAY_NS)
        with timed(seconds, "evaluate a week in PostgreSQL"):
            (expected,) = map(to_json, evaluate(store, week))
        with timed(seconds, "evaluate a week from a copy"), open_metrics_store(store, week) as copy:
            (computed,) = map(to_json, evaluate(copy, week))
        if not is_close(computed, expected):
            raise SystemExit("the metrics of the copy differ from those of the store")
        with timed(seconds, "delete a day"):
            more = True
            while more:
                _, more = store.delete_before((FIRST_DAY + 1) * DAY_NS)
            vacuum(store)
    return seconds, {"inserted": len(inserted), "predictions": computed["predictions"]}


def fill(store: Store, rows: int, *, partitioned: bool) -> None:
    """Add rows of all days with SQL."""
    values = {
        "inputs": INPUTS, "start": FIRST_DAY * DAY_NS, "step": DAYS * DAY_NS // rows, "rows": rows, "day": DAY_NS,
    }  # fmt: skip
    statement = PREDICTIONS.format(
        column=", day" if partitioned else "", value=", (time / %(day)s)::integer" if partitioned else ""
    )
    dsn = store.location.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode(), values)
        connection.execute(LABELS)
        connection.execute("VACUUM ANALYZE")


def run(server: str, rows: int) -> dict[str, Any]:
    """Measure both databases, which are deleted afterwards."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    results = {}
    for name, partitioned in (("one table", False), ("partitions", True)):
        database = f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}".encode())
        try:
            target = url.set(database=database).render_as_string(hide_password=False)
            results[name], counts = measure(target, rows, partitioned=partitioned)
        finally:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {database}".encode())
    return {
        "ratio": round(results["partitions"]["insert"] / max(results["one table"]["insert"], 0.01), 2),
        "rows": rows,
        **counts,
        "seconds": results,
        "load_average": os.getloadavg(),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console()
    names = list(result["seconds"])
    table = Table("step", *(f"{name}, s" for name in names), title=f"{result['rows']:,} predictions in eight days")
    for step in result["seconds"][names[0]]:
        table.add_row(step, *(f"{result['seconds'][name][step]:,}" for name in names))
    console.print(table)
    console.print(f"{result['inserted']:,} rows inserted; insert time with partitions / without: {result['ratio']}")
    console.print(format_load_average(result))


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="number of predictions (default: 200,000)")
    parser.add_argument("--server", metavar="URL", required=True, help="a database of a PostgreSQL server")
    arguments = parser.parse_args()
    print_as(run(arguments.server, arguments.rows), print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
