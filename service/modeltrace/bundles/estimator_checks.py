"""Determine the task of an estimator, the columns that it was fitted on, and the part of it to pack."""

from typing import Any

import pandas as pd
from sklearn.base import is_classifier, is_outlier_detector, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.utils.validation import check_is_fitted

from modeltrace.bundles.training_frame import (
    convert_columns,
    name_columns,
    reject_dict_vectorizer,
    select_text_column,
)
from modeltrace.bundles.verify_outputs import to_array
from modeltrace.errors import PackError
from modeltrace.inference.tasks import Task
from modeltrace.inference.text_input import accepts_texts


def unwrap_search(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """Return the estimator to pack.

    For a search this is its best estimator, and for a tuned threshold an estimator with that fixed threshold. Any other
    estimator is returned unchanged.
    """
    if isinstance(estimator, TunedThresholdClassifierCV) and hasattr(estimator, "best_threshold_"):
        fixed = FixedThresholdClassifier(
            estimator.estimator,
            threshold=float(estimator.best_threshold_),
            pos_label=estimator._curve_scorer._get_pos_label(),  # noqa: SLF001  scikit-learn has no public attribute
            response_method=estimator.response_method,
        )
        # Set what `fit` would set, without fitting again.
        fixed.estimator_ = estimator.estimator_
        return fixed
    if not hasattr(estimator, "cv_results_") or not hasattr(estimator, "refit"):
        return estimator
    if not hasattr(estimator, "best_estimator_"):
        raise PackError(f"the {type(estimator).__name__} has no best_estimator_. Fit it with refit=True")
    return unwrap_search(estimator.best_estimator_)


def infer_task(estimator: Any) -> Task:  # noqa: ANN401  any estimator
    """Return the task of an estimator. Several outputs of a regressor are found by `describe_outputs`.

    Raises:
        PackError: it is not fitted, does not accept a table, or cannot predict or transform new rows.
    """
    kind = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise PackError(f"the {kind} is not fitted. Fit it before you pack it") from None
    except TypeError:
        raise PackError(f"{kind} is not a scikit-learn estimator") from None
    reject_dict_vectorizer(estimator)
    if is_classifier(estimator):
        if not hasattr(estimator, "classes_"):
            raise PackError(f"the {kind} is a classifier without the attribute classes_, which lists its classes")
        return "multi_output" if isinstance(estimator.classes_, list) else "classifier"
    if is_regressor(estimator):
        return "regressor"
    if hasattr(estimator, "predict"):
        # Gaussian mixtures are density estimators that predict the component of a row.
        return "outlier_detector" if is_outlier_detector(estimator) else "clusterer"
    if hasattr(estimator, "transform"):
        return "transformer"
    raise PackError(
        f"the {kind} can neither predict nor transform new rows, only the rows that it is fitted on. Use an estimator "
        "with predict or transform, for example KMeans, Birch or LocalOutlierFactor(novelty=True)"
    )


def select_fitted_columns(estimator: Any, training: pd.DataFrame) -> pd.DataFrame:  # noqa: ANN401  any estimator
    """Return the columns that the estimator was fitted on, in its order.

    Raises:
        PackError: columns are missing, or cannot be used.
    """
    training = name_columns(select_text_column(training) if accepts_texts(estimator) else training)
    fitted = getattr(estimator, "feature_names_in_", None)
    # CatBoost has another attribute for the names. It contains column numbers if the model was fitted without names.
    catboost_names = getattr(_first_step(estimator), "feature_names_", None)
    if (fitted is None or not len(fitted)) and catboost_names and set(catboost_names) <= set(training.columns):
        fitted = catboost_names
    if fitted is not None and len(fitted):
        if missing := [column for column in fitted if column not in training.columns]:
            raise PackError(f"the training data has no column {missing[0]}, which the estimator was fitted on")
        return convert_columns(training[list(fitted)])
    # CatBoost sets n_features_in_ to 0 in a model that was loaded from a file.
    expected = getattr(estimator, "n_features_in_", 0) or len(catboost_names or training.columns)
    if expected != len(training.columns):
        raise PackError(
            f"the estimator was fitted on {expected} columns, but the training data has {len(training.columns)}. If "
            "one of them is the label, name it with --target"
        )
    return convert_columns(training)


def _first_step(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """Return the first step of a pipeline, which gets the columns, or an estimator of another kind itself."""
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[0][1]
    return estimator


def expects_frame(estimator: Any, sample: pd.DataFrame) -> bool:  # noqa: ANN401  any estimator
    """Return whether an estimator needs a DataFrame: it was fitted with column names, or it fails on an array.

    An estimator that accepts a series of texts gets the column of a DataFrame.
    """
    if hasattr(estimator, "feature_names_in_") or accepts_texts(estimator):
        return True
    method = estimator.predict if hasattr(estimator, "predict") else estimator.transform
    try:
        method(to_array(sample))
    except Exception:  # noqa: BLE001  any exception means that it does not accept arrays
        return True
    return False
