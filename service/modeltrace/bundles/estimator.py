"""What an estimator says of itself: what it is, what it was fitted on, and what of it is packed."""

from typing import Any

import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.utils.validation import check_is_fitted

from modeltrace.bundles.training_frame import convert_columns, find_vectorizer, name_columns, vectorizer_error
from modeltrace.bundles.verify_outputs import to_array
from modeltrace.errors import PackError
from modeltrace.inference.model import Task


def unwrap_search(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """The best estimator of a search, a tuned threshold as a fixed one; any other estimator itself."""
    if isinstance(estimator, TunedThresholdClassifierCV) and hasattr(estimator, "best_threshold_"):
        fixed = FixedThresholdClassifier(
            estimator.estimator,
            threshold=float(estimator.best_threshold_),
            pos_label=estimator._curve_scorer._get_pos_label(),  # noqa: SLF001  kept nowhere else
            response_method=estimator.response_method,
        )
        # What fit() would keep, without fitting anew.
        fixed.estimator_ = estimator.estimator_
        return fixed
    if not hasattr(estimator, "cv_results_") or not hasattr(estimator, "refit"):
        return estimator
    if not hasattr(estimator, "best_estimator_"):
        raise PackError(f"the {type(estimator).__name__} kept no best estimator; fit it with refit=True")
    return unwrap_search(estimator.best_estimator_)


def infer_task(estimator: Any) -> Task:  # noqa: ANN401  any estimator
    """What it answers.

    Raises:
        PackError: it is not fitted, or nothing that answers rows of a table.
    """
    kind = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise PackError(f"the {kind} is not fitted; fit it, then pack it") from None
    except TypeError:
        raise PackError(f"{kind} is no scikit-learn estimator") from None
    if (first := find_vectorizer(estimator)) is not None:
        raise vectorizer_error(first)
    if is_classifier(estimator):
        if not hasattr(estimator, "classes_") or isinstance(estimator.classes_, list):
            raise PackError(f"the {kind} answers several outputs at once; pack one model for each of them")
        return "classifier"
    if is_regressor(estimator):
        return "regressor"
    raise PackError(f"the {kind} is neither a classifier nor a regressor")


def select_fitted_columns(estimator: Any, training: pd.DataFrame) -> pd.DataFrame:  # noqa: ANN401  any estimator
    """The columns that the estimator was fitted on, in its order, with names that JSON can have.

    Raises:
        PackError: they are not there, or cannot be used.
    """
    training = name_columns(training)
    known = getattr(estimator, "feature_names_in_", None)
    # CatBoost's name for it; of a model fitted without names, it holds numbers.
    others = getattr(estimator, "feature_names_", None)
    if (known is None or not len(known)) and others and set(others) <= set(training.columns):
        known = others
    if known is not None and len(known):
        if missing := [column for column in known if column not in training.columns]:
            raise PackError(f"the training data lacks the column {missing[0]}, which the estimator was fitted on")
        return convert_columns(training[list(known)])
    # 0 where it does not know: CatBoost says so of a model that was loaded.
    expected = getattr(estimator, "n_features_in_", 0) or len(others or training.columns)
    if expected != len(training.columns):
        raise PackError(
            f"the estimator was fitted on {expected} columns, the training data has {len(training.columns)} "
            "(is the label's column named with --target?)"
        )
    return convert_columns(training)


def expects_frame(estimator: Any, sample: pd.DataFrame) -> bool:  # noqa: ANN401  any estimator
    """Whether it was fitted with column names; where it does not say, whether it refuses an array."""
    if hasattr(estimator, "feature_names_in_"):
        return True
    try:
        estimator.predict(to_array(sample))
    except Exception:  # noqa: BLE001  whatever it raises, an array is not what it takes
        return True
    return False
