"""Prediction intervals of regressors: their coverage, and `interval` in responses."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression, QuantileRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modeltrace
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import main
from modeltrace.errors import ModeltraceError, PackError
from modeltrace.inference.intervals import IntervalRule, corrected, identity
from modeltrace.inference.model import Model
from modeltrace.scoring.config import ScoreConfig
from modeltrace.scoring.run import score_file
from modeltrace.scoring.scorer import model_scorer
from tests.helpers.in_process_services import SdkService, records_service

Record = Callable[..., SdkService]
ASK = {"interval": "true"}
ROWS = 400


def draw(rows: int, seed: int, *, noise: float = 1.0) -> tuple[pd.DataFrame, "pd.Series"]:
    """Return features, and labels whose noise is not normal: exponential, with the mean 0."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(rows, 2)), columns=["a", "b"])
    return table, (3 * table.a - table.b + noise * (rng.exponential(size=rows) - 1)).rename("y")


def pack_regressor(folder: Path, estimator: Any, **options: Any) -> tuple[Path, Manifest]:
    """Fit an estimator and pack it with the labels."""
    rows, labels = draw(ROWS, 0)
    bundle = pack(estimator.fit(rows, labels), rows, labels, name="price", out=folder / "price", force=True, **options)
    return bundle, read_manifest(bundle).manifest


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear regression."""
    return pack_regressor(tmp_path_factory.mktemp("linear"), LinearRegression(), onnx=True)[0]


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_new_labels_are_enclosed_as_often_as_the_level_says(level: float) -> None:
    """With n scores, the coverage has the mean ⌈(n + 1) · level⌉ / (n + 1), whatever the distribution of errors is."""
    rng = np.random.default_rng(0)
    n, trials = 50, 4000
    errors = np.abs(rng.standard_cauchy(size=(trials, n + 1)))
    rule = identity("residuals", level)

    covered = [
        new <= fitted.correction for *known, new in errors.tolist() if (fitted := corrected(rule, known)) is not None
    ]

    assert len(covered) == trials
    expected = np.ceil((n + 1) * level) / (n + 1)
    assert np.mean(covered) == pytest.approx(expected, abs=4 * np.sqrt(level * (1 - level) / trials))


@pytest.mark.parametrize("held_out", [True, False], ids=["held_out", "cross_validation"])
@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (LinearRegression(), "residuals"),
        (make_pipeline(StandardScaler(), BayesianRidge()), "standard_deviation"),
        pytest.param(
            GaussianProcessRegressor(RBF(3.0) + WhiteKernel(1.0), optimizer=None, normalize_y=True),
            "standard_deviation",
            marks=pytest.mark.slow,
        ),
        pytest.param(RandomForestRegressor(20, random_state=0), "residuals", marks=pytest.mark.slow),
    ],
    ids=["linear", "bayesian", "gaussian_process", "forest"],
)
def test_packed_intervals_enclose_new_labels(tmp_path: Path, estimator: Any, method: str, *, held_out: bool) -> None:
    """The coverage of 20,000 new rows is the level, although the errors of the labels are not normal."""
    options: dict[str, Any] = {}
    if held_out:
        rows, labels = draw(ROWS, 1)
        options = {"traffic": rows.assign(y=labels)}
    bundle, manifest = pack_regressor(tmp_path, estimator, interval_level=0.8, **options)
    new, labels = draw(20_000 if method == "residuals" else 4_000, 2)

    low, high = modeltrace.load(bundle).predict_interval(new).T

    rule = manifest.interval
    assert rule is not None
    assert (rule.method, rule.level, rule.rows) == (method, 0.8, ROWS)
    # The standard deviation of the coverage is 0.02, because 400 rows determine the width.
    assert ((low <= labels) & (labels <= high)).mean() == pytest.approx(0.8, abs=0.06)


def test_a_standard_deviation_without_labels_gives_normal_intervals(tmp_path: Path) -> None:
    """The factor is that of the normal distribution, and the rule says that no rows verify it."""
    estimator = BayesianRidge()
    bundle, manifest = pack_regressor(tmp_path, estimator, cross_validation_seconds=0)
    rows, _ = draw(5, 1)

    means, deviations = estimator.predict(rows, return_std=True)

    assert manifest.interval is not None
    assert (manifest.interval.rows, manifest.interval.correction) == (0, pytest.approx(1.6448536, abs=1e-6))
    expected = np.stack([means - 1.6448536 * deviations, means + 1.6448536 * deviations], axis=1)
    assert modeltrace.load(bundle).predict_interval(rows) == pytest.approx(expected, rel=1e-6)


def test_residuals_without_labels_give_no_intervals(tmp_path: Path) -> None:
    """The message of the notebook and of the service says that the bundle has none."""
    bundle, manifest = pack_regressor(tmp_path, LinearRegression(), cross_validation_seconds=0)

    assert manifest.interval is None
    with pytest.raises(ModeltraceError, match="has no prediction intervals"):
        modeltrace.load(bundle).predict_interval(draw(2, 1)[0])


@pytest.mark.parametrize("scores", [[], [1.0] * 8, [1.0] * 8 + [float("inf")]])
def test_too_few_scores_give_no_rule(scores: list[float]) -> None:
    """The 9th of 9 scores is needed for 90 %, and it has to be finite."""
    assert corrected(identity("residuals", 0.9), scores) is None


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 90.0, float("nan")])
def test_a_level_must_be_a_share(tmp_path: Path, level: float) -> None:
    """A percentage is no share."""
    with pytest.raises(PackError, match=r"--interval-level .* between 0 and 1"):
        pack_regressor(tmp_path, LinearRegression(), interval_level=level)


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("engine", ["sklearn", "onnx"])
def test_responses_have_the_interval_on_request(record: Record, linear: Path, engine: Any, *, batching: bool) -> None:
    """The same bounds from all routes and protocols; without a request there are none."""
    model = load_bundle(linear, engine=engine)
    assert model.interval is not None
    service, rows = record(model, batching=batching), draw(3, 5)[0].to_dict("records")
    client = service.client
    values = [client.post("/predict", json={"features": row}).json()["value"] for row in rows]
    expected = [[value - model.interval.correction, value + model.interval.correction] for value in values]

    single = [client.post("/predict", params=ASK, json={"features": row}).json()["interval"] for row in rows]
    batch = client.post("/predict/batch", params=ASK, json={"rows": [*rows, {}]}).json()["predictions"]
    v1 = client.post("/v1/models/price:predict", params=ASK, json={"instances": rows}).json()["intervals"]
    inputs = [{"name": name, "datatype": "FP64", "shape": [3], "data": [row[name] for row in rows]} for name in "ab"]
    body = {"inputs": inputs, "outputs": [{"name": "interval"}]}
    (v2,) = client.post("/v2/models/price/infer", json=body).json()["outputs"]
    all_outputs = client.post("/v2/models/price/infer", params=ASK, json={"inputs": inputs}).json()["outputs"]

    assert single == [pytest.approx(pair) for pair in expected]
    assert [entry.get("interval") for entry in batch] == [*(pytest.approx(pair) for pair in expected), None]
    assert v1 == [pytest.approx(pair) for pair in expected]
    assert (v2["shape"], np.reshape(v2["data"], (3, 2)).tolist()) == ([3, 2], [pytest.approx(p) for p in expected])
    assert [output["name"] for output in all_outputs] == ["value", "prediction_id", "interval"]
    assert "interval" not in client.post("/predict", json={"features": rows[0]}).json()
    assert "intervals" not in client.post("/invocations", json={"instances": rows}).json()
    assert client.get("/model").json()["interval"]["method"] == "residuals"


def test_arrow_files_and_the_client_have_the_bounds(linear: Path, tmp_path: Path) -> None:
    """Two columns in tables, a member of the client's prediction."""
    model, (rows, _) = load_bundle(linear), draw(4, 6)
    expected = modeltrace.load(linear).predict_interval(rows)
    rows.to_parquet(tmp_path / "rows.parquet")
    with records_service(model) as sidecar:
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pandas(rows, preserve_index=False)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        stream = "application/vnd.apache.arrow.stream"
        answer = sidecar.client.post(
            "/predict/batch", params=ASK, content=sink.getvalue().to_pybytes(),
            headers={"Content-Type": stream, "Accept": stream},
        )  # fmt: skip

        def send(request: httpx.Request) -> httpx.Response:
            answer = sidecar.client.post(f"/predict?{request.url.query.decode()}", content=request.content)
            return httpx.Response(answer.status_code, content=answer.content)

        client = modeltrace.Client("http://127.0.0.1", transport=httpx.MockTransport(send))
        prediction = client.predict(rows.to_dict("records")[0], interval=True)
    config = ScoreConfig(file=tmp_path / "rows.parquet", out=tmp_path / "out.parquet", interval=True)
    score_file(config, model, model_scorer(model, details=config.details), on_progress=lambda _: None)

    assert bounds_of(pa.ipc.open_stream(answer.content).read_all()) == pytest.approx(expected)
    assert bounds_of(pa.parquet.read_table(tmp_path / "out.parquet")) == pytest.approx(expected)
    assert prediction.interval == pytest.approx(expected[0].tolist())


