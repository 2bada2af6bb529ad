"""How much the distance of a window changes if its values are counted in bins."""

from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from bench.drift.real_data import load_real
from modeltrace.monitoring import drift


def measure_binning(rng: np.random.Generator) -> dict[str, Any]:
    """Compare KS of values with KS of bins, and PSI of 100 with 10 bins: medians over the features of breast-cancer."""
    table = load_real("breast-cancer").rows
    result: dict[str, Any] = {}
    for deviations in (0.0, 0.25, 0.5, 1.0):
        rows = []
        for name in table.columns:
            values = table[name].to_numpy(dtype=np.float64)
            training, window = rng.choice(values, 5000), rng.choice(values, 5000) + deviations * values.std()
            counts = []
            for bins in (10, 100):
                edges = np.unique(np.quantile(training, np.linspace(0, 1, bins + 1)[1:-1]))
                counts.append(
                    [np.bincount(np.searchsorted(edges, sample), minlength=bins) for sample in (window, training)]
                )
            ks = float(ks_2samp(training, window).statistic)
            rows.append((ks, drift.ks(*counts[0]), drift.psi(*counts[1]), drift.psi(*counts[0])))
        medians = np.median(rows, axis=0)
        max_ks_loss = float(np.max([raw - binned for raw, binned, _, _ in rows]))
        result[f"{deviations:g}"] = dict(
            zip(("ks", "ks of bins", "psi of 100 bins", "psi of 10 bins"), map(float, medians), strict=True)
        )
        result[f"{deviations:g}"]["max ks loss"] = max_ks_loss
    return result
