"""On identical bins our figures are those of Evidently itself."""

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.datasets import load_breast_cancer, load_diabetes

from modeltrace.inference.reference import numeric_reference
from modeltrace.monitoring import drift
from tests.helpers.evidently import start_evidently

pytestmark = [pytest.mark.slow, pytest.mark.extended]
EXACT = 1e-9


def doubled(counts: np.ndarray) -> list[str]:
    """Values whose shares are the smoothed ones: (2 count + 1) of each bin stand for count + ½."""
    return np.repeat([f"{place:02d}" for place in range(len(counts))], 2 * counts.astype(int) + 1).tolist()


def test_on_identical_bins_they_are_evidentlys() -> None:
    """PSI, Jensen-Shannon (its distance, in nats, is what Evidently has) and KS (its p-value), feature by feature."""
    rng = np.random.default_rng(1)
    cases = []
    for data in (load_breast_cancer().data, load_diabetes().data):
        halves = np.array_split(rng.permutation(data), 2)
        for column in range(data.shape[1]):
            reference = numeric_reference(halves[0][:, column], n=len(halves[0]))
            moved = halves[1][:, column] + rng.choice([0, 0, 0.3]) * (reference.deviation or 0)
            counts = [
                np.bincount(np.searchsorted(reference.edges or (), values), minlength=len(reference.shares))
                for values in (halves[0][:, column], moved)
            ]
            cases.append(counts)
    questions = []
    for training, window in cases:
        smooth = {"reference": doubled(training), "window": doubled(window)}
        numbers = {
            "reference": np.repeat(np.arange(len(training)), training).tolist(),
            "window": np.repeat(np.arange(len(window)), window).tolist(),
        }
        questions += [{"method": "psi", **smooth}, {"method": "jensenshannon", **smooth}]
        questions += [{"method": "ks", **numbers, "kind": "num"}]
    with start_evidently() as evidently:
        said = iter(evidently.drift_many(questions))
    for training, window in cases:
        assert drift.psi(window, training) == pytest.approx(next(said), abs=EXACT)
        assert drift.jensen_shannon(window, training) == pytest.approx(next(said) ** 2 / np.log(2), abs=EXACT)
        own = ks_2samp(*(np.repeat(np.arange(len(one)), one) for one in (training, window)))
        assert drift.ks(window, training) == pytest.approx(own.statistic, abs=EXACT)
        assert own.pvalue == pytest.approx(next(said), abs=EXACT)
