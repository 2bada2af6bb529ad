"""A classifier that, like those of LightGBM and XGBoost, accepts a column only with the dtype category."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin


class NeedsCategories(ClassifierMixin, BaseEstimator):
    """Predicts the most frequent label of each level of the first of its columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def fit(self, X: pd.DataFrame, y: Any) -> "NeedsCategories":  # noqa: N803  scikit-learn's name
        """Store the most frequent label by level."""
        column = self._column(X)
        self.classes_ = np.unique(y)
        self.feature_names_in_ = X.columns.to_numpy()
        self.n_features_in_ = X.shape[1]
        self.labels_ = {level: pd.Series(y)[(column == level).to_numpy()].mode()[0] for level in column.cat.categories}
        return self

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:  # noqa: N803  scikit-learn's name
        """Return the label of the level of each row."""
        return np.array([self.labels_.get(level, self.classes_[0]) for level in self._column(X)], dtype=object)

    def _column(self, X: pd.DataFrame) -> Any:  # noqa: N803  scikit-learn's name
        for name in self.columns:
            if not isinstance(X[name].dtype, pd.CategoricalDtype):
                raise TypeError(f"the column {name} must have the dtype category")
        return X[self.columns[0]]
