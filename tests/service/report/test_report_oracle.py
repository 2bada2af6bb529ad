"""Evidently's results equal published formulas, and Modeltrace's drift statistics equal Evidently's."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import accuracy_score, mean_absolute_error, precision_recall_fscore_support, r2_score

from modeltrace.monitoring import drift
from tests.helpers.evidently import EvidentlyOracle, replace_zero_shares, start_evidently

pytestmark = [pytest.mark.slow, pytest.mark.extended]
EXACT = 1e-9


@pytest.fixture(scope="module")
def evidently() -> Iterator[EvidentlyOracle]:
    """Evidently in its virtual environment."""
    with start_evidently() as oracle:
        yield oracle


def samples() -> list[tuple[list[str], list[str]]]:
    """Return pairs of samples of bins: similar, different, and with bins that only one sample has."""
    rng = np.random.default_rng(6)
    pairs = []
    for bins in (2, 5, 12, 40):
        names = [f"{index:02d}" for index in range(bins)]
        for change in (0.0, 0.3, 2.0):
            weights = rng.dirichlet(np.ones(bins))
            moved = weights * np.exp(change * rng.normal(size=bins))
            first, second = rng.choice(names, 700, p=weights), rng.choice(names, 400, p=moved / moved.sum())
            pairs.append((first.tolist(), second.tolist()))
    return [*pairs, (["a"] * 30, ["b"] * 20), (["a"] * 30, ["a"] * 20)]


def shares(values: list[str], bins: list[str]) -> list[float]:
    """Return the share of each bin."""
    counts = Counter(values)
    return [counts[name] / len(values) for name in bins]


def test_evidentlys_psi_and_jensen_shannon_equal_the_formulas(evidently: EvidentlyOracle) -> None:
    """PSI uses natural logarithms and replaces zeros; Jensen-Shannon is the square root of the divergence in nats."""
    pairs = samples()
    questions = [
        {"method": method, "reference": first, "window": second}
        for first, second in pairs
        for method in ("psi", "jensenshannon")
    ]
    results = iter(evidently.drift_many(questions))
    for first, second in pairs:
        bins = sorted({*first, *second})
        q, p = np.array(shares(first, bins)), np.array(shares(second, bins))
        full_q, full_p = np.array(replace_zero_shares(q.tolist())), np.array(replace_zero_shares(p.tolist()))
        middle = (p + q) / 2
        divergence = sum(0.5 * np.sum(side[side > 0] * np.log(side[side > 0] / middle[side > 0])) for side in (p, q))
        assert next(results) == pytest.approx(np.sum((full_p - full_q) * np.log(full_p / full_q)), abs=EXACT)
        assert next(results) == pytest.approx(np.sqrt(max(divergence, 0)), abs=EXACT)


def test_drift_statistics_equal_those_of_evidently(evidently: EvidentlyOracle) -> None:
    """Compare PSI, Jensen-Shannon and Kolmogorov-Smirnov of `modeltrace.monitoring.drift` on the same smoothed bins.

    Modeltrace adds half a row to each bin. Evidently needs whole rows, so each bin gets twice its count plus one row.
    Evidently's Jensen-Shannon is the distance in nats, Modeltrace's the divergence in bits. Evidently returns only the
    p-value of Kolmogorov-Smirnov: scipy's test has the same p-value, and the same statistic as Modeltrace.
    """
    pairs = [(first, second, sorted({*first, *second})) for first, second in samples()]
    questions: list[dict[str, Any]] = []
    for first, second, bins in pairs:
        full = [[name for name in bins for _ in range(2 * side.count(name) + 1)] for side in (first, second)]
        numbers = [[float(bins.index(name)) for name in side] for side in (first, second)]
        sides = {"reference": full[0], "window": full[1]}
        questions += [{"method": "psi", **sides}, {"method": "jensenshannon", **sides}]
        questions.append({"method": "ks", "kind": "num", "reference": numbers[0], "window": numbers[1]})
    results = iter(evidently.drift_many(questions))
    for first, second, bins in pairs:
        training, counts = ([side.count(name) for name in bins] for side in (first, second))
        scipy_test = ks_2samp(*([bins.index(name) for name in side] for side in (first, second)))
        assert drift.psi(counts, training) == pytest.approx(next(results), abs=EXACT)
        assert drift.jensen_shannon(counts, training) == pytest.approx(next(results) ** 2 / math.log(2), abs=EXACT)
        assert next(results) == pytest.approx(scipy_test.pvalue, abs=EXACT)
        assert drift.ks(counts, training) == pytest.approx(scipy_test.statistic, abs=EXACT)


def test_evidentlys_ks_equals_scipy(evidently: EvidentlyOracle) -> None:
    """The p-values are equal; PSI of numbers uses bins over both samples."""
    rng = np.random.default_rng(7)
    pairs = [(rng.normal(size=300), rng.normal(shift, size=200)) for shift in (0, 0.1, 1)]
    questions = [
        {"method": method, "reference": first.tolist(), "window": second.tolist(), "kind": "num"}
        for first, second in pairs
        for method in ("ks", "psi")
    ]
    results = iter(evidently.drift_many(questions))
    for first, second in pairs:
        edges = np.histogram_bin_edges(np.concatenate([first, second]), bins="sturges")
        q, p = (
            np.array(replace_zero_shares((np.histogram(side, edges)[0] / len(side)).tolist()))
            for side in (first, second)
        )
        assert next(results) == pytest.approx(ks_2samp(first, second).pvalue, abs=EXACT)
        assert next(results) == pytest.approx(np.sum((p - q) * np.log(p / q)), abs=EXACT)


@pytest.mark.parametrize("classes", [["no", "yes"], ["0", "1", "a class"]])
def test_evidentlys_classification_equals_scikit_learn(evidently: EvidentlyOracle, classes: list[str]) -> None:
    """Compares accuracy, precision, recall and F1, by class, of the positive class, and as the mean over classes."""
    rng = np.random.default_rng(8)
    true = rng.choice(classes, 500)
    predicted = np.where(rng.random(500) < 0.7, true, rng.choice(classes, 500))
    positive = classes[1] if len(classes) == 2 else None
    results = evidently.classification(true.tolist(), predicted.tolist(), positive=positive)

    assert results["accuracy"] == pytest.approx(accuracy_score(true, predicted), abs=EXACT)
    by_class: Any = precision_recall_fscore_support(true, predicted, labels=classes)
    for name, values in zip(("precision", "recall", "f1"), by_class[:3], strict=True):
        assert [results["by_label"][name][label] for label in classes] == pytest.approx(values.tolist(), abs=EXACT)
        assert results[name] == pytest.approx(values[1] if positive else values.mean(), abs=EXACT), name
    assert json.dumps(results)


def test_evidentlys_regression_equals_scikit_learn(evidently: EvidentlyOracle) -> None:
    """Compares mean absolute error, root mean squared error and R²."""
    rng = np.random.default_rng(9)
    true = rng.normal(size=200)
    predicted = true + rng.normal(scale=0.3, size=200)
    results = evidently.regression(true.tolist(), predicted.tolist())

    assert results["mae"] == pytest.approx(mean_absolute_error(true, predicted), abs=EXACT)
    assert results["rmse"] == pytest.approx(float(np.sqrt(np.mean((true - predicted) ** 2))), abs=EXACT)
    assert results["r2"] == pytest.approx(r2_score(true, predicted), abs=EXACT)
