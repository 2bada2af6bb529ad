# mypy: ignore-errors
# Its imports are installed only in the environment of MLflow.
"""Write the model in the format of MLflow to the folder BENCH_FOLDER. BENCH_TELEMETRY turns tracing on."""

import os
from pathlib import Path

import joblib
import mlflow
import numpy as np


class TracedPredictor(mlflow.pyfunc.PythonModel):
    """The estimator in a traced function, because MLflow does not trace scikit-learn models by itself."""

    def __init__(self, estimator: object) -> None:
        self.estimator = estimator

    @mlflow.trace(name="predict")
    def predict(self, context: object, model_input: np.ndarray) -> np.ndarray:  # noqa: ARG002  MLflow's signature
        """Return the probabilities of the classes, shape (n_rows, n_classes)."""
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
