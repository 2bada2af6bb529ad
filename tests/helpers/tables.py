"""A table with a column of each type, its schema, and an estimator for it."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modeltrace.bundles.column_schema import describe_column
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import Schema
from modeltrace.inference.validate import RowValidator


def predict_row(model: Model, **row: Any) -> ModelOutput:
    """Return the answer to one row."""
    return model.predict(to_matrix([RowValidator(model.schema).validate(row)], model.schema, as_frame=model.as_frame))[
        0
    ]


def customers(n: int = 120) -> pd.DataFrame:
    """Return a table with a column of each type and missing values, like one read from a CSV file."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": rng.lognormal(10, 1, n),
            "city": pd.Series(rng.choice(["Bonn", "other", "missing"], n), dtype="str"),
            "vip": rng.random(n) > 0.5,
        }
    )
    table.loc[::7, "income"] = np.nan
    table.loc[3::11, "city"] = None
    return table


def customers_without_gaps(n: int = 120) -> pd.DataFrame:
    """Return `customers` without missing values."""
    data = customers(n).fillna({"income": 1000.0, "city": "Trier"})
    assert not data.isna().any().any()
    return data


def forest_pipeline() -> Any:
    """Return an estimator that accepts any value of the columns of `customers`."""
    return make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough"),
        RandomForestClassifier(5, random_state=0),
    )


def schema_of(data: pd.DataFrame) -> Schema:
    """Return the schema of training data without privacy rules."""
    return Schema(features=tuple(describe_column(data[name]) for name in data.columns))


def mlflow_rows() -> pd.DataFrame:
    """Return rows with the columns and dtypes of a pyfunc of `tests.helpers.mlflow_program`."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "income": rng.normal(size=220),
            "calls": rng.integers(0, 4, 220),
            "plan": rng.choice(["basic", "plus"], 220),
            "premium": rng.random(220) < 0.2,
        }
    )


def churned(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return what the pyfunc `Churn` of `tests.helpers.mlflow_program` predicts for rows of `mlflow_rows`."""
    score = rows.income + rows.calls * np.where(rows.plan == "basic", 1, -1)
    return pd.Series(np.where((score > 0) | rows.premium, "yes", "no"), name="churned")
