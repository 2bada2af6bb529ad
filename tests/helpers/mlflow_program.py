"""Program that calls MLflow in another process.

`log PREFIX` registers plain models, `load URI` predicts with one, and `save FOLDER` saves models into subfolders.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ALLOW_PICKLE_DESERIALIZATION="true")

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from tests.helpers.estimators import LABELS, X
from tests.helpers.tables import mlflow_rows


def log(prefix: str) -> None:
    """Register one model per serialization format, and a pyfunc, as MLflow's users do."""
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
    rows = mlflow_rows()
    name = f"{prefix}-pyfunc"
    mlflow.pyfunc.log_model(
        python_model=Churn(),
        name="model",
        registered_model_name=name,
        signature=infer_signature(rows, np.array(["yes"])),
        input_example=rows[:40],
        pip_requirements=[],
    )
    MlflowClient().set_registered_model_alias(name, "champion", "1")


def load(uri: str) -> None:
    """Load a model in both ways and print its predictions."""
    predictions = {
        "sklearn": mlflow.sklearn.load_model(uri).predict(X).tolist(),
        "pyfunc": mlflow.pyfunc.load_model(uri).predict(X).tolist(),
    }
    print(json.dumps(predictions))  # noqa: T201  the test reads stdout


class Churn(mlflow.pyfunc.PythonModel):
    """Predict a label from columns of four types."""

    def predict(self, model_input: Any) -> Any:
        """Return `yes` or `no` for each row."""
        score = model_input["income"] + model_input["calls"] * np.where(model_input["plan"] == "basic", 1, -1)
        return np.where((score > 0) | model_input["premium"], "yes", "no")


class Price(mlflow.pyfunc.PythonModel):
    """Predict a value, in a frame with one column."""

    def predict(self, model_input: Any) -> Any:
        """Return a value for each row."""
        if model_input["calls"].dtype != np.int32:
            raise TypeError(f"calls has the dtype {model_input['calls'].dtype}")
        return pd.DataFrame({"price": model_input["income"] * 2 + model_input["calls"]})


def save(folder: str) -> None:
    """Save a pyfunc of each task, and a model of the flavor sklearn in two formats."""
    rows = mlflow_rows()
    with_plan = infer_signature(rows, np.array(["yes"]))
    numbers = rows[["income", "calls"]].astype({"calls": "int32"})
    pyfuncs: dict[str, tuple[Any, Any]] = {
        "churn": (Churn(), with_plan),
        "price": (Price(), infer_signature(numbers, np.array([1.5]))),
    }
    pyfuncs["example"] = pyfuncs["churn"]
    examples = {"example": rows[:40]}
    for name, (model, signature) in pyfuncs.items():
        mlflow.pyfunc.save_model(
            Path(folder, name),
            python_model=model,
            signature=signature,
            input_example=examples.get(name),
            pip_requirements=[],
        )
    estimator = LogisticRegression(max_iter=1000).fit(X, LABELS)
    for serialization_format in ("skops", "cloudpickle"):
        mlflow.sklearn.save_model(
            estimator,
            Path(folder, serialization_format),
            serialization_format=serialization_format,
            pip_requirements=[],
        )


if __name__ == "__main__":
    {"log": log, "load": load, "save": save}[sys.argv[1]](*sys.argv[2:])
