"""Shapley values equal those of shap, and contributions of features that are known exactly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from modeltrace.replay import shapley
from modeltrace.replay.shapley import MAX_EXACT_FEATURES, shapley_values

# Results of shap 0.51.0: ExactExplainer, and LinearExplainer for the linear model. TreeExplainer
# differs from both by up to 0.02 for this forest.
SHAP = json.loads(Path(__file__).with_name("shap_values.json").read_text())


def rows(matrix: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a matrix as tuples."""
    return [tuple(row) for row in matrix.tolist()]


def test_values_of_trees_equal_shap() -> None:
    """The forest has four features, so all sets of features are evaluated."""
    features, labels = load_iris(return_X_y=True)
    forest = RandomForestClassifier(20, max_depth=4, random_state=0).fit(features, labels)

    for case in SHAP["trees"]:
        result = shapley_values(
            lambda part, c=case["class"]: forest.predict_proba(np.array(part))[:, c],
            tuple(features[case["row"]]),
            rows(features[::5]),
        )

        assert result.base == pytest.approx(case["base"], rel=1e-9)
        assert result.values == pytest.approx(np.array(case["values"]), abs=1e-9)
        assert result.standard_errors.tolist() == [0.0] * 4


def test_values_of_a_linear_model_equal_shap() -> None:
    """The features of a linear model do not interact, so random sets give the exact values, too."""
    features, labels = load_wine(return_X_y=True)
    assert features.shape[1] > MAX_EXACT_FEATURES
    model = LinearRegression().fit(features, labels)

    for case in SHAP["linear"]:
        result = shapley_values(
            lambda part: model.predict(np.array(part)), tuple(features[case["row"]]), rows(features[::5])
        )

        assert result.base == pytest.approx(case["base"], rel=1e-9)
        assert result.values == pytest.approx(np.array(case["values"]), abs=1e-9)
        assert result.standard_errors == pytest.approx(0, abs=1e-9)


def test_random_sets_are_near_the_values_of_shap() -> None:
    """With 13 features that interact, the errors are those that the standard errors say.

    The solver of the model ends at slightly other coefficients on other processors, which changes the values by 2e-4.
    """
    features, labels = load_wine(return_X_y=True)
    model = LogisticRegression(max_iter=10_000).fit(features, labels == 1)
    background = features[::30]

    for case in SHAP["interactions"]:
        result = shapley_values(
            lambda part: model.predict_proba(np.array(part))[:, 1], tuple(features[case["row"]]), rows(background)
        )

        errors = np.abs(result.values - np.array(case["values"]))
        assert (errors <= 4.5 * result.standard_errors + 5e-4).all()
        assert errors.max() < 0.01
        assert result.base + result.values.sum() == pytest.approx(result.output, abs=1e-12)
        assert (result.standard_errors > 0).any()


def test_interactions_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product of two features counts half for each; a feature that the model ignores has no contribution."""
    for exact in (MAX_EXACT_FEATURES, 0):
        monkeypatch.setattr(shapley, "MAX_EXACT_FEATURES", exact)

        result = shapley_values(
            lambda part: np.array([3 * a * b for a, b, _ in part], dtype=float),
            (1, 1, "x"),
            [(0, 0, "y"), (0, 0, None)],
        )

        assert (result.base, result.output) == (0.0, 3.0)
        assert result.values == pytest.approx([1.5, 1.5, 0.0])
