"""Models of LightGBM in its text format, which contains trees, feature names and categories, and no code."""

import re
from typing import Any

import lightgbm
import numpy as np
from sklearn.preprocessing import LabelEncoder

from modeltrace.bundles.proxies.native_trees import validate_lightgbm
from modeltrace.bundles.proxies.plain import plain_items

CLASSIFIER_OBJECTIVES = ("binary", "multiclass", "multiclassova")


def dump(estimator: Any) -> tuple[dict[str, Any], bytes | None]:  # noqa: ANN401  an estimator of LightGBM
    """Return the attributes of an estimator and its model, which is `None` before `fit`."""
    fitted = estimator.__sklearn_is_fitted__()
    return plain_items(vars(estimator)), estimator.booster_.model_to_string().encode() if fitted else None


def load(kind: type[Any], attributes: dict[str, Any], content: bytes | None) -> Any:  # noqa: ANN401  see `dump`
    """Return the estimator that `dump` was called with.

    Raises:
        BundleError: the model contains an invalid tree.
    """
    # LightGBM has no public function that makes an estimator from a model, so set the attributes that `fit` sets.
    state: dict[str, Any] = dict(attributes)
    if content is not None:
        booster = lightgbm.Booster(model_str=validate_lightgbm(content.decode()))
        columns = booster.num_feature()
        state |= {"_Booster": booster, "_n_features": columns, "_n_features_in": columns, "fitted_": True}
        if state.get("_classes") is not None:
            state["_le"] = LabelEncoder()
            state["_le"].classes_ = state["_classes"]
    estimator = kind()
    vars(estimator).update(state)
    return estimator


def read(content: bytes) -> Any:  # noqa: ANN401  a model of LightGBM
    """Return the model of a file that `save_model` wrote."""
    return lightgbm.Booster(model_str=content.decode())


def wrap(booster: Any, labels: Any) -> Any:  # noqa: ANN401  a model of LightGBM; a series or None; an estimator
    """Return a classifier or regressor with a model.

    Args:
        booster: the model. It contains the number of classes but not their names.
        labels: the labels of the training data. The classes are their sorted values, as in LightGBM's own classifier,
            if there are as many, and otherwise 0, 1, ….
    """
    content = booster.model_to_string().encode()
    objective = re.search(r"^objective=(\w+)", content.decode(), re.MULTILINE)
    name = "regression" if objective is None else objective[1]
    if name not in CLASSIFIER_OBJECTIVES:
        return load(lightgbm.LGBMRegressor, {"_objective": name}, content)
    n_classes = max(booster.num_model_per_iteration(), 2)
    classes = np.arange(n_classes)
    if labels is not None and labels.nunique() == n_classes:
        classes = np.unique(labels.dropna().to_numpy())
    attributes = {"_objective": name, "_classes": classes, "_n_classes": n_classes}
    return load(lightgbm.LGBMClassifier, attributes, content)
