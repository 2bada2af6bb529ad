"""A very cheap model with 30 numeric features and two classes, so that the count is mainly that of the service."""

import random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modeltrace.bin_names import numeric_bin_name
from modeltrace.inference.model import Model
from modeltrace.inference.predict_fns import make_predict_fn
from modeltrace.inference.schema import Feature, OutputReference, Reference, Schema

FEATURES: Final = 30
CLASSES: Final = ("benign", "malignant")


class Linear:
    """A logistic regression with fixed weights and the interface of scikit-learn."""

    __module__ = "sklearn.linear_model"  # the service calls classifiers of scikit-learn once, others twice
    classes_ = np.array(CLASSES)

    def __init__(self) -> None:
        self._weights = np.linspace(-1.0, 1.0, FEATURES)

    def predict_proba(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities of both classes, shape (n_rows, 2)."""
        second = 1 / (1 + np.exp(-(matrix * self._weights).sum(axis=1)))
        return np.column_stack((1 - second, second))

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.str_]:
        """Return the classes, shape (n_rows,). The service asks for them if the probabilities are equal."""
        classes: NDArray[np.str_] = self.classes_[self.predict_proba(matrix).argmax(axis=1)]
        return classes


def build_model() -> Model:
    """Build the model as if it was loaded from a bundle."""
    edges = tuple(-1 + 0.2 * number for number in range(1, 10))
    shares = {**dict.fromkeys(map(numeric_bin_name, range(10)), 0.1), "missing": 0.0, "other": 0.0}
    reference = Reference(n=1000, shares=shares, edges=edges, mean=0.0, deviation=0.5)
    features = tuple(
        Feature(name=f"feature_{number}", type="number", training_range=(-1, 1), example=0.5, reference=reference)
        for number in range(FEATURES)
    )
    return Model(
        name="counted",
        version="1.0.0",
        hash="0" * 64,
        task="classifier",
        classes=CLASSES,
        schema=Schema(features=features),
        as_frame=False,
        created="2026-01-01T00:00:00Z",
        predict_fn=make_predict_fn(Linear(), "classifier"),
        cpu_bound=True,
        output_reference=OutputReference(n=1000, shares=dict.fromkeys(CLASSES, 0.5)),
        confidence_threshold=0.6,
    )


def build_rows(number: int) -> list[dict[str, float]]:
    """Build `number` rows, which are the same in every run."""
    rng = random.Random(0)  # noqa: S311  not used for security
    return [{f"feature_{index}": rng.uniform(-1, 1) for index in range(FEATURES)} for _ in range(number)]
