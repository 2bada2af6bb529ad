"""The predict functions of outlier detectors, clusterers, estimators with several outputs, and transformers."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modeltrace.errors import InferenceError
from modeltrace.inference.features import Matrix
from modeltrace.inference.model import Label, ModelOutput, PredictFn, to_json_label
from modeltrace.inference.tasks import Task
from modeltrace.outlier_labels import INLIER, OUTLIER

DISTANCE: Final = "distance"  # of a clusterer: from the row to the centre of its cluster
# Outlier detectors of scikit-learn whose label is -1 if and only if the score is negative.
_SIGN_DETECTORS: Final = ("EllipticEnvelope", "IsolationForest", "LocalOutlierFactor", "SGDOneClassSVM")


def last_step(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """Return the last step of a pipeline, or the estimator itself."""
    while steps := getattr(estimator, "steps", None):
        estimator = steps[-1][1]
    return estimator


def cluster_labels(estimator: Any) -> tuple[Label, ...]:  # noqa: ANN401  any clusterer
    """Return the labels of the clusters of a fitted clusterer, in order."""
    model = last_step(estimator)
    for name in ("cluster_centers_", "means_"):  # k-means and others; Gaussian mixtures
        if (centers := getattr(model, name, None)) is not None:
            return tuple(range(len(centers)))
    labels = getattr(model, "subcluster_labels_", getattr(model, "labels_", ()))  # Birch; others
    return tuple(to_json_label(label) for label in np.unique(labels))


def classes_of(estimator: Any, task: Task) -> tuple[Label, ...] | None:  # noqa: ANN401  any estimator
    """Return the labels that an estimator can predict, in order; `None` if it predicts no label."""
    match task:
        case "classifier":
            return tuple(to_json_label(label) for label in getattr(estimator, "classes_", ()))
        case "outlier_detector":
            return OUTLIER, INLIER
        case "clusterer":
            return cluster_labels(estimator)
        case _:
            return None


def has_distances(estimator: Any) -> bool:  # noqa: ANN401  any clusterer
    """Return whether a clusterer computes the distances of a row to the centres of the clusters."""
    return hasattr(estimator, "transform") and not hasattr(estimator, "predict_proba")


def make_task_fn(estimator: Any, task: Task) -> PredictFn:  # noqa: ANN401  any estimator
    """Return the predict function of an estimator that is neither a classifier nor a regressor with one output."""
    if task == "outlier_detector":
        return partial(_detect, estimator, type(last_step(estimator)).__name__ in _SIGN_DETECTORS)
    if task == "clusterer":
        return partial(_cluster, estimator, has_distances(estimator), hasattr(last_step(estimator), "cluster_centers_"))
    if task == "transformer":
        return partial(_transform, estimator)
    if not hasattr(estimator, "classes_"):
        return lambda matrix: to_number_outputs(estimator.predict(matrix))
    return lambda matrix: _to_label_outputs(estimator.predict(matrix))


def to_number_outputs(predicted: Any) -> list[ModelOutput]:  # noqa: ANN401  whatever an estimator returns
    """Convert a matrix with several numbers for each row.

    Raises:
        InferenceError: it has another shape, or contains a number that is not finite.
    """
    array = np.asarray(predicted.toarray() if hasattr(predicted, "toarray") else predicted, dtype=np.float64)
    return [ModelOutput(outputs=tuple(row)) for row in _finite(_matrix(array)).tolist()]


def _to_label_outputs(predicted: Any) -> list[ModelOutput]:  # noqa: ANN401  whatever an estimator returns
    matrix = _matrix(np.asarray(predicted.toarray() if hasattr(predicted, "toarray") else predicted))
    return [ModelOutput(outputs=tuple(map(to_json_label, row))) for row in matrix]


def _transform(estimator: Any, matrix: Matrix) -> list[ModelOutput]:  # noqa: ANN401  any estimator
    transformed = estimator.transform(matrix)
    if len(matrix) == 1 and np.ndim(transformed) == 1:  # SparsePCA returns one row as a vector
        transformed = np.reshape(transformed, (1, -1))
    return to_number_outputs(transformed)


def _detect(estimator: Any, by_sign: bool, matrix: Matrix) -> list[ModelOutput]:  # noqa: ANN401, FBT001  see `make_task_fn`
    scores = _finite(np.asarray(estimator.decision_function(matrix), dtype=np.float64).ravel())
    labels = np.where(scores < 0, OUTLIER, INLIER) if by_sign else np.asarray(estimator.predict(matrix))
    pairs = zip(labels.tolist(), scores.tolist(), strict=True)
    return [ModelOutput(int(label), outputs=(score,)) for label, score in pairs]


def _cluster(estimator: Any, with_distances: bool, has_one_center: bool, matrix: Matrix) -> list[ModelOutput]:  # noqa: ANN401, FBT001  see `make_task_fn`
    labels = np.asarray(estimator.predict(matrix))
    if not with_distances:
        return [ModelOutput(to_json_label(label)) for label in labels]
    distances = np.asarray(estimator.transform(matrix), dtype=np.float64)
    # Birch has several centres in a cluster, and the label is that of the nearest one.
    nearest = distances[np.arange(len(labels)), labels] if has_one_center else distances.min(axis=1)
    pairs = zip(labels, _finite(nearest).tolist(), strict=True)
    return [ModelOutput(to_json_label(label), outputs=(distance,)) for label, distance in pairs]


def _matrix(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 2:
        raise InferenceError(f"the model returned the shape {array.shape}, not several outputs for each row")
    return array


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(numbers).all():
        raise InferenceError("the model returned a number that is not finite")
    return numbers


def output_classes(estimator: Any, predicted: Sequence[ModelOutput]) -> list[tuple[Label, ...] | None]:  # noqa: ANN401  any estimator
    """Return the classes of each output of an estimator with several outputs; `None` for a number.

    An estimator with one list of classes for all outputs predicts whether a row has each class.
    """
    width = len(predicted[0].outputs or ())
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return [None] * width
    if isinstance(classes, list) and len(classes) == width:
        return [tuple(to_json_label(label) for label in of_output) for of_output in classes]
    kinds = sorted({label for output in predicted for label in output.outputs or ()} | {0, 1}, key=str)
    return [tuple(kinds)] * width
