"""On identical bins, drift statistics equal those of Evidently."""

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.datasets import load_breast_cancer, load_diabetes

from modeltrace.bundles.reference_distribution import numeric_reference
from modeltrace.monitoring import drift
from tests.helpers.evidently import start_evidently

pytestmark = [pytest.mark.slow, pytest.mark.extended]
EXACT = 1e-9


def smoothed_values(counts: np.ndarray) -> list[str]:
    """Return values whose shares are the smoothed ones: 2 · count + 1 of each bin."""
    return np.repeat([f"{index:02d}" for index in range(len(counts))], 2 * counts.astype(int) + 1).tolist()


def test_statistics_equal_those_of_evidently() -> None:
    """PSI, Jensen-Shannon (Evidently has the distance in nats) and KS (Evidently has the p-value), for each feature."""
    rng = np.random.default_rng(1)
    cases = []
    for data in (load_breast_cancer().data, load_diabetes().data):
        halves = np.array_split(rng.permutation(data), 2)
        for column in range(data.shape[1]):
            reference = numeric_reference(halves[0][:, column], n=len(halves[0]))
            shifted = halves[1][:, column] + rng.choice([0, 0, 0.3]) * (reference.deviation or 0)
            counts = [
                np.bincount(np.searchsorted(reference.edges or (), values), minlength=len(reference.shares))
                for values in (halves[0][:, column], shifted)
            ]
            cases.append(counts)
    queries = []
    for training, window in cases:
        smooth = {"reference": smoothed_values(training), "window": smoothed_values(window)}
        numbers = {
            "reference": np.repeat(np.arange(len(training)), training).tolist(),
            "window": np.repeat(np.arange(len(window)), window).tolist(),
        }
        queries += [{"method": "psi", **smooth}, {"method": "jensenshannon", **smooth}]
        queries += [{"method": "ks", **numbers, "kind": "num"}]
    with start_evidently() as evidently:
        results = iter(evidently.drift_many(queries))
    for training, window in cases:
        assert drift.psi(window, training) == pytest.approx(next(results), abs=EXACT)
        assert drift.jensen_shannon(window, training) == pytest.approx(next(results) ** 2 / np.log(2), abs=EXACT)
        expected = ks_2samp(*(np.repeat(np.arange(len(counts)), counts) for counts in (training, window)))
        assert drift.ks(window, training) == pytest.approx(expected.statistic, abs=EXACT)
        assert expected.pvalue == pytest.approx(next(results), abs=EXACT)
