"""Estimators of XGBoost, LightGBM and CatBoost, fitted on little data."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

ROWS = 300
XGBOOST = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1}
LIGHTGBM = {"n_estimators": 4, "num_leaves": 6, "n_jobs": 1, "verbose": -1}
CATBOOST = {"iterations": 4, "depth": 3, "thread_count": 1, "verbose": 0, "allow_writing_files": False}


class FittedCase(NamedTuple):
    """A fitted estimator, and the data that it was fitted on."""

    estimator: Any
    data: pd.DataFrame
    labels: "pd.Series[Any]"


def numbers() -> pd.DataFrame:
    """Return three columns of numbers, one with missing values."""
    columns = np.random.default_rng(0).normal(size=(ROWS, 3))
    columns[::9, 2] = np.nan
    return pd.DataFrame(columns, columns=["income", "balance", "age"])


def with_texts() -> pd.DataFrame:
    """Return the numbers and a column of texts."""
    return numbers().assign(city=np.random.default_rng(1).choice(["Bonn", "Köln", "Ulm"], ROWS))


def with_categories() -> pd.DataFrame:
    """Return the numbers and a column of the dtype `category`."""
    table = with_texts()
    # XGBoost 3.2 confuses names that are not ASCII if their order differs from that in training.
    return table.assign(city=pd.Categorical(table.city.replace("Köln", "Kiel"), ["Ulm", "Kiel", "Bonn"]))


def labels_of(table: pd.DataFrame, classes: tuple[Any, ...]) -> "pd.Series[Any]":
    """Return labels of two or three classes, or values for no classes."""
    score = table.income + (0.5 * table.balance if "city" not in table else table.city.astype(str).eq("Ulm"))
    if not classes:
        return score.rename("value")
    codes = pd.qcut(score, len(classes), labels=False)
    return pd.Series(np.array(classes)[codes], name="label")


def case(
    estimator: Any, table: Callable[[], pd.DataFrame], classes: tuple[Any, ...] = (), *, as_array: bool = False
) -> Callable[[], FittedCase]:
    """Return a function that fits an estimator on a table, or on an array without column names."""

    def fit() -> FittedCase:
        data = table()
        labels = labels_of(data, classes)
        return FittedCase(estimator.fit(data.to_numpy() if as_array else data, labels), data, labels)

    return fit


CASES: Mapping[str, Callable[[], FittedCase]] = {
    "XGBClassifier": case(XGBClassifier(**XGBOOST), numbers, (0, 1)),
    "XGBClassifier, three classes": case(XGBClassifier(**XGBOOST), numbers, (0, 1, 2)),
    "XGBClassifier, categories": case(XGBClassifier(**XGBOOST, enable_categorical=True), with_categories, (0, 1)),
    "XGBClassifier, array": case(
        XGBClassifier(**XGBOOST, missing=-1.0), lambda: numbers().fillna(-1), (0, 1), as_array=True
    ),
    "XGBRFClassifier": case(XGBRFClassifier(**XGBOOST), numbers, (0, 1)),
    "XGBRegressor": case(XGBRegressor(**XGBOOST), numbers),
    "XGBRegressor, dart": case(XGBRegressor(**XGBOOST, booster="dart"), numbers),
    "XGBRegressor, gblinear": case(XGBRegressor(n_estimators=4, n_jobs=1, booster="gblinear"), numbers),
    "XGBRFRegressor": case(XGBRFRegressor(**XGBOOST), numbers),
    "LGBMClassifier": case(LGBMClassifier(**LIGHTGBM), numbers, ("no", "yes")),
    "LGBMClassifier, three classes": case(LGBMClassifier(**LIGHTGBM), numbers, (3, 5, 7)),
    "LGBMClassifier, categories": case(LGBMClassifier(**LIGHTGBM), with_categories, (False, True)),
    "LGBMClassifier, array": case(LGBMClassifier(**LIGHTGBM), numbers, ("no", "yes"), as_array=True),
    "LGBMRegressor": case(LGBMRegressor(**LIGHTGBM), numbers),
    "LGBMRegressor, dart": case(LGBMRegressor(**LIGHTGBM, boosting_type="dart"), numbers),
    "LGBMRegressor, linear trees": case(LGBMRegressor(**LIGHTGBM, linear_tree=True), numbers),
    "CatBoostClassifier": case(CatBoostClassifier(**CATBOOST), numbers, ("no", "yes")),
    "CatBoostClassifier, three classes": case(CatBoostClassifier(**CATBOOST), numbers, (3, 5, 7)),
    "CatBoostClassifier, booleans": case(CatBoostClassifier(**CATBOOST), numbers, (False, True)),
    "CatBoostClassifier, texts": case(CatBoostClassifier(**CATBOOST, cat_features=["city"]), with_texts, ("no", "yes")),
    "CatBoostClassifier, categories": case(
        CatBoostClassifier(**CATBOOST, cat_features=["city"]), with_categories, (0, 1)
    ),
    "CatBoostClassifier, array": case(CatBoostClassifier(**CATBOOST), numbers, (0, 1), as_array=True),
    "CatBoostRegressor": case(CatBoostRegressor(**CATBOOST), numbers),
    "CatBoostRegressor, lossguide": case(CatBoostRegressor(**CATBOOST, grow_policy="Lossguide"), numbers),
    "Pipeline, XGBClassifier": case(make_pipeline(StandardScaler(), XGBClassifier(**XGBOOST)), numbers, (0, 1)),
    "Pipeline, LGBMClassifier": case(
        make_pipeline(StandardScaler(), LGBMClassifier(**LIGHTGBM)), numbers, ("a", "b", "c")
    ),
    "Pipeline, CatBoostClassifier": case(
        make_pipeline(StandardScaler(), CatBoostClassifier(**CATBOOST)), numbers, ("a", "b", "c")
    ),
    "VotingClassifier": case(
        VotingClassifier(
            [("lightgbm", LGBMClassifier(**LIGHTGBM)), ("catboost", CatBoostClassifier(**CATBOOST))], voting="soft"
        ),
        numbers,
        ("no", "yes"),
    ),
    "CalibratedClassifierCV": case(CalibratedClassifierCV(LGBMClassifier(**LIGHTGBM), cv=2), numbers, ("no", "yes")),
}
