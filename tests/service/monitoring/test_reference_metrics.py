"""Reference metrics of a model, and the event that describes it."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.pack import pack
from modeltrace.inference.model import Model
from modeltrace.inference.schema import Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.monitoring.reference_gauges import OUTPUTS, critical_values, reference_metrics

SCORES = {drift.LOCATION, drift.SPREAD}
NUMBER = {drift.PSI, drift.JENSEN_SHANNON, drift.MISSING_VALUES, drift.KS, *SCORES}
CATEGORY = {drift.PSI, drift.JENSEN_SHANNON, drift.MISSING_VALUES, drift.SHARE_CHANGE, drift.NEW_CATEGORIES}


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a regressor with a number, a boolean and a constant feature."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.normal(40, 12, 500), "same": 1.0, "member": rng.random(500) < 0.5})
    estimator = RandomForestRegressor(5, random_state=0).fit(table, table.age * 2)
    return load_bundle(pack(estimator, table, name="prices", out=tmp_path_factory.mktemp("drift") / "b"))


def test_each_feature_type_has_its_statistics(regressor: Model) -> None:
    """Numbers have KS, location and spread; categories have shares; a constant feature has no location."""
    statistics: dict[str, set[str]] = {}
    for name, statistic in critical_values(regressor):
        statistics.setdefault(name, set()).add(statistic)

    assert statistics == {
        "age": NUMBER,
        "same": NUMBER - SCORES,
        "member": CATEGORY,
        OUTPUTS: {drift.PSI, drift.JENSEN_SHANNON, drift.KS, *SCORES},
    }


def test_more_statistics_have_larger_critical_values(regressor: Model, model: Model) -> None:
    """All statistics of all features share one false alarm rate."""
    few, many = critical_values(regressor), critical_values(model)

    assert len(many) > 5 * len(few)
    assert many["mean_radius", drift.KS] > few["age", drift.KS]
    assert many[OUTPUTS, drift.LOW_CONFIDENCE] > few["age", drift.MISSING_VALUES]


def test_a_bundle_without_references_has_fewer_statistics(model: Model) -> None:
    """Without an output reference, only features are monitored."""
    without_references = replace(model, output_reference=None, confidence_threshold=None)
    points = {gauge.name: len(values) for gauge, values in reference_metrics(without_references).gauges.items()}

    assert {statistic for _, statistic in critical_values(without_references)} == NUMBER
    assert points["ml.prediction.reference"] == 0
    assert points["ml.feature.reference.size"] == 30


def test_held_out_rows_are_exported(regressor: Model, model: Model) -> None:
    """Zero rows say that there are none; a share of low confidence is exported if it is known."""
    gauges = {gauge.name: values for gauge, values in reference_metrics(model).gauges.items()}
    assert model.held_out is not None
    assert gauges["ml.prediction.reference.held_out"] == [(model.held_out.rows, {})]
    assert gauges["ml.prediction.low_confidence.reference"] == [(model.held_out.low_confidence_share, {})]

    gauges = {gauge.name: values for gauge, values in reference_metrics(regressor).gauges.items()}
    assert regressor.held_out is None
    assert gauges["ml.prediction.reference.held_out"] == [(0, {})]
    assert gauges["ml.prediction.low_confidence.reference"] == []


def test_the_model_event_contains_the_edges(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    """It is one record with few attributes and the rest in its body."""
    with caplog.at_level(logging.INFO, logger="modeltrace.model"):
        log_model_event(model)

    (record,) = caplog.records
    body = json.loads(record.getMessage())
    assert record.__dict__["otel.event.name"] == "ml.model"
    assert record.__dict__["ml.model.version"] == body["version"] == model.version
    assert [feature["edges"] for feature in body["features"]] == [
        list(f.reference.edges or ()) for f in model.schema.features
    ]
    assert body["output_reference"]["shares"] == (model.output_reference.shares if model.output_reference else None)


def test_the_event_of_many_features_is_split(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    """No record exceeds the limit of Loki, and no feature is missing."""
    column = pd.Series(np.random.default_rng(0).normal(size=500), name="x")
    features = tuple(describe_column(column.rename(f"f{index:04d}")) for index in range(1000))
    with caplog.at_level(logging.INFO, logger="modeltrace.model"):
        log_model_event(replace(model, schema=Schema(features=features)))

    bodies = [record.getMessage() for record in caplog.records]
    assert len(bodies) > 1
    assert max(len(body.encode()) for body in bodies) < 256_000
    assert [feature["name"] for body in bodies for feature in json.loads(body)["features"]] == [
        f.name for f in features
    ]
    assert {record.__dict__["ml.model.parts"] for record in caplog.records} == {len(bodies)}
