"""The reference of a model's outputs: predictions for rows that it was not fitted on."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.output_reference import MIN_HELD_OUT_ROWS
from modeltrace.monitoring import drift
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.drift_check import WindowCounts, check_drift
from modeltrace.monitoring.reference_gauges import critical_values
from tests.helpers.noisy_models import drifting, noisy_rows, output_drift, pack_with_messages


@pytest.mark.slow
def test_a_forest_that_has_memorised_its_rows_raises_no_alarm(tmp_path: Path) -> None:
    """On its training rows it is sure and right; on new rows, its outputs are those of cross-validation."""
    rows, target = noisy_rows(1500, 0)
    forest = RandomForestClassifier(12, random_state=0).fit(rows, target)
    bundle, manifest, messages = pack_with_messages(tmp_path, forest, rows, target)
    model = load_bundle(bundle, trust_pickle=True)
    held_out = manifest.held_out

    assert forest.score(rows, target) > 0.97
    assert held_out is not None
    assert (held_out.method, held_out.rows, held_out.labelled_rows) == ("cross_validation", 1500, 1500)
    assert held_out.accuracy == pytest.approx(forest.score(*noisy_rows(5000, 1)), abs=0.04)
    assert manifest.output_reference is not None
    assert manifest.output_reference.source == "cross_validation"
    assert any("Cross-validating the RandomForestClassifier" in message for message in messages)
    for seed in range(2, 22):
        assert not drifting(model, noisy_rows(1000, seed)[0])
    # With training rows as the reference, these windows raise alarms.
    low = sum((output.confidence or 0) < 0.5 for output in model.predict_fn(noisy_rows(1000, 2)[0]))
    own = sum((output.confidence or 0) < 0.5 for output in model.predict_fn(rows)) / 1500
    assert low / 1000 > own + 0.1


def test_a_high_share_of_low_confidence_raises_no_alarm_until_it_rises(tmp_path: Path) -> None:
    """Nearly half of the predictions of three classes are below 0.5, as before; more are reported."""
    rows, target = noisy_rows(2000, 0)
    bundle, manifest, _ = pack_with_messages(tmp_path, LogisticRegression().fit(rows, target), rows, target)
    model = load_bundle(bundle, trust_pickle=True)
    held_out = manifest.held_out

    assert held_out is not None
    assert held_out.low_confidence_share == pytest.approx(0.47, abs=0.04)
    for seed in range(1, 21):
        assert output_drift(model, noisy_rows(1000, seed)[0])[drift.LOW_CONFIDENCE].state == "ok"
    blurred = noisy_rows(1000, 30)[0] * 0.7  # nearer to the boundary of the classes
    assert output_drift(model, blurred)[drift.LOW_CONFIDENCE].state == "drift"
    # More confidence is no alarm.
    assert output_drift(model, noisy_rows(1000, 30)[0] * 3)[drift.LOW_CONFIDENCE].state == "ok"


def test_held_out_rows_are_preferred(tmp_path: Path) -> None:
    """200 rows of `traffic` are predicted by the model itself, and no clone is fitted."""
    rows, target = noisy_rows(600, 0)
    new, truth = noisy_rows(MIN_HELD_OUT_ROWS, 1)
    forest = RandomForestClassifier(20, random_state=0).fit(rows, target)
    _, manifest, messages = pack_with_messages(tmp_path, forest, rows, target, traffic=new.assign(kind=truth))

    assert manifest.held_out is not None
    assert (manifest.held_out.method, manifest.held_out.rows) == ("held_out", MIN_HELD_OUT_ROWS)
    assert manifest.held_out.accuracy == pytest.approx(forest.score(new, truth))
    low = (forest.predict_proba(new).max(axis=1) < 0.5).mean()
    assert manifest.held_out.low_confidence_share == pytest.approx(low)
    assert [message for message in messages if not message.startswith("Most important features")] == []


def test_held_out_rows_without_labels_have_no_accuracy(tmp_path: Path) -> None:
    """They are the reference of the outputs, with zero labelled rows."""
    rows, target = noisy_rows(600, 0)
    forest = RandomForestClassifier(20, random_state=0).fit(rows, target)
    _, manifest, _ = pack_with_messages(tmp_path, forest, rows, None, traffic=noisy_rows(300, 1)[0])

    assert manifest.held_out is not None
    assert (manifest.held_out.rows, manifest.held_out.labelled_rows, manifest.held_out.accuracy) == (300, 0, None)


@pytest.mark.parametrize(
    ("traffic", "message"),
    [
        (noisy_rows(MIN_HELD_OUT_ROWS - 1, 1)[0], "there are 199 test rows, at least 200 are needed"),
        (noisy_rows(600, 0)[0][:300], "contain rows of the training data"),
    ],
    ids=["few", "known"],
)
def test_unsuitable_held_out_rows_are_replaced(tmp_path: Path, traffic: pd.DataFrame, message: str) -> None:
    """Few rows, or rows that the model was fitted on: training rows are cross-validated instead."""
    rows, target = noisy_rows(600, 0)
    forest = RandomForestClassifier(10, random_state=0).fit(rows, target)
    _, manifest, messages = pack_with_messages(tmp_path, forest, rows, target, traffic=traffic)

    assert manifest.held_out is not None
    assert manifest.held_out.method == "cross_validation"
    assert message in messages[0]


@pytest.mark.parametrize("estimator", [RandomForestRegressor(8, random_state=0), DecisionTreeRegressor()])
def test_regressors_have_errors_of_new_rows(tmp_path: Path, estimator: Any) -> None:
    """A tree knows the values of its training rows, and its outputs for new rows raise no alarm."""
    rng = np.random.default_rng(0)
    rows = noisy_rows(1500, 0)[0]
    target = (2 * rows.a + rng.normal(size=len(rows))).rename("value")
    bundle, manifest, _ = pack_with_messages(tmp_path, estimator.fit(rows, target), rows, target)
    model = load_bundle(bundle, trust_pickle=True)
    held_out = manifest.held_out

    assert held_out is not None
    assert (held_out.accuracy, held_out.low_confidence_share) == (None, None)
    new = noisy_rows(5000, 1)[0]
    errors = np.abs(estimator.predict(new) - (2 * new.a + rng.normal(size=len(new))))
    assert held_out.mean_absolute_error == pytest.approx(errors.mean(), rel=0.1)
    assert held_out.absolute_error_deviation == pytest.approx(errors.std(), rel=0.1)
    assert held_out.absolute_error_deciles is not None
    assert held_out.absolute_error_deciles[4] == pytest.approx(np.median(errors), rel=0.1)
    for seed in range(2, 12):
        assert not drifting(model, noisy_rows(1000, seed)[0])
    assert drifting(model, rows.assign(a=rows.a + 1))


def test_features_of_the_bundle_are_the_only_ones_that_are_compared(tmp_path: Path) -> None:
    """The drift of features does not need held-out rows."""
    rows, target = noisy_rows(600, 0)
    bundle, _, _ = pack_with_messages(
        tmp_path, LogisticRegression().fit(rows, target), rows, target, cross_validation_seconds=0
    )
    model = load_bundle(bundle, trust_pickle=True)
    feature = model.schema.features[0]
    bins = FeatureBins(model.schema)
    shifted = [(value + 1, 0.0, 0.0, 0.0) for value in rows.a.tolist()]
    start, end = 0, len(feature.reference.shares)
    counts = np.bincount(bins.digitize(shifted, bins.numeric_values(shifted))[:, 0], minlength=end)[start:end]
    criticals = {name: value for (of, name), value in critical_values(model).items() if of == feature.name}
    results = check_drift(feature.reference, WindowCounts(counts.tolist()), criticals)
    assert {result.state for result in results} >= {"drift"}
