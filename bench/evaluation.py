"""What it costs to compute the metrics of a model from the prediction store.

The store is filled with predictions of two classes, each with 30 feature values; half of them get a true label later.
The metrics are then computed in two ways: in the database, as the service does, and with scikit-learn after all rows
are read into memory. `ratio` is the time of the first way divided by the time of the second. `max_thread_delay_ms` is
the longest time that another thread of the process waited for the interpreter: a prediction would have waited as long.

`--store` takes the URL of a PostgreSQL database, which will be filled. The default is SQLite in a temporary folder.
"""

import json
import random
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, brier_score_loss, precision_recall_fscore_support

from bench.command import make_parser, print_as
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.store.rows import Row, StoredLabel, to_json
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store

CLASSES: Final = ("benign", "malignant")
INPUTS: Final = json.dumps({f"feature_{number}": 12.345678 for number in range(30)}, separators=(",", ":"))
ROWS_PER_INSERT: Final = 20_480
MILLISECOND: Final = 10**6
# Seconds that the observed thread sleeps before it needs the interpreter again.
TICK_INTERVAL: Final = 0.001


class Cost(NamedTuple):
    """The cost of one way to compute the metrics."""

    seconds: float
    cpu_seconds: float  # of this process; includes the work of SQLite, but not that of PostgreSQL
    memory_increase_mb: float  # increase of the peak memory
    max_thread_delay_ms: float
    accuracy: float | None


def fill_store(store: Store, number: int, seed: int = 0) -> None:
    """Store `number` predictions, one per millisecond. Half of them get a random true label."""
    rng = random.Random(seed)  # noqa: S311  not used for security
    for start in range(0, number, ROWS_PER_INSERT):
        rows = [_make_row(rng, index) for index in range(start, min(start + ROWS_PER_INSERT, number))]
        store.add_predictions(rows)
        labelled = [row for row in rows if rng.random() < 0.5]
        store.add_labels([
            StoredLabel(
                row.prediction_id, rng.choice(CLASSES), row.time + rng.randrange(10**6) * MILLISECOND, row.time
            )
            for row in labelled
        ])  # fmt: skip


def _make_row(rng: random.Random, index: int) -> Row:
    return Row(
        prediction_id=f"{rng.getrandbits(256):064x}",
        time=10**18 + index * MILLISECOND,
        trace_id=None,
        span_id=None,
        row=0,
        sampled=True,
        model_name="bench",
        model_version="1",
        model_hash="f" * 64,
        code_version="0",
        inputs=INPUTS,
        label=to_json(CLASSES[index % 2]),
        value=None,
        confidence=0.5 + rng.random() / 2,
    )


def evaluate_in_database(store: Store) -> float | None:
    """Compute the metrics in the database, as the service does. Return the accuracy for comparison."""
    (metrics,) = evaluate(store, Selection())
    return metrics.classification.accuracy if metrics.classification else None


def evaluate_with_sklearn(store: Store) -> float:
    """Compute the main metrics with scikit-learn from all labelled rows. Return the accuracy for comparison."""
    rows = [row for page in store.read() for row in page if row.true_label is not None]
    true_labels, predicted = [row.true_label == CLASSES[1] for row in rows], [row.label == CLASSES[1] for row in rows]
    probabilities = [row.confidence if row.label == CLASSES[1] else 1 - (row.confidence or 0) for row in rows]
    precision_recall_fscore_support(true_labels, predicted, labels=[False, True])
    brier_score_loss(true_labels, probabilities)
    return float(accuracy_score(true_labels, predicted))


@contextmanager
def _measure_thread_delay() -> Iterator[list[float]]:
    """Measure the longest delay, in seconds, of another thread that wakes up every millisecond."""
    stopped, max_delay = threading.Event(), [0.0]

    def tick() -> None:
        while not stopped.is_set():
            start = time.perf_counter()
            time.sleep(TICK_INTERVAL)
            max_delay[0] = max(max_delay[0], time.perf_counter() - start - TICK_INTERVAL)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield max_delay
    finally:
        stopped.set()
        thread.join()


def measure_cost(compute: Callable[[Store], float | None], store: Store) -> Cost:
    """Measure the cost of one way."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _measure_thread_delay() as max_delay:
        start, cpu = time.perf_counter(), time.process_time()
        accuracy = compute(store)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory_increase = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    return Cost(
        round(seconds, 2),
        round(cpu, 2),
        round(memory_increase, 1),
        round(max_delay[0] * 1000, 1),
        accuracy and round(accuracy, 9),
    )


def run(store_url: str, number: int, console: Console) -> dict[str, Any]:
    """Fill the store and compute the metrics in both ways."""
    with open_store(store_url) as store:
        start = time.perf_counter()
        fill_store(store, number)
        console.print(f"[dim]{number:,} predictions stored in {time.perf_counter() - start:.0f} s[/dim]")
        evaluate(store, Selection(until=1))  # exclude the first import of modules from the measurement
        in_database, with_sklearn = (
            measure_cost(evaluate_in_database, store),
            measure_cost(evaluate_with_sklearn, store),
        )
    return {
        "ratio": round(in_database.seconds / with_sklearn.seconds, 3),
        "rows": number,
        "store": "SQLite" if store.location.file else "PostgreSQL",
        "database": in_database._asdict(),
        "scikit-learn": with_sklearn._asdict(),
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    table = Table(
        f"{result['rows']:,} rows, {result['store']}",
        "s",
        "CPU s",
        "memory increase, MB",
        "max. thread delay, ms",
        "accuracy",
    )
    for way in ("database", "scikit-learn"):
        table.add_row(way, *(f"{value}" for value in result[way].values()))
    console = Console()
    console.print(table)
    console.print(f"ratio {result['ratio']} (seconds in the database / with scikit-learn)")


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="predictions in the store (default: 1,000,000)")
    parser.add_argument("--store", help="URL of a PostgreSQL database; existing rows are kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store_url = arguments.store or str(Path(folder) / "predictions.db")
        result = run(store_url, arguments.rows, Console(stderr=True))
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
