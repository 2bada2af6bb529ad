"""Models of XGBoost in its UBJSON format, which contains trees, feature names and categories, and no code."""

import json
from typing import Any

import xgboost

from modeltrace.bundles.proxies.native_trees import validate_xgboost
from modeltrace.bundles.proxies.plain import plain_items


def dump(estimator: Any) -> tuple[dict[str, Any], bytes | None]:  # noqa: ANN401  an estimator of XGBoost
    """Return the parameters of an estimator and its model, which is `None` before `fit`."""
    content = bytes(estimator.get_booster().save_raw("ubj")) if estimator.__sklearn_is_fitted__() else None
    return plain_items(estimator.get_params(deep=False)), content


def load(kind: type[Any], parameters: dict[str, Any], content: bytes | None) -> Any:  # noqa: ANN401  see `dump`
    """Return the estimator that `dump` was called with.

    Raises:
        BundleError: the model contains an invalid tree.
    """
    estimator = kind(**parameters)
    if content is not None:
        estimator.load_model(bytearray(content))  # a bytearray is never a path
        validate_xgboost(bytes(estimator.get_booster().save_raw("json")))
    return estimator


def read(content: bytes) -> Any:  # noqa: ANN401  a model of XGBoost
    """Return the model of a file that `save_model` wrote, in UBJSON or JSON."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(content))
    return booster


def wrap(booster: Any, _labels: object) -> Any:  # noqa: ANN401  a model of XGBoost; an estimator
    """Return a classifier or regressor with a model. The classes of XGBoost are always 0, 1, …."""
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    is_classifier = objective.partition(":")[0] in ("binary", "multi")
    kind = xgboost.XGBClassifier if is_classifier else xgboost.XGBRegressor
    return load(kind, {}, bytes(booster.save_raw("ubj")))
