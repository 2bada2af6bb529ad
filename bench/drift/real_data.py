"""Populations of real data: scikit-learn, river, and packages that are installed into an environment of their own."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
import platformdirs
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.drift.populations import Population
from bench.peers.environments import create_environment
from modeltrace.inference.tasks import Task

REQUIREMENTS: Final = Path(__file__).with_name("programs") / "tables.in"
PROGRAM: Final = Path(__file__).with_name("programs") / "export_tables.py"


def _scaled(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    return make_pipeline(StandardScaler(), estimator)


_SCIKIT_LEARN: Final[Mapping[str, tuple[Callable[..., Any], Callable[[], Any], Task]]] = {
    "breast-cancer": (load_breast_cancer, lambda: _scaled(LogisticRegression()), "classifier"),
    "digits": (load_digits, GaussianNB, "classifier"),
    "diabetes": (load_diabetes, Ridge, "regressor"),
    "wine": (load_wine, lambda: _scaled(LogisticRegression()), "classifier"),
}
# Data sets that are part of the package river; the others are downloaded.
_RIVER: Final = {
    "phishing": "Phishing",
    "image segments": "ImageSegments",
    "solar flares": "SolarFlare",
    "shuttle": "Shuttle",
    "polls": "TrumpApproval",
}
# Tables of the packages in tables.in; export_tables.py writes them.
_EXPORTED: Final = ("airports", "cars", "weather", "penguins", "fair", "randhie", "anes96", "star98")
REAL: Final = (*_SCIKIT_LEARN, *_RIVER, *_EXPORTED)


def load_real(name: str) -> Population:
    """Return the rows of a data set. Those of other packages must have been exported by `export_tables`."""
    if name in _SCIKIT_LEARN:
        load, estimator, task = _SCIKIT_LEARN[name]
        features, target = load(return_X_y=True)
        rows = pd.DataFrame(features, columns=[f"f{index:02d}" for index in range(features.shape[1])])
        return Population(name, rows, target=target, estimator=estimator, task=task)
    if name in _RIVER:
        from river import datasets  # noqa: PLC0415  slow to import

        return Population(name, pd.DataFrame([row for row, _ in getattr(datasets, _RIVER[name])()]))
    return Population(name, pd.read_parquet(_table_path(name)))


def needs_export(names: Sequence[str]) -> bool:
    """Return whether one of the data sets is in a package that is not installed here."""
    return bool(set(names) & set(_EXPORTED))


def export_tables(on_progress: Callable[[str], None]) -> None:
    """Write the tables of the packages in tables.in, once.

    Raises:
        InstallError: the packages cannot be installed.
    """
    requirements = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    python = create_environment("drift-tables", requirements, on_progress)
    if not all(_table_path(name).exists() for name in _EXPORTED):
        folder = _table_path("").parent
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, PROGRAM, folder], check=True)


def _table_path(name: str) -> Path:
    return platformdirs.user_cache_path("modeltrace") / "bench" / "drift" / f"{name}.parquet"
