"""Prediction intervals are recorded with each prediction, and their coverage is evaluated."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import SecretStr
from scipy.stats import binomtest
from sklearn.linear_model import BayesianRidge, LinearRegression
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import app
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.interval_coverage import wilson_interval
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.scoring.config import ScoreConfig
from modeltrace.scoring.run import score_file
from modeltrace.scoring.telemetry import open_traced_scorer
from modeltrace.settings import read_settings
from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.store.export import export_predictions
from modeltrace.store.rows import Row, RowBuilder, StoredLabel, StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from modeltrace.telemetry.records.prediction import Origin
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, RecordDecoder, encode
from tests.helpers.factories import MODEL, TIME, stored_row
from tests.helpers.in_process_services import SdkService, records_service
from tests.helpers.services import ID_KEY, running_service

BOUNDS = ("ml.prediction.interval.low", "ml.prediction.interval.high", "ml.prediction.interval.level")
COLUMNS = ("interval_low", "interval_high", "interval_level")


def draw(rows: int, seed: int) -> tuple[pd.DataFrame, "pd.Series"]:
    """Return features and labels with noise."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(rows, 2)), columns=["a", "b"])
    return table, (3 * table.a - table.b + rng.normal(size=rows)).rename("y")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles with intervals of the same width, and with a predicted standard deviation."""
    folder, (rows, labels) = tmp_path_factory.mktemp("bundles"), draw(300, 0)
    estimators = {"residuals": LinearRegression(), "standard_deviation": BayesianRidge()}
    return {
        name: pack(estimator.fit(rows, labels), rows, labels, name="price", out=folder / name, interval_level=0.8)
        for name, estimator in estimators.items()
    }


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new store."""
    with open_store(store_url) as opened:
        yield opened


def all_rows(path: Path) -> list[StoredPrediction]:
    """Return the predictions of a store."""
    with open_store(str(path), create=False) as opened:
        return [row for page in opened.read() for row in page]


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("method", ["residuals", "standard_deviation"])
def test_each_path_records_the_interval_that_the_client_can_ask_for(
    record: Callable[..., SdkService], bundles: dict[str, Path], tmp_path: Path, method: str, *, batching: bool
) -> None:
    """The SDK, the sidecar's OTLP, its log lines and the store have the same bounds; the response has none."""
    model, rows = load_bundle(bundles[method]), draw(3, 1)[0].to_dict("records")
    sdk = record(model, store=SecretStr(str(tmp_path / "sdk.db")), batching=batching)
    for row in rows:
        assert "interval" not in sdk.client.post("/predict", json={"features": row}).json()
    with records_service(model, store=str(tmp_path / "s.db"), batching=batching) as service:
        body, ask = {"rows": [*rows, {}]}, {"interval": "true"}
        requested = service.client.post("/predict/batch", params=ask, json=body).json()["predictions"]
        not_requested = service.client.post("/predict/batch", json=body).json()["predictions"]
        requests = RecordDecoder().decode(encode(RecordChunk(requests=service.queue.requests))).requests
    expected = [(*entry["interval"], 0.8) for entry in requested[:-1]]

    of_sdk = [log.log_record.attributes for log in sdk.logs("modeltrace.prediction")]
    encoded, _ = next(iter(LogEncoder(Origin(b"", "modeltrace")).predictions(requests)))
    records = ExportLogsServiceRequest.FromString(encoded).resource_logs[0].scope_logs[0].log_records
    of_sidecar = [{item.key: item.value.double_value for item in log.attributes} for log in records]
    lines = [json.loads(line) for line in LineEncoder().encode(requests).splitlines()]
    of_lines = [line for line in lines if line["logger"] == "modeltrace.prediction"]
    stored = [row for request in requests for row in RowBuilder("1").build(request)]

    assert all("interval" not in entry for entry in not_requested)
    assert [tuple(attributes[name] for name in BOUNDS) for attributes in of_sdk if attributes] == expected
    assert [tuple(attributes[name] for name in BOUNDS) for attributes in of_sidecar] == 2 * expected
    assert [tuple(line[name] for name in BOUNDS) for line in of_lines] == 2 * expected
    assert [tuple(getattr(row, name) for name in COLUMNS) for row in stored] == 2 * expected


