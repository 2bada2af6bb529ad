"""Scoring with telemetry: each chunk is a trace, and each prediction is stored and accepts a label."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from modeltrace.errors import StoreError
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.scoring.config import ScoreConfig, parts_folder
from modeltrace.scoring.run import score_file
from modeltrace.scoring.telemetry import open_traced_scorer, traced_chunk_rows
from modeltrace.settings import read_settings
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.store import open_store
from tests.helpers.hubs import running_hub
from tests.helpers.mixed_model import FEATURES, MixedModel
from tests.helpers.processes import wait_until
from tests.helpers.services import ID_KEY, run_modeltrace


def stored(store: Path) -> dict[str, StoredPrediction]:
    """Return all stored predictions by ID."""
    with open_store(str(store), create=False) as opened:
        return {prediction.prediction_id: prediction for chunk in opened.read() for prediction in chunk}


@pytest.fixture
def file(mixed: MixedModel, tmp_path: Path) -> Path:
    """Twenty rows; the third is not valid."""
    table = mixed.table.head(20)
    return mixed.write(tmp_path / "rows.csv", table.assign(age=table.age.where(table.index != 2)))


@pytest.fixture
def _restored_loggers() -> Iterator[None]:
    """Restore what the scorer changes for its process."""
    loggers = [logging.getLogger(name) for name in ("opentelemetry", "modeltrace")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("_restored_loggers")
def test_predictions_are_stored(mixed: MixedModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has the inputs and the output of each predicted row, under the ID in the results."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    settings = read_settings(store=str(tmp_path / "s.db"), id_key=ID_KEY)
    config = ScoreConfig(file=file, out=tmp_path / "out.parquet", telemetry=True, probabilities=True, chunk_rows=7)

    with open_traced_scorer(settings, mixed.model, details=True) as scorer:
        score_file(config, mixed.model, scorer)

    results = pd.read_parquet(tmp_path / "out.parquet")
    predicted = results[results.error.isna()]
    predictions = stored(tmp_path / "s.db")
    assert predictions.keys() == {*predicted.prediction_id}
    assert len(predictions) == 19
    assert results.prediction_id.isna().tolist() == (results.row == 3).tolist()
    for row in predicted.itertuples():
        prediction = predictions[row.prediction_id]
        assert (prediction.row, prediction.label, prediction.confidence) == (row.row, row.label, row.confidence)
        assert row.confidence == max(row.probability_no, row.probability_yes)
        assert prediction.inputs is not None
        assert prediction.inputs["age"] == mixed.table.age[row.row - 1]
        assert list(prediction.inputs) == FEATURES
        assert PredictionIdSigner(ID_KEY.encode()).verify(row.prediction_id).output == row.label


@pytest.mark.usefixtures("_restored_loggers")
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_ids_and_tags_of_the_rows_are_stored(
    mixed: MixedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Each row has its own ID and tags; a row with an invalid one is reported, and the others are predicted."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    table = mixed.table.head(6).assign(
        order=[f"order-{number}" for number in range(4)] + ["two words", None],
        country=["DE", "FR", None, "x" * 65, "DE", "DE"],
        shop=[1, 2, None, 4, 5, 6],
    )
    file = mixed.write(tmp_path / f"rows.{suffix}", table)
    settings = read_settings(store=str(tmp_path / "s.db"), id_key=ID_KEY)
    config = ScoreConfig(
        file=file, out=tmp_path / "out.parquet", telemetry=True, id_column="order", tags=("shop", "country")
    )

    with open_traced_scorer(settings, mixed.model) as scorer:
        summary = score_file(config, mixed.model, scorer)

    rows = {row.row: (row.external_id, row.tags) for row in stored(tmp_path / "s.db").values()}
    shops = ["1.0", "2.0", "6.0"] if suffix == "csv" else ["1", "2", "6"]  # the text of the cell
    assert rows == {
        1: ("order-0", {"country": "DE", "shop": shops[0]}),
        2: ("order-1", {"country": "FR", "shop": shops[1]}),
        3: ("order-2", None),
        6: (None, {"country": "DE", "shop": shops[2]}),
    }
    assert summary.rejected == {("country", "invalid_tag"): 1, ("order", "invalid_id"): 1}
    assert [row.message for row in summary.examples] == [
        '"tags.country" must be a text of 1 to 64 characters, without control characters',
        '"order" must be a string of 1 to 128 visible ASCII characters, without spaces',
    ]


@pytest.mark.usefixtures("_restored_loggers")
def test_private_values_are_redacted(
    mixed: MixedModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store gets what the privacy rules allow, as from the service."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    features = tuple(
        feature.model_copy(update={"privacy": "drop"}) if feature.name == "income" else feature
        for feature in mixed.model.features
    )
    model = replace(mixed.model, schema=mixed.model.schema.model_copy(update={"features": features}))
    for cached in ("recorded_names", "has_private_features"):  # of the schema before, if a test has used them
        model.schema.__dict__.pop(cached, None)
    settings = read_settings(store=str(tmp_path / "s.db"), id_key=ID_KEY)

    with open_traced_scorer(settings, model) as scorer:
        score_file(ScoreConfig(file=file, out=tmp_path / "out.csv", telemetry=True), model, scorer)

    inputs = [prediction.inputs or {} for prediction in stored(tmp_path / "s.db").values()]
    assert len(inputs) == 19
    assert all("income" not in row and "age" in row for row in inputs)


def test_chunk_fits_into_the_queue_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK drops the log records that exceed its queue."""
    assert traced_chunk_rows(read_settings(), 4096) == 4096
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "500")
    assert traced_chunk_rows(read_settings(), 4096) == 500


