"""Metrics of random small stores are equal in SQLite, PostgreSQL, a copy of PostgreSQL and Parquet files.

The stores have ties of scores and errors, NULLs, equal times, negative zeros, times at the bounds of the selection,
shadows whose times are on the other side of a bound, and labels without a prediction. PostgreSQL sorts texts as in
English, as most of its databases do.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.prediction_store import is_close
from modeltrace.cli.store import open_metrics_store
from modeltrace.evaluation import queries
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.metrics import ResidualSums, TrueValueGroup, regression_metrics
from modeltrace.evaluation.render import to_json as metrics_to_json
from modeltrace.store.day_files import DAY_NS, export_days, open_exported_store
from modeltrace.store.rows import Row, StoredLabel, probabilities_to_json, to_json
from modeltrace.store.selection import ALL, Selection
from modeltrace.store.store import Store, open_store
from tests.helpers.factories import MODEL, stored_row
from tests.helpers.postgres import Postgres

pytestmark = pytest.mark.extended

SINCE = 19_000 * DAY_NS + 123_456
UNTIL = SINCE + 3600 * 10**9
WINDOW = Selection(SINCE, UNTIL)
# Times with ties, and on both sides of each bound; a label has the time to the millisecond.
TIMES = (SINCE - 1, SINCE, SINCE + 1, SINCE + 10**9, UNTIL - 1, UNTIL, UNTIL + 10**9)
NUMBERS = (0.0, -0.0, 0.1, 0.1 + 0.2, 1.0, 2.0, 3.0, 5.0, -1.0, 7.5, 1e-160, 1000.1)
SHARES = (0.0, -0.0, 1e-20, 0.1, 0.25, 0.5, 0.75, 0.9, 1 - 1e-16, 1.0)
CLASSES: dict[str, list[Any]] = {
    "two": ["no", "Ünsure"], "three": [0, 1, -2], "truth": [False, True], "number": [], "odd": [1, -1],
}  # fmt: skip
# Labels that are equal to a class but have other JSON, or that are no class.
OTHER_LABELS = (1.0, -2.0, True, False, "1", "", "unknown", -0.0, 10**20)


class Entry(NamedTuple):
    """A random prediction and its label."""

    model: str
    time: int
    predicted: int  # index of a class
    number: float  # value of a regressor, or score
    share: float | None  # probability of the first class, and confidence
    true: int | None  # index of a class
    other_label: Any  # instead of the class, if it is not None
    true_number: float
    width: float | None  # of the interval
    shadow_delay: int | None  # time between the prediction and that of its shadow


ENTRIES = st.builds(
    Entry,
    model=st.sampled_from(sorted(CLASSES)),
    time=st.sampled_from(TIMES),
    predicted=st.integers(0, 2),
    number=st.sampled_from(NUMBERS),
    share=st.none() | st.sampled_from(SHARES),
    true=st.none() | st.integers(0, 2),
    other_label=st.none() | st.none() | st.sampled_from(OTHER_LABELS),
    true_number=st.sampled_from(NUMBERS),
    width=st.none() | st.sampled_from((0.0, -0.0, 1.0, 3.0)),
    shadow_delay=st.none() | st.none() | st.sampled_from((-2 * 10**9, 0, 1, 2 * 10**9)),
)


def to_row(entry: Entry, prediction_id: str) -> Row:
    """Return the row of a prediction."""
    model, classes = MODEL._replace(version=entry.model), CLASSES[entry.model]
    if not classes:
        interval = () if entry.width is None else (entry.number - entry.width, entry.number + entry.width, 0.9)
        return stored_row(
            prediction_id, time=entry.time, model=model, label=None, value=entry.number, confidence=None,
            interval=interval,
        )  # fmt: skip
    label = to_json(classes[entry.predicted % len(classes)])
    row = stored_row(prediction_id, time=entry.time, model=model, label=label, confidence=entry.share)
    if entry.model == "odd":
        return row._replace(outputs=to_json({"score": entry.number}) if entry.share is not None else None)
    if entry.share is None:
        return row
    rest = (1 - entry.share) / (len(classes) - 1)
    scores = [entry.share, *[float("nan") if entry.width == 1.0 else rest] * (len(classes) - 1)]
    return row._replace(probabilities=probabilities_to_json(classes, scores))


def to_label(entry: Entry, prediction_id: str) -> StoredLabel | None:
    """Return the label of a prediction."""
    if entry.true is None:
        return None
    classes = CLASSES[entry.model]
    true = classes[entry.true % len(classes)] if classes else entry.true_number
    if entry.other_label is not None:
        true = entry.other_label
    received = entry.time + (entry.predicted - 1) * 10**9  # also before the prediction
    return StoredLabel(prediction_id, true, received, entry.time - entry.time % 10**6)


def fill(store: Store, entries: list[Entry]) -> None:
    """Add predictions, shadows and labels."""
    rows, labels = [], [StoredLabel("absent", "no", SINCE, SINCE - SINCE % 10**6)]
    for number, entry in enumerate(entries):
        # Bytes, languages and the order of insertion sort these IDs differently.
        prediction_id = f"{'aB-_Ab0'[number * 5 % 7]}{number:03}"
        rows.append(to_row(entry, prediction_id))
        if entry.shadow_delay is not None:
            shadow = to_row(entry._replace(predicted=entry.predicted + 1), f"shadow-{prediction_id}")
            rows.append(
                shadow._replace(
                    time=entry.time + entry.shadow_delay, shadow_of=prediction_id, model_version=f"{entry.model}-next"
                )
            )
        if label := to_label(entry, prediction_id):
            labels.append(label)
    store.add_predictions(rows)
    store.add_labels(labels)


def metrics(store: Store, selection: Selection) -> list[dict[str, Any]]:
    """Return all metrics, as `modeltrace evaluate --json` prints them."""
    results = evaluate(store, selection, locate_drifts=True)
    return list(json.loads(json.dumps([metrics_to_json(result) for result in results])))


def error_sequences(store: Store, selection: Selection) -> list[str | None]:
    """Return the errors of each model in order; concept drift depends on the order."""
    in_order = store.location.file is None
    texts = []
    for model, classes in CLASSES.items():
        error = queries.is_wrong(()) if classes else queries.relative_error(5.0)
        of_model = selection._replace(model_version=model)
        statement = queries.error_sequence(of_model, error, classifier=bool(classes), aggregates_in_order=in_order)
        ((text,),) = store.fetch_all(statement)
        texts.append(text)
    return texts


@pytest.fixture(scope="module")
def english_url(postgres: Postgres) -> str:
    """The URL of a database that sorts texts as in English."""
    name = "english"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'".encode())
    return postgres.url(name)


@pytest.fixture(scope="module")
def english_store(english_url: str) -> Iterator[Store]:
    """An empty store in PostgreSQL."""
    with open_store(english_url) as store:
        yield store


def clear(store: Store) -> None:
    """Delete all rows."""
    store.delete_before(2**62)
    assert store.counts().predictions == 0
    assert store.counts().labels == 0


def assert_equal(store: Store, selection: Selection, expected: tuple[Any, Any]) -> None:
    """Compare the metrics, and the order of errors."""
    assert error_sequences(store, selection) == expected[1]
    computed = metrics(store, selection)
    assert is_close(computed, expected[0]), (computed, expected[0])


# The error 1 is on the border of two levels, and the order of equal times is that of the IDs.
TIED = [Entry("number", SINCE, 0, number, None, 0, None, 0.0, None, None) for number in (1.0, 5.0, 5.0, 7.5, 0.0)]
# A primary prediction after the selection, and its shadow within.
SKEWED = [Entry("two", UNTIL + 10**9, 0, 0.0, 0.5, 1, None, 0.0, None, -2 * 10**9)]


@example(TIED, WINDOW)
@example(SKEWED, WINDOW)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(entries=st.lists(ENTRIES, min_size=1, max_size=60), selection=st.sampled_from([ALL, WINDOW]))
def test_metrics_are_equal_in_each_store(english_store: Store, entries: list[Entry], selection: Selection) -> None:
    """All metrics agree to 1e-9."""
    with TemporaryDirectory() as folder:
        with open_store(str(Path(folder, "s.db"))) as sqlite:
            fill(sqlite, entries)
            expected = metrics(sqlite, selection), error_sequences(sqlite, selection)
            export_days(sqlite.read(), str(Path(folder, "lake")), replace=False)
        with open_exported_store(str(Path(folder, "lake")), None, None) as lake:
            assert_equal(lake, selection, expected)
    clear(english_store)
    fill(english_store, entries)
    assert_equal(english_store, selection, expected)
    with open_metrics_store(english_store, selection) as copy:
        assert_equal(copy, selection, expected)


@pytest.mark.parametrize("label_squares", [0.0, 1e-49])
def test_equal_labels_have_no_spread(label_squares: float) -> None:
    """The sum of squares around a rounded mean may be 0 or not; R² is 0 in both cases."""
    sums = ResidualSums(3, 3.0, 3.0, label_squares, 0.0, 3.0, 30.0, 0)
    result = regression_metrics(sums, {0.5: 1.0}, (TrueValueGroup(0.1, 0.1, 3, 1.0, 1.0),), None)

    assert result is not None
    assert result.r2 == 0.0
