"""Pipelines with the samplers of imbalanced-learn and the encoders of category_encoders, fitted on little data."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTEN, SMOTENC
from imblearn.pipeline import make_pipeline
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OrdinalEncoder

from modeltrace.bundles.trusted_extensions import EXTENSION_TYPES
from tests.helpers.native_models import FittedCase

ROWS = 240
TEXTS = ["city", "plan"]


def training_data() -> pd.DataFrame:
    """Return two columns of numbers and two of texts."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "income": rng.normal(size=ROWS),
            "balance": rng.normal(size=ROWS),
            "city": rng.choice(["Bonn", "Köln", "Ulm"], ROWS),
            "plan": rng.choice(["basic", "plus"], ROWS),
        }
    )


def unbalanced(table: pd.DataFrame) -> "pd.Series[Any]":
    """Return labels of which about a fifth are 1."""
    score = table.income + 0.5 * table.balance
    return pd.Series(np.where(score > score.quantile(0.8), 1, 0), name="churned")


def fit_encoder(kind: type[Any]) -> FittedCase:
    """Fit a pipeline that encodes two columns of texts."""
    data = training_data()
    labels = unbalanced(data)
    pipeline = make_pipeline(kind(cols=TEXTS), LogisticRegression(max_iter=1000))
    return FittedCase(pipeline.fit(data, labels), data, labels)


def fit_sampler(kind: type[Any]) -> FittedCase:
    """Fit a pipeline that samples rows in training, or a classifier that does so itself."""
    data = training_data().drop(columns=TEXTS)
    labels = unbalanced(data)
    if not hasattr(kind, "fit_resample"):
        return FittedCase(kind(n_estimators=3, random_state=0).fit(data, labels), data, labels)
    sampler = kind(random_state=0) if "random_state" in kind().get_params() else kind()
    return FittedCase(make_pipeline(sampler, LogisticRegression()).fit(data, labels), data, labels)


def fit_categorical_sampler(sampler: Any) -> FittedCase:
    """Fit a pipeline whose sampler expects columns of categories."""
    data = training_data()
    data = data[TEXTS] if isinstance(sampler, SMOTEN) else data
    pipeline = make_pipeline(OrdinalEncoder(), sampler, LogisticRegression())
    labels = unbalanced(training_data())
    return FittedCase(pipeline.fit(data, labels), data, labels)


def cases() -> Mapping[str, Callable[[], FittedCase]]:
    """Return a function that fits a model by the name of each reviewed type."""
    functions: dict[str, Callable[[], FittedCase]] = {
        "SMOTEN": lambda: fit_categorical_sampler(SMOTEN(random_state=0)),
        "SMOTENC": lambda: fit_categorical_sampler(SMOTENC([2, 3], random_state=0)),
    }
    for name in sorted(EXTENSION_TYPES):
        module, _, kind = name.rpartition(".")
        if kind in (*functions, "Pipeline", "StringDtype"):
            continue
        fit = fit_sampler if module.startswith("imblearn") else fit_encoder
        functions[name] = partial(fit, getattr(importlib.import_module(module), kind))
    return functions
