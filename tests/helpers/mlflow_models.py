"""Models that MLflow has saved, for the table of docs/models.md."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from modeltrace.bundles.artifact import load_artifact
from modeltrace.bundles.mlflow_folder import find_estimator, read_pyfunc
from tests.helpers.estimator_case import Fitted
from tests.helpers.estimators import LABELS, iris_frame
from tests.helpers.tables import churned, mlflow_rows


def _save(folder: str) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.helpers.mlflow_program", "save", folder]
    subprocess.run(command, check=True, capture_output=True)


def fit_sklearn_flavor() -> Fitted:
    """Return the estimator of a model of the flavor sklearn, as `pack` reads it from the folder."""
    with TemporaryDirectory() as folder:
        _save(folder)
        found = find_estimator(Path(folder, "skops"))
        assert found is not None
        estimator = load_artifact(found[0].read_bytes(), "skops", source=found[0], trust_pickle=False, trusted_types=())
    return Fitted(estimator, iris_frame(), LABELS)


def fit_pyfunc(name: str) -> Fitted:
    """Return a pyfunc, as `pack` reads it from the folder. `name` is a folder of the program."""
    rows = mlflow_rows()
    with TemporaryDirectory() as folder:
        _save(folder)
        model = read_pyfunc(Path(folder, name), trust_pickle=True)
    target = churned(rows) if name == "churn" else None
    return Fitted(model, model.prepare(rows, target), target)
