# mypy: ignore-errors
# What it imports is in MLflow's environment alone.
"""The model in MLflow's format, written to the folder that BENCH_FOLDER names; with BENCH_TELEMETRY one that traces."""

import os
from pathlib import Path

import joblib
import mlflow
import numpy as np


class TracedPredictor(mlflow.pyfunc.PythonModel):
    """The same estimator behind a traced function: MLflow traces nothing of a scikit-learn model by itself."""

    def __init__(self, estimator: object) -> None:
        self.estimator = estimator

    @mlflow.trace(name="predict")
    def predict(self, context: object, model_input: np.ndarray) -> np.ndarray:  # noqa: ARG002  MLflow's signature
        """Probabilities of the classes, a row each."""
        return self.estimator.predict_proba(np.asarray(model_input))


def main() -> None:
    """Write the model."""
    estimator = joblib.load(os.environ["BENCH_MODEL"])
    folder = Path(os.environ["BENCH_FOLDER"])
    if "BENCH_TELEMETRY" in os.environ:
        mlflow.pyfunc.save_model(folder, python_model=TracedPredictor(estimator), pip_requirements=[])
    else:
        mlflow.sklearn.save_model(estimator, folder, pyfunc_predict_fn="predict_proba", pip_requirements=[])


if __name__ == "__main__":
    main()
