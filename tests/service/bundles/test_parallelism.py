"""`pack` warns of estimators that predict with threads or processes of joblib."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeltrace.bundles.pack import pack

TABLE = pd.DataFrame(np.random.default_rng(0).random((60, 2)), columns=["width", "height"])
KINDS = np.where(TABLE["width"] > 0.5, "bolt", "nut")


def messages(estimator: Any, out: Path) -> list[str]:
    """Pack a fitted estimator, and return the messages about parallelism."""
    collected: list[str] = []
    estimator.fit(TABLE, KINDS)
    pack(estimator, TABLE, KINDS, name="m", out=out, cross_validation_seconds=0, on_message=collected.append)
    return [message for message in collected if "n_jobs" in message]


PARALLEL = {
    "threads": (RandomForestClassifier(3, n_jobs=-1), "n_jobs=-1", "estimator.set_params(n_jobs=1)"),
    "processes": (BaggingClassifier(n_estimators=4, n_jobs=2), "n_jobs=2", "estimator.set_params(n_jobs=1)"),
    "neighbors": (KNeighborsClassifier(n_jobs=3), "n_jobs=3", "estimator.set_params(n_jobs=1)"),
    "a step": (
        make_pipeline(ColumnTransformer([("scale", StandardScaler(), ["width"])], n_jobs=2), LogisticRegression()),
        "n_jobs=2",
        "estimator.set_params(columntransformer__n_jobs=1)",
    ),
    "a part": (
        VotingClassifier([("forest", RandomForestClassifier(3, n_jobs=2)), ("linear", LogisticRegression())]),
        "n_jobs=2",
        "estimator.set_params(forest__n_jobs=1)",
    ),
}


@pytest.mark.parametrize("name", PARALLEL)
def test_a_parallel_prediction_is_a_warning_with_the_remedy(name: str, tmp_path: Path) -> None:
    """The message has the value and the call that changes it. After this call, the message is gone."""
    estimator, value, remedy = PARALLEL[name]

    (message,) = messages(estimator, tmp_path / "parallel")

    assert message.startswith(f"Warning: the estimator predicts with {value}, so each worker")
    assert remedy in message
    parameter = remedy.partition("(")[2].partition("=")[0]
    assert messages(estimator.set_params(**{parameter: 1}), tmp_path / "sequential") == []


@pytest.mark.parametrize(
    "estimator",
    [OneVsRestClassifier(LogisticRegression(), n_jobs=2), RandomForestClassifier(3)],
    ids=["fit", "default"],
)
def test_other_estimators_have_no_warning(estimator: Any, tmp_path: Path) -> None:
    """`n_jobs` of an estimator that only fits in parallel does not matter for the service."""
    assert messages(estimator, tmp_path / "m") == []
