"""`pack` measures the importance of each feature on test rows, and drift is weighed with it."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.permutation_importance import MAX_ROWS, REPEATS, SEED
from modeltrace.cli.drift import weigh_features
from modeltrace.inference.importance import FeatureImportance as ModelFeatureImportance
from modeltrace.inference.importance import Importance
from modeltrace.monitoring.domain_classifier import DomainResult, FeatureImportance
from modeltrace.monitoring.model_event import log_model_event


def table(rows: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Return rows of which `strong` decides, `weak` and `city` matter little, and `noise` does not, with labels."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "strong": rng.normal(size=rows),
            "weak": rng.normal(size=rows),
            "noise": rng.normal(size=rows),
            "city": rng.choice(["bern", "basel"], rows),
        }
    )
    score = 3 * data["strong"] + 0.7 * data["weak"] + 0.5 * (data["city"] == "bern") + rng.normal(size=rows)
    return data, score.rename("target")


def pack_table(
    out: Path, *, regressor: bool = False, rows: int = 600, **options: Any
) -> tuple[Any, Manifest, list[str]]:
    """Pack a pipeline with test rows, and return the estimator, the manifest and the messages."""
    (training, score), (test_rows, later) = table(800, 1), table(rows, 2)
    model = LinearRegression() if regressor else LogisticRegression()
    columns = make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["strong", "weak", "noise"]))
    target, truth = (score, later) if regressor else ((score > 0).rename("target"), later > 0)
    estimator = make_pipeline(columns, model).fit(training, target)
    messages: list[str] = []
    options = {"traffic": test_rows.assign(target=truth), "cross_validation_seconds": 0, **options}
    bundle = pack(estimator, training, target, name="m", out=out / "m", on_message=messages.append, **options)
    return estimator, read_manifest(bundle).manifest, messages


@pytest.mark.parametrize(
    ("regressor", "scoring"), [(False, "accuracy"), (True, "neg_mean_absolute_error")], ids=["classifier", "regressor"]
)
def test_importances_equal_those_of_scikit_learn(tmp_path: Path, *, regressor: bool, scoring: str) -> None:
    """Mean and deviation of each feature equal `permutation_importance` with the same seed to 1e-9."""
    estimator, manifest, messages = pack_table(tmp_path, regressor=regressor)
    rows, truth = table(600, 2)

    expected = permutation_importance(
        estimator, rows, truth if regressor else truth > 0, scoring=scoring, n_repeats=REPEATS, random_state=SEED
    )

    importance = manifest.importance
    assert importance is not None
    assert (importance.rows, importance.repeats) == (600, REPEATS)
    assert list(importance.features) == list(rows.columns)
    values = importance.features.values()
    assert [value.mean for value in values] == pytest.approx(expected.importances_mean, abs=1e-9)
    assert [value.deviation for value in values] == pytest.approx(expected.importances_std, abs=1e-9)
    shares = importance.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda name: shares[name]) == "strong"
    assert f"Most important features of 600 test rows: strong {shares['strong']:.0%}, " in messages[-1]
    assert shares["noise"] < 0.05


def test_many_rows_are_sampled(tmp_path: Path) -> None:
    """Of more test rows, a sample is used."""
    _, manifest, _ = pack_table(tmp_path, rows=MAX_ROWS + 500)

    assert manifest.importance is not None
    assert manifest.importance.rows == MAX_ROWS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"importance_seconds": 0}, None),
        ({"importance_seconds": 1e-9}, "too short to shuffle each feature once"),
        ({"traffic": None}, None),
        ({"traffic": table(600, 2)[0]}, "No importance of features: the rows of --traffic have no labels"),
        ({"rows": 100}, "No importance of features: it is measured only on --traffic rows that are the reference"),
    ],
    ids=["off", "no time", "no test rows", "no labels", "few rows"],
)
def test_without_time_or_labelled_rows_there_is_no_importance(
    tmp_path: Path, options: dict[str, Any], message: str | None
) -> None:
    """The bundle is written without importances, and the reason is reported if there are test rows."""
    _, manifest, messages = pack_table(tmp_path, **options)

    assert manifest.importance is None
    assert any("importance" in text for text in messages) == (message is not None)
    assert message is None or message in " ".join(messages)


def test_importances_are_described_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`GET /model` has the importances, `ml.model` the share of each feature; a bundle without them has neither."""
    pack_table(tmp_path)
    model = load_bundle(tmp_path / "m")
    assert model.importance is not None
    assert model.describe()["importance"]["features"]["strong"]["mean"] > 0.1

    with caplog.at_level(logging.INFO, "modeltrace.model"):
        log_model_event(model)
        path = tmp_path / "m" / "model.json"
        older = {name: value for name, value in json.loads(path.read_text()).items() if name != "importance"}
        path.write_text(json.dumps(older))
        log_model_event(load_bundle(tmp_path / "m"))

    now, before = (json.loads(record.getMessage())["features"] for record in caplog.records)
    assert {item["name"]: item["importance"] for item in now} == pytest.approx(model.importance.shares())
    assert all("importance" not in item for item in before)
    assert load_bundle(tmp_path / "m").describe()["importance"] is None


def test_drifted_features_are_sorted_by_their_importance_for_the_model() -> None:
    """A feature that drifted much and that the model does not use comes after one that it uses."""
    result = DomainResult(
        500, 500, 0.8, 0.7, 0.9, drift=True,
        features=(FeatureImportance("unused", 0.3), FeatureImportance("used", 0.1), FeatureImportance("same", -0.01)),
        excluded=(),
    )  # fmt: skip
    means = {"unused": -0.01, "used": 0.06, "same": 0.14}
    importance = Importance(
        metric="accuracy", score=0.9, rows=500, repeats=5,
        features={name: ModelFeatureImportance(mean=mean, deviation=0.01) for name, mean in means.items()},
    )  # fmt: skip

    weighed = weigh_features(result, importance)

    assert [entry.feature for entry in weighed] == ["used", "unused", "same"]
    assert (weighed[0].model_importance, weighed[0].weighted) == pytest.approx((0.3, 0.03))
    assert [entry.weighted for entry in weighed[1:]] == [0, 0]
    assert [entry.feature for entry in weigh_features(result, None)] == ["unused", "used", "same"]
