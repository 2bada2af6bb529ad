"""Models of CatBoost in its format `cbm`, which contains trees, classes and feature names, and no code."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import catboost

from modeltrace.bundles.proxies.plain import plain_items

CLASSIFIER_LOSSES = ("Logloss", "MultiClass", "MultiClassOneVsAll", "Focal")


def dump(estimator: Any) -> tuple[dict[str, Any], bytes | None]:  # noqa: ANN401  an estimator of CatBoost
    """Return the parameters of an estimator and its model, which is `None` before `fit`."""
    # CatBoost orders the parts of a fitted model and of a loaded one differently; the latter order does not change.
    content = _to_bytes(read(_to_bytes(estimator))) if estimator.is_fitted() else None
    return plain_items(estimator.get_params()), content


def _to_bytes(model: Any) -> bytes:  # noqa: ANN401  a fitted model of CatBoost
    """Return the content of the file that `save_model` writes."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.cbm")
        model.save_model(str(file))
        return file.read_bytes()


def load(kind: type[Any], parameters: dict[str, Any], content: bytes | None) -> Any:  # noqa: ANN401  see `dump`
    """Return the estimator that `dump` was called with."""
    estimator = kind(**parameters)
    if content is not None:
        estimator.load_model(blob=content)
    return estimator


def read(content: bytes) -> Any:  # noqa: ANN401  a model of CatBoost
    """Return the model of a file that `save_model` wrote."""
    return catboost.CatBoost().load_model(blob=content)


def wrap(model: Any, _labels: object) -> Any:  # noqa: ANN401  a model of CatBoost; an estimator
    """Return a classifier or regressor with a model."""
    loss = str(model.get_all_params().get("loss_function", ""))
    is_classifier = loss.partition(":")[0] in CLASSIFIER_LOSSES
    return load(catboost.CatBoostClassifier if is_classifier else catboost.CatBoostRegressor, {}, _to_bytes(model))