def bounds_of(table: pa.Table) -> NDArray[np.float64]:
    """Return the bounds as an array of the shape (rows, 2)."""
    return np.stack([table["interval_low"].to_numpy(), table["interval_high"].to_numpy()], axis=1)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("interval=yes", "the query parameter interval must be true or false, once"),
        ("interval=true&interval=true", "the query parameter interval must be true or false, once"),
        ("interval=true", "the model is a classifier: it has no prediction intervals"),
    ],
)
def test_an_invalid_request_is_400(
    record: Record, model: Model, rows: list[dict[str, float]], query: str, message: str
) -> None:
    """The message names the parameter, or the reason."""
    answer = record(model).client.post(f"/predict?{query}", json={"features": rows[0]})

    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


def test_an_interval_that_another_engine_cannot_compute_is_400(record: Record, tmp_path: Path) -> None:
    """ONNX Runtime has no standard deviation of a Bayesian regression."""
    bundle, _ = pack_regressor(tmp_path, BayesianRidge(), onnx=True)
    model = load_bundle(bundle, engine="onnx")
    client = record(model).client

    answer = client.post("/predict", params=ASK, json={"features": {"a": 1.0, "b": 2.0}})

    assert answer.status_code == 400
    assert "its engine is ONNX Runtime" in answer.json()["error"]["message"]
    assert client.get("/model").json()["interval"] is None


