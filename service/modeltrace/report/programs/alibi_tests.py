"""Alibi Detect's tests of a window against a reference: Kolmogorov-Smirnov, chi-square, MMD.

Runs in Alibi Detect's environment. Its argument is a JSON file that says what the two Parquet files hold
(`modeltrace.report.description`); its last line of output is what the tests say, in JSON.
"""

import json
import math
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore")

import alibi_detect  # noqa: E402  after the line that keeps it quiet
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from alibi_detect.cd import ChiSquareDrift, KSDrift, MMDDrift  # noqa: E402
from alibi_detect.utils._random import set_seed  # noqa: E402
from alibi_detect.utils.frameworks import has_pytorch, has_tensorflow  # noqa: E402

LEVEL = 0.05
# MMD compares each row with each: of more than these, so many are drawn.
MMD_ROWS = 1000
PERMUTATIONS = 200
MISSING = "missing"
BACKEND = "tensorflow" if has_tensorflow else "pytorch" if has_pytorch else None


def single(kind, reference, window):
    """The test that fits a column: of numbers those that are there, of categories the missing ones as one more."""
    if kind == "number":
        one, other = (side.dropna().to_numpy(dtype=np.float64) for side in (reference, window))
        if not len(one) or not len(other):
            return None
        said = KSDrift(one.reshape(-1, 1), p_val=LEVEL).predict(other.reshape(-1, 1))["data"]
        return "kolmogorov_smirnov", said, len(one), len(other)
    one, other = (side.astype(object).where(side.notna(), MISSING) for side in (reference, window))
    values = sorted({*one, *other})
    if len(values) == 1:
        return "chi_square", {"distance": [0.0], "p_val": [1.0]}, len(one), len(other)
    codes = {value: code for code, value in enumerate(values)}
    one, other = (side.map(codes).to_numpy(dtype=np.float64).reshape(-1, 1) for side in (one, other))
    detector = ChiSquareDrift(one, p_val=LEVEL, categories_per_feature={0: list(range(len(values)))})
    return "chi_square", detector.predict(other)["data"], len(one), len(other)


def number(value):
    """A figure as JSON has it."""
    value = float(value)
    return value if math.isfinite(value) else None


def tests(columns, reference, window):
    """One test a column. Drift is where p is below the level divided by the number of tests (Bonferroni)."""
    found = []
    for name, kind in columns.items():
        said = single(kind, reference[name], window[name])
        if said is not None:
            test, data, n_reference, n_window = said
            found.append({
                "column": name, "test": test, "n_reference": n_reference, "n_window": n_window,
                "statistic": number(data["distance"][0]), "p_value": number(data["p_val"][0]),
            })  # fmt: skip
    threshold = LEVEL / max(len(found), 1)
    return [
        {**one, "threshold": threshold, "drift": one["p_value"] is not None and one["p_value"] < threshold}
        for one in found
    ]


def mmd(names, reference, window):
    """Maximum mean discrepancy of all numbers together, by Alibi Detect's permutation test."""
    one, other = (side[names].dropna() for side in (reference, window))
    if min(len(one), len(other)) < 2:
        return None
    middle, scale = one.mean(), one.std().replace(0, 1).fillna(1)
    rng = np.random.default_rng(0)
    one, other = (
        ((side - middle) / scale).to_numpy(dtype=np.float32)[
            rng.choice(len(side), min(len(side), MMD_ROWS), replace=False)
        ]
        for side in (one, other)
    )
    set_seed(0)  # the permutations: the same data have the same answer
    detector = MMDDrift(one, backend=BACKEND, p_val=LEVEL, n_permutations=PERMUTATIONS)
    said = detector.predict(other)["data"]
    return {
        "columns": names, "n_reference": len(one), "n_window": len(other), "statistic": number(said["distance"]),
        "p_value": number(said["p_val"]), "threshold": LEVEL, "permutations": PERMUTATIONS,
        "drift": bool(said["is_drift"]),
    }  # fmt: skip


def main():
    """Test; print what the tests say."""
    said = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, sys.stdout = sys.stdout, sys.stderr  # what the library prints is no summary
    columns = said["columns"]
    reference, window = (pd.read_parquet(said[side], columns=list(columns)) for side in ("reference", "window"))
    numbers = [name for name in said["features"] if columns[name] == "number"]
    numbers = [name for name in numbers if reference[name].notna().any() and window[name].notna().any()]
    answer = {
        "library": f"Alibi Detect {alibi_detect.__version__}",
        "level": LEVEL,
        "tests": tests(columns, reference, window),
        "mmd": mmd(numbers, reference, window) if numbers and BACKEND else None,
    }
    print(json.dumps(answer), file=out)


if __name__ == "__main__":
    main()
