"""The importance of each feature for the model, which weighs the drift of features."""

from typing import Annotated, Literal

from pydantic import Field

from modeltrace.inference.schema import StrictModel

Finite = Annotated[float, Field(allow_inf_nan=False)]


class FeatureImportance(StrictModel):
    """By how much the model is worse if the values of a feature are shuffled: mean and deviation over the repeats."""

    mean: Finite
    deviation: Annotated[Finite, Field(ge=0)]


class Importance(StrictModel):
    """Permutation importance for test rows with labels (Breiman, Machine Learning 2001).

    The importance is the decrease of the accuracy of a classifier, or the increase of the mean absolute error of a
    regressor.
    """

    metric: Literal["accuracy", "mean_absolute_error"]
    # The metric without shuffled values.
    score: Finite
    rows: int = Field(ge=1)
    repeats: int = Field(ge=1)
    features: dict[str, FeatureImportance]

    def shares(self) -> dict[str, float]:
        """Return the share of each feature in the sum of the importances. An importance below 0 counts as 0."""
        positive = {name: max(feature.mean, 0.0) for name, feature in self.features.items()}
        total = sum(positive.values())
        return {name: value / total if total else 0.0 for name, value in positive.items()}
