"""Metrics that are computed in DuckDB, from Parquet files or a copy of PostgreSQL, equal those of the store to 1e-9."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.prediction_store import is_close
from modeltrace.cli.main import app
from modeltrace.cli.store import open_metrics_store
from modeltrace.errors import StoreError, StoreUnavailableError
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.queries import METRIC_COLUMNS
from modeltrace.evaluation.render import to_json as metrics_to_json
from modeltrace.store.columnar_store import LABEL_COLUMNS
from modeltrace.store.day_files import DAY_NS, export_days, open_exported_store
from modeltrace.store.postgres_copy import open_postgres_copy
from modeltrace.store.rows import Row, StoredLabel, probabilities_to_json, to_json
from modeltrace.store.selection import ALL, Selection
from modeltrace.store.store import Store, open_store
from modeltrace.store.store_url import DUCKDB
from tests.helpers.factories import MODEL, stored_row
from tests.helpers.postgres import Postgres

START = 19_000 * DAY_NS
STEP = DAY_NS // 200
# Classes and, for some of them, an equal label with another JSON text.
CLASSES = {
    "text": (["benign", "malignant", "ünsure\u0000", ""], {}),
    "whole": ([0, 1, 2, -3], {1: 1.0}),
    "truth": ([False, True], {}),
}


def classifier_rows(version: str, rows: int = 300) -> Iterator[tuple[Row, StoredLabel | None]]:
    """Yield predictions with ties of scores, some without label, probabilities or confidence, and shadows of some."""
    classes, equal = CLASSES[version]
    rng = np.random.default_rng(len(version))
    for number in range(rows):
        scores = np.round(rng.dirichlet(np.ones(len(classes))), 2 if number % 3 else 6)
        index, true = int(scores.argmax()), classes[int(rng.integers(len(classes)))]
        row = stored_row(
            f"{version}-{number:05}", time=START + number * STEP, trace_id=f"{number:032x}",
            model=MODEL._replace(version=version), label=to_json(classes[index]),
            confidence=None if number % 11 == 0 else float(scores[index]), inputs=f'{{"size":{number % 5}.5}}',
            probabilities=None if number % 13 == 0 else probabilities_to_json(classes, scores.tolist()),
            tags=to_json({"country": "DE" if number % 2 else "FR"}),
        )  # fmt: skip
        delay = int(rng.integers(1, 10**13))
        label = StoredLabel(row.prediction_id, equal.get(true, true), row.time + delay, row.time)
        yield row, label if number % 4 else None
        if number % 50 == 1:
            shadow = stored_row(f"{row.prediction_id}-shadow", time=row.time + 7, model=MODEL._replace(version="next"))
            yield shadow._replace(shadow_of=row.prediction_id, label=to_json(classes[0])), None


def regressor_rows(rows: int = 300) -> Iterator[tuple[Row, StoredLabel | None]]:
    """Yield predictions of numbers, most with intervals; some labels are equal to them, zero, or not a number."""
    rng = np.random.default_rng(5)
    for number in range(rows):
        value = float(np.round(rng.normal(1000, 50), number % 4))
        true = {3: value, 5: 0, 7: "unknown"}.get(number % 20, float(np.round(value + rng.normal(3, 10), 1)))
        model = MODEL._replace(version="number")
        row = stored_row(
            f"n{number:05}", time=START + number * STEP, model=model, label=None, value=value,
            interval=(value - number % 9, value + number % 17, 0.8) if number % 5 else (),
        )  # fmt: skip
        yield row._replace(confidence=None), StoredLabel(row.prediction_id, true, row.time + number, row.time)


def detector_rows(rows: int = 300) -> Iterator[tuple[Row, StoredLabel | None]]:
    """Yield predictions of an outlier detector with ties of scores."""
    rng = np.random.default_rng(6)
    for number in range(rows):
        score = float(np.round(rng.normal(), 1 + number % 3))
        row = stored_row(
            f"o{number:05}", time=START + number * STEP, model=MODEL._replace(version="odd"), confidence=None,
            label="-1" if score < 0 else "1",
        )._replace(outputs=to_json({"score": score}))  # fmt: skip
        yield row, StoredLabel(row.prediction_id, int(rng.choice([-1, 1])), row.time + number, row.time)


def fill(store: Store) -> None:
    """Add the predictions of all models, and their labels."""
    entries = [*(entry for version in CLASSES for entry in classifier_rows(version)), *regressor_rows()]
    entries += detector_rows()
    store.add_predictions([row for row, _ in entries])
    store.add_labels([label for _, label in entries if label is not None])


def metrics(store: Store, selection: Selection = ALL) -> list[dict[str, Any]]:
    """Return all metrics, as `modeltrace evaluate --json` prints them."""
    results = evaluate(store, selection, locate_drifts=True)
    return list(json.loads(json.dumps([metrics_to_json(result) for result in results])))


def assert_has_no_inputs(copy: Store) -> None:
    """Without a column, a query of it is an error and does not find NULL."""
    with pytest.raises(StoreError, match="inputs"):
        copy.latest_inputs(ALL, 1)


def test_metrics_of_parquet_files_equal_those_of_sqlite(tmp_path: Path) -> None:
    """Each model, each metric; with all columns and with those for metrics alone."""
    with open_store(str(tmp_path / "s.db")) as store:
        fill(store)
        export_days(store.read(), str(tmp_path / "lake"), replace=False)
        expected = metrics(store)
    assert len(expected) == 6  # three classifiers, their shadows, the regressor and the outlier detector
    assert sum(bool((result.get("regression") or {}).get("intervals")) for result in expected) == 1
    assert sum(bool((result.get("classification") or {}).get("outlier_ranking")) for result in expected) == 1

    with open_exported_store(str(tmp_path / "lake"), None, None) as whole:
        assert is_close(metrics(whole), expected)
    with open_exported_store(str(tmp_path / "lake"), None, None, (*METRIC_COLUMNS, *LABEL_COLUMNS)) as narrow:
        assert is_close(metrics(narrow), expected)
        assert_has_no_inputs(narrow)


def test_rows_that_are_in_two_files_count_once(tmp_path: Path) -> None:
    """Files of overlapping exports in one folder change no metric."""
    with open_store(str(tmp_path / "s.db")) as store:
        fill(store)
        export_days(store.read(), str(tmp_path / "lake"), replace=False)
        (day, *_) = sorted((tmp_path / "lake").iterdir())
        (day / "again.parquet").write_bytes((day / "predictions.parquet").read_bytes())
        with open_exported_store(str(tmp_path / "lake"), None, None) as copy:
            assert copy.counts() == store.counts()
            assert is_close(metrics(copy), metrics(store))


@pytest.fixture
def postgres_store(postgres: Postgres) -> Iterator[Store]:
    """A filled store in PostgreSQL."""
    with open_store(postgres.url(postgres.create_database())) as store:
        fill(store)
        yield store


@pytest.mark.parametrize(
    "selection",
    [
        ALL,
        Selection(START + DAY_NS // 3, START + DAY_NS),
        Selection(model_version="text", tags=(("country", "DE"),)),
        Selection(model_version="next"),
    ],
    ids=["all", "time", "tag", "shadows"],
)
def test_metrics_of_a_copy_equal_those_of_postgresql(postgres_store: Store, selection: Selection) -> None:
    """The copy has the selected predictions and their labels, and no inputs."""
    expected = metrics(postgres_store, selection)

    with open_metrics_store(postgres_store, selection) as copy:
        assert copy.location.url.drivername == DUCKDB
        assert copy.counts().predictions == postgres_store.counts(selection).predictions
        assert expected
        assert is_close(metrics(copy, selection), expected)
        assert_has_no_inputs(copy)


def test_the_command_gives_the_metrics_of_postgresql(
    postgres_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With periods, and for the values of a feature, which are computed in PostgreSQL; no temporary file is left."""
    url = postgres_store.location.url.render_as_string(hide_password=False)
    monkeypatch.setenv("MODELTRACE_STORE", url)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def run(*options: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(app, ["evaluate", "--version", "text", *options, "--json"])
        assert result.exit_code == 0, result.output
        return list(json.loads(result.output))

    assert is_close(run(), metrics(postgres_store, Selection(model_version="text")))
    assert len(run("--over", "day")) == 2
    assert [row["segment"] for row in run("--by", "size")] == [{"size": f"{number}.5"} for number in range(5)]
    assert os.listdir(tmp_path) == []  # noqa: PTH208  the names


def test_a_copy_of_an_unavailable_database_is_an_error(postgres: Postgres) -> None:
    """The message names the database and has no password."""
    with open_store(postgres.url(postgres.create_database())) as store:
        location = store.location._replace(url=store.location.url.set(password="hunter2"))  # noqa: S106  a wrong one
        store.close()
        store._database.location = location  # type: ignore[misc]  # as if the password had changed
        with pytest.raises(StoreUnavailableError, match="the prediction store the PostgreSQL database") as error:
            open_postgres_copy(store, ALL, METRIC_COLUMNS).__enter__()

    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)
