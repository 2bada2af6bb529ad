"""A regressor with two more regressors, which predict the bounds of its prediction intervals."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin, is_regressor
from sklearn.utils.validation import check_is_fitted

from modeltrace.errors import PackError


class IntervalRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor, and two regressors that were fitted on the same data to predict a lower and an upper quantile.

    `predict` is that of `estimator`. `modeltrace.pack` corrects the quantiles so that the intervals enclose the stated
    share of labels (conformalized quantile regression: Romano, Patterson, Candès, 2019).

    Args:
        estimator: the regressor that predicts values.
        lower: a regressor of a lower quantile, for example `GradientBoostingRegressor(loss="quantile", alpha=0.05)`.
        upper: a regressor of an upper quantile.

    Example:
        >>> modeltrace.pack(IntervalRegressor(model, lower, upper), X, y, name="price")  # doctest: +SKIP
    """

    def __init__(self, estimator: Any, lower: Any, upper: Any) -> None:  # noqa: ANN401  any regressors
        self.estimator = estimator
        self.lower = lower
        self.upper = upper

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  any attribute
        # The fitted attributes, for example `feature_names_in_`, are those of the regressor of values.
        if name.endswith("_") and not name.startswith("_") and "estimator" in self.__dict__:
            return getattr(self.estimator, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name}")

    def __sklearn_is_fitted__(self) -> bool:
        for model in (self.estimator, self.lower, self.upper):
            check_is_fitted(model)
        return True

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803, ANN401  scikit-learn's names
        """Fit the three regressors."""
        for model in (self.estimator, self.lower, self.upper):
            model.fit(X, y)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803, ANN401  scikit-learn's name
        """Return the values of the regressor."""
        return self.estimator.predict(X)

    def predict_quantiles(self, X: Any) -> NDArray[np.float64]:  # noqa: N803, ANN401  scikit-learn's name
        """Return the quantiles, an array of the shape (n_rows, 2), the smaller one of each row first."""
        quantiles = [np.asarray(model.predict(X), dtype=np.float64).ravel() for model in (self.lower, self.upper)]
        return np.sort(np.stack(quantiles, axis=1), axis=1)


def value_estimator(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """Return the estimator that predicts values: that of an `IntervalRegressor`, or the estimator itself."""
    return estimator.estimator if isinstance(estimator, IntervalRegressor) else estimator


def add_quantile_models(estimator: Any, lower: Any, upper: Any) -> IntervalRegressor:  # noqa: ANN401  any estimators
    """Return a regressor with the models of its quantiles.

    Raises:
        PackError: one of them is not a regressor.
    """
    for option, model in (("the model", estimator), ("--lower", lower), ("--upper", upper)):
        if not is_regressor(model):
            raise PackError(f"{option}: a {type(model).__name__} is not a regressor, which prediction intervals need")
    return IntervalRegressor(estimator, lower, upper)
