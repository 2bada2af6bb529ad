"""The rows of the table in docs/models.md for estimators of other libraries than scikit-learn."""

from collections.abc import Callable, Iterator
from functools import partial

from tests.helpers import extension_models, mlflow_models, native_models
from tests.helpers.estimator_case import EstimatorCase, Fitted
from tests.helpers.native_models import FittedCase

# Cases whose names are those of estimators of scikit-learn.
_RENAMED = {
    "CalibratedClassifierCV": "CalibratedClassifierCV of LGBMClassifier",
    "VotingClassifier": "VotingClassifier of LGBMClassifier and CatBoostClassifier",
}
_QUICK = (
    "XGBClassifier",
    "LGBMRegressor",
    "CatBoostClassifier, texts",
    "imblearn: SMOTE",
    "category_encoders: WOEEncoder",
)


def library_cases() -> Iterator[EstimatorCase]:
    """Yield the cases of XGBoost, LightGBM and CatBoost, of imbalanced-learn and category_encoders, and of MLflow."""
    for name, fit in native_models.CASES.items():
        yield _case(_RENAMED.get(name, name), "XGBoost, LightGBM, CatBoost", fit)
    named = {_library_name(name): fit for name, fit in extension_models.cases().items()}
    for name, fit in sorted(named.items(), key=lambda item: (item[0].startswith("category"), item[0])):
        yield _case(name, "imbalanced-learn and category_encoders", fit)
    yield EstimatorCase("mlflow: LogisticRegression, flavor sklearn", "MLflow", mlflow_models.fit_sklearn_flavor)
    for model, answer in (("churn", "labels"), ("price", "numbers")):
        fit_pyfunc = partial(mlflow_models.fit_pyfunc, model)
        yield EstimatorCase(f"mlflow: pyfunc, {answer}", "MLflow", fit_pyfunc, artifact_format="joblib")


def _case(name: str, group: str, fit: Callable[[], FittedCase]) -> EstimatorCase:
    return EstimatorCase(name, group, lambda: Fitted(*fit()), quick=name in _QUICK)


def _library_name(name: str) -> str:
    """Return `LIBRARY: CLASS` for the dotted name of a class; the samplers of categories have no module."""
    library = name.partition(".")[0] if "." in name else "imblearn"
    return f"{library}: {name.rpartition('.')[2]}"