def test_the_setting_leaves_only_requested_intervals(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A request that asks for an interval has it in its row, another one has not."""
    model, row = load_bundle(bundles["residuals"]), draw(1, 1)[0].to_dict("records")[0]
    with records_service(model, store=str(tmp_path / "s.db"), store_intervals=False) as service:
        service.client.post("/predict", params={"interval": "true"}, json={"features": row})
        service.client.post("/predict", json={"features": row})
        (requested,), (not_requested,) = map(RowBuilder("1").build, service.queue.requests)

    assert requested.interval_low is not None
    assert requested.interval_level == 0.8
    assert (not_requested.interval_low, not_requested.interval_high, not_requested.interval_level) == (None, None, None)


def test_scored_files_have_intervals_in_the_store(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch scoring with telemetry stores the bounds, whether or not its output file has them."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    model, (rows, _) = load_bundle(bundles["residuals"]), draw(5, 2)
    rows.to_parquet(tmp_path / "rows.parquet")
    config = ScoreConfig(file=tmp_path / "rows.parquet", out=tmp_path / "out.parquet", telemetry=True)
    with open_traced_scorer(read_settings(id_key=ID_KEY, store=str(tmp_path / "s.db")), model) as scorer:
        score_file(config, model, scorer, on_progress=lambda _: None)

    assert model.interval is not None
    assert "interval_low" not in pyarrow.parquet.read_table(tmp_path / "out.parquet").column_names
    half = model.interval.correction
    assert [(row.interval_low, row.interval_high) for row in all_rows(tmp_path / "s.db")] == [
        (pytest.approx(value - half), pytest.approx(value + half))
        for value in pyarrow.parquet.read_table(tmp_path / "out.parquet")["value"].to_pylist()
    ]


def test_a_remote_challenger_adds_its_interval(store: Store) -> None:
    """The service that called it writes the same row without an interval; either may be first."""
    alone = stored_row("p", value=2.0)._replace(interval_low=1.0, interval_high=3.0, interval_level=0.9)
    shadow = stored_row("p", value=2.0)._replace(shadow_of="q")
    for first, second in ((alone, shadow), (shadow._replace(prediction_id="r"), alone._replace(prediction_id="r"))):
        store.add_predictions([first])
        store.add_predictions([second])
        found = store.find(first.prediction_id)
        assert found is not None
        assert (found.shadow_of, found.interval_low, found.interval_high, found.interval_level) == ("q", 1.0, 3.0, 0.9)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_exports_have_the_bounds(tmp_path: Path, suffix: Any) -> None:
    """The columns are numbers; they are empty for a prediction without an interval."""
    path = tmp_path / f"out.{suffix}"
    with open_store(str(tmp_path / "s.db")) as opened:
        with_interval = stored_row("p", value=2.0)._replace(interval_low=-0.0, interval_high=3.5, interval_level=0.9)
        opened.add_predictions([with_interval, stored_row("q", value=1.0)])
        export_predictions(opened.read(), path, suffix)

    readers: dict[str, Callable[[], pd.DataFrame]] = {
        "jsonl": lambda: pd.read_json(path, lines=True, dtype=False),
        "csv": lambda: pd.read_csv(path),
        "parquet": lambda: pd.read_parquet(path),
    }
    frame = readers[suffix]().set_index("prediction_id")
    assert frame.loc["p", list(COLUMNS)].tolist() == [0.0, 3.5, 0.9]
    assert frame.loc["q", list(COLUMNS)].isna().all()


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (0, 40), (40, 40), (7, 9), (361, 400), (899_000, 10**6)])
def test_wilson_interval_equals_scipy(count: int, rows: int) -> None:
    """Both bounds, for small samples and for shares of 0 and 1."""
    expected = binomtest(count, rows).proportion_ci(0.95, method="wilson")

    assert wilson_interval(count, rows) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def evaluate_version(store: Store, rows: list[Row], labels: list[Any]) -> ModelMetrics:
    """Store predictions with their labels, and return the metrics of their version."""
    store.add_predictions(rows)
    store.add_labels(
        [
            StoredLabel(row.prediction_id, label, TIME, TIME)
            for row, label in zip(rows, labels, strict=True)
            if label is not None
        ]
    )
    (metrics,) = evaluate(store, Selection(model_version=rows[0].model_version))
    return metrics


FINITE = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    predictions=st.lists(
        st.tuples(FINITE, st.none() | FINITE, st.none() | st.tuples(FINITE, FINITE, st.floats(0.01, 0.99))),
        min_size=1,
        max_size=40,
    )
)
def test_coverage_equals_numpy(store: Store, predictions: list[tuple[float, float | None, Any]]) -> None:
    """Of labelled predictions with an interval only, in SQLite and PostgreSQL; a label at a bound is inside."""
    version = secrets.token_hex(4)
    rows = [
        stored_row(f"{version}-{n}", time=TIME + n, label=None, value=value, model=MODEL._replace(version=version))
        for n, (value, _, _) in enumerate(predictions)
    ]
    used = []
    for n, (_, label, interval) in enumerate(predictions):
        if interval is not None:
            low, high = sorted(interval[:2])
            rows[n] = rows[n]._replace(interval_low=low, interval_high=high, interval_level=interval[2])
            if label is not None:
                used.append((label, low, high, interval[2]))
    metrics = evaluate_version(store, rows, [label for _, label, _ in predictions])

    intervals = metrics.regression.intervals if metrics.regression else None
    if not used:
        assert intervals is None
        return
    truth, low, high, level = np.array(used).T
    inside = (low <= truth) & (truth <= high)
    assert intervals is not None
    assert intervals.rows == len(used)
    assert intervals.coverage == pytest.approx(inside.mean(), rel=1e-9)
    assert (intervals.level, intervals.mean_width) == pytest.approx((level.mean(), (high - low).mean()), rel=1e-9)
    assert (intervals.low, intervals.high) == wilson_interval(int(inside.sum()), len(used))


def test_evaluate_prints_the_coverage_of_a_file_and_of_the_store(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a bundle gives the figures that a file with a service and its stored rows give."""
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "s.db"))
    rows, labels = draw(400, 3)
    file = tmp_path / "rows.csv"
    rows.assign(y=labels).to_csv(file, index=False)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.stdout

    of_bundle = json.loads(run(file, "--target", "y", "--bundle", bundles["residuals"], "--json"))[0]
    with running_service(bundles["residuals"], MODELTRACE_STORE=str(tmp_path / "s.db")) as (_, url):
        of_service = json.loads(run(file, "--target", "y", "--url", url, "--feedback", "--json"))[0]
    of_store = json.loads(run("--json", "--bundle", bundles["residuals"]))[0]
    text = run("--bundle", bundles["residuals"])
    exported = tmp_path / "predictions.parquet"
    assert CliRunner().invoke(app, ["audit", "export", str(exported)]).exit_code == 0
    of_export = json.loads(run("--from", exported, "--json", "--bundle", bundles["residuals"]))[0]

    found = of_bundle["regression"]["intervals"]
    assert found["rows"] == 400
    assert found["level"] == pytest.approx(0.8)
    assert found["low"] < found["coverage"] < found["high"]
    assert abs(found["coverage"] - 0.8) < 0.08
    for other in (of_service, of_store, of_export):
        assert other["regression"]["intervals"] == pytest.approx(found, rel=1e-9)
    assert f"prediction intervals: {found['coverage']:.2%} of 400 labels are inside, 95% interval" in text
    assert f"nominal 0.8, mean width {found['mean_width']:.6g}" in text
