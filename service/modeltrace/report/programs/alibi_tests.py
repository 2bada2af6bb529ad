"""Run Alibi Detect's tests of a window against a reference: Kolmogorov-Smirnov, chi-square, MMD.

Runs in Alibi Detect's virtual environment. The argument is a JSON file with the description of two Parquet files
(`modeltrace.report.comparison`); the last line of the output is the results as JSON.
"""

import json
import math
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore")

import alibi_detect  # noqa: E402  after the lines that silence it
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from alibi_detect.cd import ChiSquareDrift, KSDrift, MMDDrift  # noqa: E402
from alibi_detect.utils._random import set_seed  # noqa: E402
from alibi_detect.utils.frameworks import has_pytorch, has_tensorflow  # noqa: E402

LEVEL = 0.05
# The cost of MMD is quadratic in the number of rows, so it uses a random sample of this size.
MMD_ROWS = 1000
PERMUTATIONS = 200
MISSING = "missing"
BACKEND = "tensorflow" if has_tensorflow else "pytorch" if has_pytorch else None


def test_column(kind, reference, window):
    """Test a column. Missing numbers are omitted; missing categories count as a category."""
    if kind == "number":
        x_ref, x = (side.dropna().to_numpy(dtype=np.float64) for side in (reference, window))
        if not len(x_ref) or not len(x):
            return None
        result = KSDrift(x_ref.reshape(-1, 1), p_val=LEVEL).predict(x.reshape(-1, 1))["data"]
        return "kolmogorov_smirnov", result, len(x_ref), len(x)
    x_ref, x = (side.astype(object).where(side.notna(), MISSING) for side in (reference, window))
    values = sorted({*x_ref, *x})
    if len(values) == 1:
        return "chi_square", {"distance": [0.0], "p_val": [1.0]}, len(x_ref), len(x)
    codes = {value: code for code, value in enumerate(values)}
    x_ref, x = (side.map(codes).to_numpy(dtype=np.float64).reshape(-1, 1) for side in (x_ref, x))
    detector = ChiSquareDrift(x_ref, p_val=LEVEL, categories_per_feature={0: list(range(len(values)))})
    return "chi_square", detector.predict(x)["data"], len(x_ref), len(x)


def to_json_number(value):
    """Return a finite number as a float, and any other number as `None`."""
    value = float(value)
    return value if math.isfinite(value) else None


def test_columns(columns, reference, window):
    """Test each column. Drift is a p-value below the level divided by the number of tests (Bonferroni)."""
    results = []
    for name, kind in columns.items():
        result = test_column(kind, reference[name], window[name])
        if result is not None:
            test, data, n_reference, n_window = result
            results.append({
                "column": name, "test": test, "n_reference": n_reference, "n_window": n_window,
                "statistic": to_json_number(data["distance"][0]), "p_value": to_json_number(data["p_val"][0]),
            })  # fmt: skip
    threshold = LEVEL / max(len(results), 1)
    return [
        {**result, "threshold": threshold, "drift": result["p_value"] is not None and result["p_value"] < threshold}
        for result in results
    ]


def test_mmd(names, reference, window):
    """Test all numeric columns together with a permutation test of the maximum mean discrepancy."""
    x_ref, x = (side[names].dropna() for side in (reference, window))
    if min(len(x_ref), len(x)) < 2:
        return None
    mean, scale = x_ref.mean(), x_ref.std().replace(0, 1).fillna(1)
    rng = np.random.default_rng(0)
    x_ref, x = (
        ((side - mean) / scale).to_numpy(dtype=np.float32)[
            rng.choice(len(side), min(len(side), MMD_ROWS), replace=False)
        ]
        for side in (x_ref, x)
    )
    set_seed(0)  # makes the permutations, and so the result, reproducible
    detector = MMDDrift(x_ref, backend=BACKEND, p_val=LEVEL, n_permutations=PERMUTATIONS)
    result = detector.predict(x)["data"]
    return {
        "columns": names, "n_reference": len(x_ref), "n_window": len(x),
        "statistic": to_json_number(result["distance"]), "p_value": to_json_number(result["p_val"]),
        "threshold": LEVEL, "permutations": PERMUTATIONS, "drift": bool(result["is_drift"]),
    }  # fmt: skip


def main():
    """Run the tests and print the results."""
    description = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, sys.stdout = sys.stdout, sys.stderr  # keep the library's output out of the results
    columns = description["columns"]
    reference, window = (pd.read_parquet(description[side], columns=list(columns)) for side in ("reference", "window"))
    numbers = [name for name in description["features"] if columns[name] == "number"]
    numbers = [name for name in numbers if reference[name].notna().any() and window[name].notna().any()]
    results = {
        "library": f"Alibi Detect {alibi_detect.__version__}",
        "level": LEVEL,
        "tests": test_columns(columns, reference, window),
        "mmd": test_mmd(numbers, reference, window) if numbers and BACKEND else None,
    }
    print(json.dumps(results), file=out)


if __name__ == "__main__":
    main()