def test_a_file_of_a_classifier_is_scored_without_intervals(model: Model, tmp_path: Path) -> None:
    """`modeltrace score --interval` raises the error before it reads a row."""
    (tmp_path / "rows.csv").write_text(",".join(model.schema.names) + "\n")
    config = ScoreConfig(file=tmp_path / "rows.csv", out=tmp_path / "out.csv", interval=True)
    with pytest.raises(ModeltraceError, match=r"--interval: .* has no prediction intervals"):
        score_file(config, model, model_scorer(model), on_progress=lambda _: None)


def spread(rows: int, seed: int) -> tuple[pd.DataFrame, "pd.Series"]:
    """Return labels whose noise grows with `a`."""
    table, _ = draw(rows, seed)
    noise = np.random.default_rng(seed).normal(size=rows) * np.exp(table.a)
    return table, (table.b + noise).rename("y")


def quantile_model(alpha: float) -> QuantileRegressor:
    """Return a model of a quantile, which is far from exact on these data."""
    return QuantileRegressor(quantile=alpha, alpha=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [True, False], ids=["held_out", "cross_validation"])
def test_quantile_models_give_intervals_of_different_widths(tmp_path: Path, *, held_out: bool) -> None:
    """The coverage is the level, whatever the models were fitted for; skops stores all three without pickle."""
    rows, labels = spread(ROWS, 0)
    models = [model.fit(rows, labels) for model in (LinearRegression(), quantile_model(0.25), quantile_model(0.75))]
    estimator, options = modeltrace.IntervalRegressor(*models), {}
    if held_out:
        more, known = spread(ROWS, 1)
        options = {"traffic": more.assign(y=known)}
    bundle = pack(
        estimator, rows, labels, name="price", out=tmp_path / "price", interval_level=0.8, onnx=True, **options
    )
    rule, (new, truth) = read_manifest(bundle).manifest.interval, spread(20_000, 2)

    low, high = modeltrace.load(bundle).predict_interval(new).T

    assert rule is not None
    assert (rule.method, rule.rows) == ("quantile_models", ROWS)
    assert rule.correction > 0  # the models enclose half of the labels
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.8, abs=0.06)
    expected = np.sort([model.predict(new) for model in models[1:]], axis=0)
    assert low == pytest.approx(np.minimum(expected[0] - rule.correction, models[0].predict(new)))
    assert high == pytest.approx(np.maximum(expected[1] + rule.correction, models[0].predict(new)))
    assert np.std(high - low) > 0.1
    assert modeltrace.load(bundle, engine="onnx").predict(new[:50]) == pytest.approx(models[0].predict(new[:50]))


def test_files_of_quantile_models_are_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pack --lower --upper`; the summary says how the intervals are computed."""
    rows, labels = spread(ROWS, 0)
    models = {"price": LinearRegression(), "low": quantile_model(0.05), "high": quantile_model(0.95)}
    for name, model in models.items():
        skops.io.dump(model.fit(rows, labels), tmp_path / f"{name}.skops")
    skops.io.dump(LogisticRegression().fit(rows, labels > 0), tmp_path / "classes.skops")
    rows.assign(y=labels).to_csv(tmp_path / "train.csv", index=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> object:
        command = ["modeltrace", "pack", "price.skops", "--data", "train.csv", "--target", "y", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as exit_info:
            sys.exit(main())
        return exit_info.value.code or 0

    assert run("--lower", "low.skops", "--upper", "high.skops") == 0
    assert (
        "Prediction intervals for 0.9 of the labels: the predictions of the quantile models" in capsys.readouterr().out
    )
    assert run("--lower", "low.skops") == 2
    assert "--lower and --upper belong together" in capsys.readouterr().err
    assert run("--lower", "low.skops", "--upper", "classes.skops", "--force") == 1
    assert "--upper: a LogisticRegression is not a regressor" in capsys.readouterr().err


def test_bounds_of_quantile_models_always_enclose_the_value() -> None:
    """The lower bound is at most the value and the upper bound at least, even if the models of the quantiles cross."""
    rule = IntervalRule(level=0.9, method="quantile_models", correction=-2.0, rows=100)

    assert rule.apply(5.0, 4.0, 6.0) == (5.0, 5.0)
    assert rule.apply(5.0, 1.0, 4.0) == (3.0, 5.0)
