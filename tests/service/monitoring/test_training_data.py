"""What is said of a bundle, so that whoever compares needs nothing else."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.columns import describe_column
from modeltrace.bundles.pack import pack
from modeltrace.inference.model import Model
from modeltrace.inference.schema import Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.monitoring.reference_metrics import OUTPUTS, critical_values, reference_metrics

NUMBER = {drift.PSI, drift.JENSEN_SHANNON, drift.MISSING_VALUES, drift.KS, drift.MEAN_CHANGE}
CATEGORY = {drift.PSI, drift.JENSEN_SHANNON, drift.MISSING_VALUES, drift.NEW_CATEGORIES}


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A regressor of a feature of each kind, and one that never varied."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.normal(40, 12, 500), "same": 1.0, "member": rng.random(500) < 0.5})
    estimator = RandomForestRegressor(5, random_state=0).fit(table, table.age * 2)
    return load_bundle(pack(estimator, table, name="prices", out=tmp_path_factory.mktemp("drift") / "b"))


def test_each_kind_of_feature_has_its_statistics(regressor: Model) -> None:
    """Numbers have an order and a mean, categories may be new, what never varied has no scale of change."""
    watched: dict[str, set[str]] = {}
    for name, statistic in critical_values(regressor):
        watched.setdefault(name, set()).add(statistic)

    assert watched == {
        "age": NUMBER,
        "same": NUMBER - {drift.MEAN_CHANGE},
        "member": CATEGORY,
        OUTPUTS: {drift.PSI, drift.JENSEN_SHANNON, drift.KS},
    }


def test_the_more_is_watched_the_more_each_must_exceed(regressor: Model, model: Model) -> None:
    """All statistics of all features share one chance of a false alarm."""
    few, many = critical_values(regressor), critical_values(model)

    assert len(many) > 5 * len(few)
    assert many["mean_radius", drift.KS] > few["age", drift.KS]
    assert many[OUTPUTS, drift.LOW_CONFIDENCE] > few["age", drift.MISSING_VALUES]


def test_a_bundle_of_before_is_compared_as_far_as_it_says(model: Model) -> None:
    """Without deviations and answers: bins and missing values are, means and answers are not."""
    features = tuple(
        feature.model_copy(update={"reference": feature.reference.model_copy(update={"deviation": None})})
        for feature in model.schema.features
    )
    old = replace(model, schema=Schema(features=features), output_reference=None, confidence_threshold=None)
    facts = {one.name: len(values) for one, values in reference_metrics(old).gauges.items()}

    assert {statistic for _, statistic in critical_values(old)} == NUMBER - {drift.MEAN_CHANGE}
    assert facts["ml.feature.reference.deviation"] == facts["ml.prediction.reference"] == 0
    assert facts["ml.feature.reference.size"] == 30


def test_a_model_is_announced_with_its_edges(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    """One record: its attributes stay small, its body says all."""
    with caplog.at_level(logging.INFO, logger="modeltrace.model"):
        log_model_event(model)

    (record,) = caplog.records
    said = json.loads(record.getMessage())
    assert record.__dict__["otel.event.name"] == "ml.model"
    assert record.__dict__["ml.model.version"] == said["version"] == model.version
    assert [one["edges"] for one in said["features"]] == [list(f.reference.edges or ()) for f in model.schema.features]
    assert said["output_reference"]["shares"] == (model.output_reference.shares if model.output_reference else None)


def test_a_model_of_many_features_is_announced_in_parts(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    """No record exceeds what Loki takes, and none of the features is left out."""
    column = pd.Series(np.random.default_rng(0).normal(size=500), name="x")
    features = tuple(describe_column(column.rename(f"f{index:04d}")) for index in range(1000))
    with caplog.at_level(logging.INFO, logger="modeltrace.model"):
        log_model_event(replace(model, schema=Schema(features=features)))

    bodies = [record.getMessage() for record in caplog.records]
    assert len(bodies) > 1
    assert max(len(body.encode()) for body in bodies) < 256_000
    assert [one["name"] for body in bodies for one in json.loads(body)["features"]] == [f.name for f in features]
    assert {record.__dict__["ml.model.parts"] for record in caplog.records} == {len(bodies)}
