"""What only MLflow can do, in a process of its own: `log PREFIX` registers plain models, `load URI` asks one."""

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
    """Register models as MLflow's users do, one in each format."""
    estimator = LogisticRegression(max_iter=1000).fit(X, LABELS)
    for kind in ("skops", "cloudpickle"):
        name = f"{prefix}-{kind}"
        made = mlflow.sklearn.log_model(
            estimator,
            name="model",
            registered_model_name=name,
            serialization_format=kind,
            pip_requirements=[],  # finding them out starts another process
        )
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