@pytest.mark.usefixtures("_restored_loggers")
def test_store_that_cannot_be_written_ends_the_run(
    mixed: MixedModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row without its stored prediction is in the results; the next run continues."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    settings = read_settings(store=str(tmp_path / "s.db"), id_key=ID_KEY)
    config = ScoreConfig(file=file, out=tmp_path / "out.csv", telemetry=True, chunk_rows=7)
    with open_traced_scorer(settings, mixed.model) as scorer, monkeypatch.context() as patch:
        patch.setattr("modeltrace.store.store.Store.add_predictions", _fail)
        with pytest.raises(StoreError, match="full"):
            score_file(config, mixed.model, scorer)
    assert not [*parts_folder(config.out).glob("part-*")]

    with open_traced_scorer(settings, mixed.model) as scorer:
        assert score_file(config, mixed.model, scorer).predicted == 19
    assert len(stored(tmp_path / "s.db")) == 19


def _fail(*_: object) -> None:
    raise StoreError("the disk is full")


@pytest.mark.slow
def test_each_chunk_is_a_trace_in_the_hub(mixed: MixedModel, file: Path, tmp_path: Path) -> None:
    """The hub has the spans of the chunk, a log record per prediction and the features of the model."""
    out, store = tmp_path / "out.parquet", tmp_path / "s.db"
    with running_hub() as hub:
        done = run_modeltrace(
            "score", str(file), "--bundle", str(mixed.bundle), "--out", str(out), "--telemetry",
            OTEL_EXPORTER_OTLP_ENDPOINT=hub.otlp_url, MODELTRACE_STORE=str(store), MODELTRACE_ID_KEY=ID_KEY,
            MODELTRACE_FLUSH_TIMEOUT="60",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "not delivered" not in done.stderr
        results = pd.read_parquet(out)
        (trace_id,) = results.trace_id.dropna().unique()
        trace = wait_until(lambda: hub.trace(trace_id), description="the trace")

    spans = {span["name"]: span for span in trace["spans"]}
    assert spans.keys() == {"score", "validate", "features", "inference"}
    root = spans["score"]
    assert {span["parent_span_id"] for name, span in spans.items() if name != "score"} == {root["span_id"]}
    assert root["attributes"]["ml.model.name"] == "churn"
    assert root["attributes"]["ml.inference.batch.size"] == 20
    assert root["attributes"]["ml.inference.batch.rejected"] == 1
    assert not [name for name in root["attributes"] if name.startswith("http.")]
    assert {row["attributes"]["ml.prediction.id"] for row in trace["predictions"]} == {*results.prediction_id.dropna()}
    assert {row.trace_id for row in stored(store).values()} == {trace_id}
