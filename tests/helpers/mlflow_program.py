"""Program that calls MLflow in another process: `log PREFIX` registers plain models, `load URI` predicts with one."""

import json
import os
import sys

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ALLOW_PICKLE_DESERIALIZATION="true")

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from tests.helpers.estimators import LABELS, X


def log(prefix: str) -> None:
    """Register one model per serialization format, as MLflow's users do."""
    estimator = LogisticRegression(max_iter=1000).fit(X, LABELS)
    for serialization_format in ("skops", "cloudpickle"):
        name = f"{prefix}-{serialization_format}"
        model = mlflow.sklearn.log_model(
            estimator,
            name="model",
            registered_model_name=name,
            serialization_format=serialization_format,
            pip_requirements=[],  # inferring them would start another process
        )
        MlflowClient().set_registered_model_alias(name, "champion", str(model.registered_model_version))


def load(uri: str) -> None:
    """Load a model in both ways and print its predictions."""
    predictions = {
        "sklearn": mlflow.sklearn.load_model(uri).predict(X).tolist(),
        "pyfunc": mlflow.pyfunc.load_model(uri).predict(X).tolist(),
    }
    print(json.dumps(predictions))  # noqa: T201  the test reads stdout


if __name__ == "__main__":
    {"log": log, "load": load}[sys.argv[1]](*sys.argv[2:])
