"""A model with features of every privacy rule, rows with secret values, and the search for these values."""

import importlib
import struct
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modeltrace.bundles.pack import pack
from modeltrace.inference.schema import PRIVACY_RULES

MODULE_NAME = "model_with_secrets_of_the_tests"
# Accepts texts and numbers, always warns, and raises an exception when `fail` is 1; both messages contain all inputs.
MODULE_SOURCE = """
import warnings

import numpy as np

class LeakingError(Exception):
    pass

def work(X):
    inputs = X.to_dict(orient="records")
    warnings.warn(f"inputs: {inputs}")
    if (X["fail"].to_numpy() == 1).any():
        try:
            {}[str(inputs)]
        except KeyError as error:
            raise LeakingError(f"cannot process {inputs}") from error
    return np.column_stack([X[name].fillna(0) for name in X.columns if name.endswith("number")])
"""
TEXTS = {rule: f"geheim-{rule}-4711" for rule in PRIVACY_RULES}
NUMBERS = {rule: 8675309.0625 + 1000.5 * index for index, rule in enumerate(PRIVACY_RULES)}
PRIVATE_RULES = tuple(rule for rule in PRIVACY_RULES if rule != "plain")


def row_with_secrets(**more: Any) -> dict[str, Any]:
    """Return a row with a secret value in each feature."""
    texts = {f"{rule} text": TEXTS[rule] for rule in PRIVACY_RULES}
    numbers = {f"{rule} number": NUMBERS[rule] for rule in PRIVACY_RULES}
    return {**texts, **numbers, "fail": 0, **more}


def training_data() -> pd.DataFrame:
    """Return training rows with every secret: half of the texts, but once for `bucket`; the largest number."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"fail": [0] * 200})
    for rule in PRIVACY_RULES:
        common = [f"city {n}" for n in range(21)] if rule == "bucket" else ["Bonn", TEXTS[rule]]
        table[f"{rule} text"] = [*np.resize(common, 199), TEXTS[rule]]
        table[f"{rule} number"] = [*rng.normal(0, 1e6, 199), NUMBERS[rule]]
    return table[list(row_with_secrets())]


def pack_secrets(folder: Path) -> tuple[Path, dict[str, str]]:
    """Pack the model; return its bundle and the environment variables to serve it."""
    (folder / f"{MODULE_NAME}.py").write_text(MODULE_SOURCE)
    data = training_data()
    sys.path.insert(0, str(folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = FunctionTransformer(importlib.import_module(MODULE_NAME).work)
            estimator = make_pipeline(step, LogisticRegression())
            estimator.fit(data, data["plain number"] > 0)
            bundle = pack(
                estimator,
                data,
                name="secrets",
                out=folder / "bundle",
                artifact_format="joblib",
                privacy={f"{rule} {kind}": rule for rule in PRIVACY_RULES for kind in ("text", "number")},
                allowed_violations={"hash number": ("type", "missing")},
            )
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(MODULE_NAME, None)
    return bundle, {"PYTHONPATH": str(folder), "MODELTRACE_TRUST_PICKLE": "true"}


def encodings(value: str | float) -> list[bytes]:
    """Return the encodings of a value: text, digits, and a double in both byte orders."""
    if isinstance(value, str):
        return [value.encode(), value.encode("utf-16-le")]
    digits = {repr(value), str(int(value)), f"{value:g}", f"{value:,}"}
    return [*(text.encode() for text in digits), struct.pack("<d", value), struct.pack(">d", value)]


def leaked_secrets(content: bytes, rules: tuple[str, ...] = PRIVATE_RULES) -> list[str]:
    """Return the secrets that occur in a content, each with its rule."""
    values: Mapping[str, list[str | float]] = {rule: [TEXTS[rule], NUMBERS[rule]] for rule in rules}
    return [
        f"{rule}: {value}" for rule in rules for value in values[rule] if any(f in content for f in encodings(value))
    ]


def read_files(path: Path) -> bytes:
    """Return the content of a file, or of all files of a folder."""
    return b"\0".join(file.read_bytes() for file in (path, *sorted(path.rglob("*"))) if file.is_file())
