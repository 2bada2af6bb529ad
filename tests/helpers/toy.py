"""A classifier whose behaviour follows from the value of `a`: high or low confidence, slow, or failing."""

import importlib
import sys
from pathlib import Path

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modeltrace.bundles.pack import pack
from tests.helpers.held_out import set_held_out

CONFIDENT, LOW_CONFIDENCE, SLOW, FAILING = 2.0, 50.5, 14.0, 13.0
SLOW_SECONDS = 0.4
MODULE_NAME = "toy_model_of_the_tests"
MODULE_SOURCE = f"""
import time

import numpy as np

class BrokenError(Exception):
    pass

def work(X):
    values = np.asarray(X, dtype=float)[:, 0]
    if {FAILING} in values:
        raise BrokenError("thirteen: of all numbers\\nthis one")
    if {SLOW} in values:
        time.sleep({SLOW_SECONDS})
    return X
"""


def pack_toy(folder: Path) -> tuple[Path, dict[str, str]]:
    """Pack the model and return its bundle, and the environment variables to serve it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{MODULE_NAME}.py").write_text(MODULE_SOURCE)
    training = pd.DataFrame({"a": [float(n) for n in range(101) if n not in (FAILING, SLOW)]}).assign(
        b=lambda t: t.a / 7, c=lambda t: t.a % 2 == 0
    )
    sys.path.insert(0, str(folder))
    try:
        step = FunctionTransformer(importlib.import_module(MODULE_NAME).work)
        estimator = make_pipeline(step, LogisticRegression()).fit(training.to_numpy(dtype=float), training.a > 50)
        target = (training.a > 50).rename("large")
        bundle = pack(estimator, training, target, name="toy", out=folder / "bundle", artifact_format="joblib")
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(MODULE_NAME, None)
    set_held_out(bundle, rows=500, accuracy=0.9, low_confidence_share=0.02)
    return bundle, {"PYTHONPATH": str(folder), "MODELTRACE_TRUST_PICKLE": "true"}


def row(a: float) -> dict[str, float]:
    """Return a row with this value of `a`."""
    return {"a": a, "b": a / 7, "c": a % 2 == 0}
