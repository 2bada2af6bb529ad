"""What Evidently says is what its formulas give on the same bins: the oracle that our own figures are put to."""

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
    """Evidently in an environment of its own."""
    with start_evidently() as one:
        yield one


def samples() -> list[tuple[list[str], list[str]]]:
    """Pairs of samples of bins: some alike, some not, some with a bin that only one of them has."""
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
    """The share of each bin."""
    counts = Counter(values)
    return [counts[one] / len(values) for one in bins]


def test_psi_and_jensen_shannon_are_the_formulas(evidently: EvidentlyOracle) -> None:
    """PSI with natural logarithms over filled shares; the square root of the Jensen-Shannon divergence in nats."""
    pairs = samples()
    questions = [
        {"method": method, "reference": first, "window": second}
        for first, second in pairs
        for method in ("psi", "jensenshannon")
    ]
    said = iter(evidently.drift_many(questions))
    for first, second in pairs:
        bins = sorted({*first, *second})
        q, p = np.array(shares(first, bins)), np.array(shares(second, bins))
        full_q, full_p = np.array(replace_zero_shares(q.tolist())), np.array(replace_zero_shares(p.tolist()))
        middle = (p + q) / 2
        divergence = sum(0.5 * np.sum(one[one > 0] * np.log(one[one > 0] / middle[one > 0])) for one in (p, q))
        assert next(said) == pytest.approx(np.sum((full_p - full_q) * np.log(full_p / full_q)), abs=EXACT)
        assert next(said) == pytest.approx(np.sqrt(max(divergence, 0)), abs=EXACT)


def test_our_drift_of_bins_is_what_evidently_says_of_them(evidently: EvidentlyOracle) -> None:
    """PSI, Jensen-Shannon and Kolmogorov-Smirnov of `modeltrace.monitoring.drift`, on the same smoothed bins.

    Evidently takes rows, not counts with half a row more: twice the count and one row more of a bin has those shares.
    Its Jensen-Shannon is the distance in nats, ours the divergence in bits. Of its Kolmogorov-Smirnov only the p-value
    can be had: scipy's statistic has that p-value, and is ours.
    """
    pairs = [(first, second, sorted({*first, *second})) for first, second in samples()]
    questions: list[dict[str, Any]] = []
    for first, second, bins in pairs:
        full = [[one for one in bins for _ in range(2 * side.count(one) + 1)] for side in (first, second)]
        numbers = [[float(bins.index(one)) for one in side] for side in (first, second)]
        sides = {"reference": full[0], "window": full[1]}
        questions += [{"method": "psi", **sides}, {"method": "jensenshannon", **sides}]
        questions.append({"method": "ks", "kind": "num", "reference": numbers[0], "window": numbers[1]})
    said = iter(evidently.drift_many(questions))
    for first, second, bins in pairs:
        training, counts = ([side.count(one) for one in bins] for side in (first, second))
        scipys = ks_2samp(*([bins.index(one) for one in side] for side in (first, second)))
        assert drift.psi(counts, training) == pytest.approx(next(said), abs=EXACT)
        assert drift.jensen_shannon(counts, training) == pytest.approx(next(said) ** 2 / math.log(2), abs=EXACT)
        assert next(said) == pytest.approx(scipys.pvalue, abs=EXACT)
        assert drift.ks(counts, training) == pytest.approx(scipys.statistic, abs=EXACT)


def test_ks_is_the_two_sample_test_of_scipy(evidently: EvidentlyOracle) -> None:
    """The p-value of numbers; PSI of numbers takes bins of both samples together."""
    rng = np.random.default_rng(7)
    pairs = [(rng.normal(size=300), rng.normal(shift, size=200)) for shift in (0, 0.1, 1)]
    questions = [
        {"method": method, "reference": first.tolist(), "window": second.tolist(), "kind": "num"}
        for first, second in pairs
        for method in ("ks", "psi")
    ]
    said = iter(evidently.drift_many(questions))
    for first, second in pairs:
        edges = np.histogram_bin_edges(np.concatenate([first, second]), bins="sturges")
        q, p = (
            np.array(replace_zero_shares((np.histogram(one, edges)[0] / len(one)).tolist())) for one in (first, second)
        )
        assert next(said) == pytest.approx(ks_2samp(first, second).pvalue, abs=EXACT)
        assert next(said) == pytest.approx(np.sum((p - q) * np.log(p / q)), abs=EXACT)


@pytest.mark.parametrize("classes", [["no", "yes"], ["0", "1", "a class"]])
def test_classification_is_that_of_scikit_learn(evidently: EvidentlyOracle, classes: list[str]) -> None:
    """Accuracy, precision, recall and F1, by class and of the positive one or as the mean over the classes."""
    rng = np.random.default_rng(8)
    true = rng.choice(classes, 500)
    predicted = np.where(rng.random(500) < 0.7, true, rng.choice(classes, 500))
    positive = classes[1] if len(classes) == 2 else None
    said = evidently.classification(true.tolist(), predicted.tolist(), positive=positive)

    assert said["accuracy"] == pytest.approx(accuracy_score(true, predicted), abs=EXACT)
    by_class: Any = precision_recall_fscore_support(true, predicted, labels=classes)
    for name, figures in zip(("precision", "recall", "f1"), by_class[:3], strict=True):
        assert [said["by_label"][name][one] for one in classes] == pytest.approx(figures.tolist(), abs=EXACT)
        assert said[name] == pytest.approx(figures[1] if positive else figures.mean(), abs=EXACT), name
    assert json.dumps(said)


def test_regression_is_that_of_scikit_learn(evidently: EvidentlyOracle) -> None:
    """Mean absolute error, root of the mean squared error, R²."""
    rng = np.random.default_rng(9)
    true = rng.normal(size=200)
    predicted = true + rng.normal(scale=0.3, size=200)
    said = evidently.regression(true.tolist(), predicted.tolist())

    assert said["mae"] == pytest.approx(mean_absolute_error(true, predicted), abs=EXACT)
    assert said["rmse"] == pytest.approx(float(np.sqrt(np.mean((true - predicted) ** 2))), abs=EXACT)
    assert said["r2"] == pytest.approx(r2_score(true, predicted), abs=EXACT)
