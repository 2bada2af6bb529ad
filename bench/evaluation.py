"""What it costs to compute a model's figures from the prediction store, once, over many predictions.

The store is filled with predictions of two classes, with inputs of the size that 30 features have; half of them get a
label, late. Then the figures are computed as the service does it, in the database, and, for comparison, as one would do
it elsewhere: every row is read and handed to scikit-learn. `ratio` is the seconds of the first over those of the
second. `others_waited` says how long another thread of the process waited for the interpreter at most: a prediction
would have.

`--store` takes a PostgreSQL address of a database that may be filled; without it, SQLite in a temporary folder.
"""

import argparse
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

from modeltrace.evaluation.evaluate import evaluate
from modeltrace.store.rows import Row, StoredLabel, to_json
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store

CLASSES: Final = ("benign", "malignant")
INPUTS: Final = json.dumps({f"feature_{number}": 12.345678 for number in range(30)}, separators=(",", ":"))
ROWS_PER_INSERT: Final = 20_480
MILLISECOND: Final = 10**6
# Seconds between two looks of the thread that waits for the interpreter.
TICK: Final = 0.001


class Cost(NamedTuple):
    """Of one way to compute the figures."""

    seconds: float
    cpu_seconds: float  # of this process: SQLite's work is in it, PostgreSQL's is not
    memory_increase_mb: float  # by how much the peak of memory rose
    max_thread_delay_ms: float
    accuracy: float | None


def fill_store(store: Store, number: int, seed: int = 0) -> None:
    """So many predictions, a millisecond apart; half of them with a label that is right in half of the cases."""
    drawn = random.Random(seed)  # noqa: S311  nothing secret
    for start in range(0, number, ROWS_PER_INSERT):
        rows = [_make_row(drawn, place) for place in range(start, min(start + ROWS_PER_INSERT, number))]
        store.add_predictions(rows)
        labelled = [row for row in rows if drawn.random() < 0.5]
        store.add_labels([
            StoredLabel(
                row.prediction_id, drawn.choice(CLASSES), row.time + drawn.randrange(10**6) * MILLISECOND, row.time
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
    """The figures as the service computes them; the accuracy, to compare."""
    (figures,) = evaluate(store, Selection())
    return figures.classification.accuracy if figures.classification else None


def evaluate_with_sklearn(store: Store) -> float:
    """The main ones of them from all labelled rows, read into memory."""
    rows = [row for page in store.read() for row in page if row.true_label is not None]
    truth, said = [row.true_label == CLASSES[1] for row in rows], [row.label == CLASSES[1] for row in rows]
    surely = [row.confidence if row.label == CLASSES[1] else 1 - (row.confidence or 0) for row in rows]
    precision_recall_fscore_support(truth, said, labels=[False, True])
    brier_score_loss(truth, surely)
    return float(accuracy_score(truth, said))


@contextmanager
def _measure_thread_delay() -> Iterator[list[float]]:
    """Another thread that wants to go on every millisecond; how late it was, in seconds, at most."""
    ended, worst = threading.Event(), [0.0]

    def tick() -> None:
        while not ended.is_set():
            begun = time.perf_counter()
            time.sleep(TICK)
            worst[0] = max(worst[0], time.perf_counter() - begun - TICK)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield worst
    finally:
        ended.set()
        thread.join()


def measure_cost(compute: Callable[[Store], float | None], store: Store) -> Cost:
    """What one way costs."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _measure_thread_delay() as worst:
        start, cpu = time.perf_counter(), time.process_time()
        accuracy = compute(store)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    return Cost(
        round(seconds, 2), round(cpu, 2), round(more, 1), round(worst[0] * 1000, 1), accuracy and round(accuracy, 9)
    )


def run(store_url: str, number: int, console: Console) -> dict[str, Any]:
    """Fill the store and compute both ways."""
    with open_store(store_url) as store:
        start = time.perf_counter()
        fill_store(store, number)
        console.print(f"[dim]{number:,} predictions stored in {time.perf_counter() - start:.0f} s[/dim]")
        evaluate(store, Selection(until=1))  # what is imported for the first time is not to be measured
        ours, theirs = measure_cost(evaluate_in_database, store), measure_cost(evaluate_with_sklearn, store)
    return {
        "ratio": round(ours.seconds / theirs.seconds, 3),
        "rows": number,
        "store": "SQLite" if store.location.file else "PostgreSQL",
        "in the database": ours._asdict(),
        "with scikit-learn": theirs._asdict(),
    }


def print_result(result: dict[str, Any]) -> None:
    """The result for people."""
    table = Table(
        f"{result['rows']:,} rows, {result['store']}", "s", "CPU s", "MB more", "others waited, ms", "accuracy"
    )
    for way in ("in the database", "with scikit-learn"):
        one = result[way]
        table.add_row(way, *(f"{figure}" for figure in one.values()))
    console = Console()
    console.print(table)
    console.print(f"ratio {result['ratio']} (seconds in the database / with scikit-learn)")


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--rows", type=int, default=1_000_000, help="predictions in the store (default: 1,000,000)")
    parser.add_argument("--store", help="a PostgreSQL address; what is in that database stays there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        said = arguments.store or str(Path(folder) / "predictions.db")
        result = run(said, arguments.rows, Console(stderr=True))
    print(json.dumps(result)) if arguments.json else print_result(result)


if __name__ == "__main__":
    main()
