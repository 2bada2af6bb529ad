"""Small bundles for the catalog's tests."""

import json
from pathlib import Path
from typing import Any

from sklearn.linear_model import LogisticRegression

from service.inference.pack import pack
from tests.service.inference.estimators import LABELS, X, frame


def packed(out: Path, version: str, *, name: str = "iris", strength: float = 1.0, **options: Any) -> Path:
    """A bundle of that version; `strength` makes another model of it."""
    estimator = LogisticRegression(C=strength, max_iter=1000).fit(X, LABELS)
    return pack(estimator, frame(), name=name, version=version, out=out, **options)


def flip(path: Path) -> None:
    """Change one byte of a file, and not its length."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def rewrite(bundle: Path, **changes: Any) -> None:
    """Have a bundle's model.json say something else."""
    path = bundle / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
