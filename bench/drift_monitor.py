"""Drift checks of many windows at once, against training data that is drawn from a data set of scikit-learn."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeltrace.bundles.columns import describe_column
from modeltrace.bundles.output_reference import build_output_reference, confidence_threshold
from modeltrace.inference.model import Model, Task, make_predict_fn
from modeltrace.inference.schema import MISSING, OTHER, Feature, Reference, Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.drift_check import DriftResult, WindowCounts, check_drift
from modeltrace.monitoring.reference_metrics import OUTPUTS, critical_values

TRAINING_SHARE: Final = 0.7
FIXED_PSI: Final = "psi above 0.1"
Floats = NDArray[np.float64]


class Dataset(NamedTuple):
    """A data set of scikit-learn and the estimator that is fitted on it."""

    name: str
    load: Callable[..., Any]
    estimator: Callable[[], Any]
    task: Task


def _scaled(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    return make_pipeline(StandardScaler(), estimator)


DATASETS: Final = (
    Dataset("breast-cancer", load_breast_cancer, lambda: _scaled(LogisticRegression()), "classifier"),
    Dataset("digits", load_digits, GaussianNB, "classifier"),
    Dataset("diabetes", load_diabetes, Ridge, "regressor"),
    Dataset("wine", load_wine, lambda: _scaled(LogisticRegression()), "classifier"),
)  # fmt: skip


class DriftMonitor:
    """Drift checks against a training sample that is drawn from a population with replacement."""

    def __init__(self, data: Dataset, population: pd.DataFrame, target: NDArray[Any], rng: np.random.Generator) -> None:
        drawn = rng.integers(len(population), size=round(TRAINING_SHARE * len(population)))
        training = population.iloc[drawn]
        estimator = data.estimator().fit(training.to_numpy(), target[drawn])
        predict = make_predict_fn(estimator, data.task)
        classes = tuple(estimator.classes_.tolist()) if data.task == "classifier" else None
        training_outputs, outputs = predict(training.to_numpy()), predict(population.to_numpy())
        self.schema = Schema(features=tuple(describe_column(training[name]) for name in training.columns))
        self.output_reference = build_output_reference(training_outputs, [], classes)
        threshold = confidence_threshold(training_outputs, [], classes)
        model = Model(
            data.name, "1", "", data.task, classes, self.schema, as_frame=False, created="", predict_fn=predict,
            output_reference=self.output_reference, confidence_threshold=threshold,
        )  # fmt: skip
        self.critical_values: dict[str, dict[str, float]] = {}
        for (name, statistic), value in critical_values(model).items():
            self.critical_values.setdefault(name, {})[statistic] = value
        bin_of_label = {label: index for index, label in enumerate(self.output_reference.shares)}
        if classes is None:
            self._output_bins = np.searchsorted(
                self.output_reference.edges or (), [output.value or 0.0 for output in outputs]
            )
        else:
            self._output_bins = np.array([bin_of_label[str(output.label)] for output in outputs])
        self._low_confidence = np.array([(output.confidence or 0.0) < (threshold or 0.0) for output in outputs])
        self._values = population.to_numpy(dtype=np.float64)

    def find_alarms(self, row_counts: NDArray[np.int64]) -> dict[tuple[str, str], NDArray[np.bool_]]:
        """Return which windows raise an alarm, by feature and statistic. A vectorized `check_drift`.

        Args:
            row_counts: how often each row of the population is in each window, shape (n_windows, n_rows).
        """
        n = int(row_counts[0].sum())
        alarms: dict[tuple[str, str], NDArray[np.bool_]] = {}
        for index, feature in enumerate(self.schema.features):
            values = self._values[:, index]
            bins = np.searchsorted(feature.reference.edges or (), values)
            alarms |= self._compare_bins(feature.name, feature.reference, bins, row_counts)
            if (critical := self.critical_values[feature.name].get(drift.MEAN_CHANGE)) is not None:
                mean = feature.reference.mean or 0.0
                change = np.abs(row_counts @ values / n - mean) / drift.mean_scale(mean, feature.reference.deviation)
                limit = drift.threshold(drift.MEAN_CHANGE, critical, n, feature.reference.n)
                alarms[feature.name, drift.MEAN_CHANGE] = change > limit
        alarms |= self._compare_bins(OUTPUTS, self.output_reference, self._output_bins, row_counts)
        if (critical := self.critical_values[OUTPUTS].get(drift.LOW_CONFIDENCE)) is not None:
            low = row_counts @ self._low_confidence / n
            alarms[OUTPUTS, drift.LOW_CONFIDENCE] = low > drift.low_confidence_threshold(critical, n)
        return alarms

    def _compare_bins(
        self, name: str, reference: Reference, bins: NDArray[np.intp], row_counts: NDArray[np.int64]
    ) -> dict[tuple[str, str], NDArray[np.bool_]]:
        counts = row_counts @ np.eye(len(reference.shares), dtype=np.int64)[bins]
        training = np.array(list(reference.shares.values())) * reference.n
        numeric_bins = [index for index, name in enumerate(reference.shares) if name not in (MISSING, OTHER)]
        values = {
            drift.PSI: drift.psi(counts, training),
            drift.JENSEN_SHANNON: drift.jensen_shannon(counts, training),
            drift.KS: drift.ks(counts[:, numeric_bins], training[numeric_bins]),
        }
        n = int(row_counts[0].sum())
        alarms = {
            (name, statistic): value > drift.threshold(statistic, critical, n, reference.n)
            for statistic, value in values.items()
            if (critical := self.critical_values[name].get(statistic)) is not None
        }
        return {**alarms, (name, FIXED_PSI): values[drift.PSI] > drift.MIN_EFFECT[drift.PSI]}

    def check_feature(self, feature: Feature, values: Floats, row_counts: NDArray[np.int64]) -> list[DriftResult]:
        """Check one window for drift of one feature, with the given values instead of those of the population."""
        reference = feature.reference
        bins = np.searchsorted(reference.edges or (), values)
        counts = np.bincount(bins, row_counts, len(reference.shares)).astype(int)
        return check_drift(
            reference, WindowCounts(counts.tolist(), float(row_counts @ values)), self.critical_values[feature.name]
        )


def draw_windows(rng: np.random.Generator, rows: int, size: int, *, windows: int) -> NDArray[np.int64]:
    """Draw `size` rows with replacement for each window. Return the count of each row, shape (n_windows, n_rows)."""
    return rng.multinomial(size, np.full(rows, 1 / rows), size=windows)


def load_population(data: Dataset) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the rows and the target of a data set."""
    features, target = data.load(return_X_y=True)
    return pd.DataFrame(features, columns=[f"f{index:02d}" for index in range(features.shape[1])]), np.asarray(target)
