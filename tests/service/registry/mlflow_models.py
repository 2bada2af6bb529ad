"""What only MLflow can do, in a process of its own: `log NAME FORMAT` registers a plain model, `load URI` asks one."""

import json
import os
import sys

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ALLOW_PICKLE_DESERIALIZATION="true")

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from tests.service.inference.estimators import LABELS, X


def log(name: str, kind: str) -> None:
    """Register a model as MLflow's users do."""
    estimator = LogisticRegression(max_iter=1000).fit(X, LABELS)
    made = mlflow.sklearn.log_model(estimator, name="model", registered_model_name=name, serialization_format=kind)
    MlflowClient().set_registered_model_alias(name, "champion", str(made.registered_model_version))


def load(uri: str) -> None:
    """Load a model in both ways and print what it answers."""
    answers = {
        "sklearn": mlflow.sklearn.load_model(uri).predict(X).tolist(),
        "pyfunc": mlflow.pyfunc.load_model(uri).predict(X).tolist(),
    }
    print(json.dumps(answers))  # noqa: T201  that is how it answers


if __name__ == "__main__":
    {"log": log, "load": load}[sys.argv[1]](*sys.argv[2:])
