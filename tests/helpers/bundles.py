"""Small bundles of one model in several versions, changes to their files, and rows for them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression

from modeltrace.bundles.pack import pack
from tests.helpers.estimators import LABELS, X, iris_frame


def pack_iris(out: Path, version: str, *, name: str = "iris", strength: float = 1.0, **options: Any) -> Path:
    """Pack a bundle of a version; another `strength` (the parameter C) gives another model."""
    estimator = LogisticRegression(C=strength, max_iter=1000).fit(X, LABELS)
    return pack(estimator, iris_frame(), name=name, version=version, out=out, **options)


def flip_byte(path: Path) -> None:
    """Change one byte of a file, without changing its length."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def edit_manifest(bundle: Path, **changes: Any) -> None:
    """Change fields of a bundle's model.json."""
    path = bundle / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def iris_rows(number: int) -> list[dict[str, float]]:
    """Return the first rows of the data as JSON objects."""
    names = list(iris_frame().columns)
    return [dict(zip(names, values, strict=True)) for values in X[:number].tolist()]


def held_out_rows(bundle: Path) -> list[dict[str, float]]:
    """Return the test rows of the example bundle, without their labels."""
    rows: list[dict[str, float]] = (
        pd.read_parquet(bundle / "traffic.parquet").drop(columns="target").to_dict(orient="records")
    )
    return rows
