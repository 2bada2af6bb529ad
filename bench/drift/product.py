"""The drift check of the product, applied to samples. Only this module depends on how the product computes drift.

`Monitor` builds schema, references and critical values from training data as `pack` does. It counts windows with the
product's own bins, and checks them with `check_drift`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.drift.populations import Population
from modeltrace.bundles.cross_validation import CrossValidationError, cross_validate
from modeltrace.bundles.duplicate_probability import duplicate_probability
from modeltrace.bundles.held_out_rows import HeldOutPredictions, summarize
from modeltrace.bundles.output_reference import build_output_reference, confidence_threshold
from modeltrace.bundles.training_frame import convert_columns, name_columns
from modeltrace.bundles.training_schema import build_schema
from modeltrace.bundles.verify_outputs import to_rows
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.model import ModelOutput, to_json_label
from modeltrace.inference.monitored_outputs import MonitoredOutputs
from modeltrace.inference.predict_fns import make_predict_fn
from modeltrace.inference.schema import Feature, OutputReference
from modeltrace.monitoring import drift
from modeltrace.monitoring.binning import FeatureBins, Row
from modeltrace.monitoring.dependence import count_processes
from modeltrace.monitoring.drift_check import DriftResult, WindowCounts, check_confidence, check_drift, compare
from modeltrace.monitoring.reference_gauges import OUTPUTS, critical_values
from modeltrace.telemetry.metrics.row_dependence import sum_differences

Integers = NDArray[np.intp]
# The name of the model's outputs in the tables.
PREDICTION: Final = "prediction"
# Seconds that cross-validation may take; no population reaches it.
TIME_LIMIT: Final = 600.0


class BinnedRows(NamedTuple):
    """Rows in the bins of a model.

    Attributes:
        bins: the bin number of each value, shape (n_rows, n_features). The last column is the model's outputs, if any.
        low_confidence: whether the model's confidence is low, shape (n_rows,).
    """

    bins: Integers
    low_confidence: NDArray[np.bool_]


class Window(NamedTuple):
    """The counts of a window: by bin number, and the number of rows with low confidence."""

    counts: NDArray[np.int64]
    low_confidence: int


class Dependence(NamedTuple):
    """Half the squared differences of consecutive rows, summed for each feature, and the pairs of each process."""

    differences: NDArray[np.float64]
    pairs: list[int]


class FeatureSeries(NamedTuple):
    """The counts of one feature, or of the model's outputs, in each of many windows.

    Attributes:
        counts: shape (n_windows, n_bins).
        low_confidence: rows with low confidence, shape (n_windows,).
    """

    counts: NDArray[np.int64]
    low_confidence: NDArray[np.int64]

    def accumulate(self) -> "FeatureSeries":
        """Return the sums over all windows before each window. There is one more than there are windows."""
        return FeatureSeries(*(np.concatenate([np.zeros_like(values[:1]), values.cumsum(axis=0)]) for values in self))

    def between(self, starts: Integers, ends: Integers) -> "FeatureSeries":
        """Return the differences of accumulated sums."""
        return FeatureSeries(*(values[ends] - values[starts] for values in self))


class SeriesResult(NamedTuple):
    """One statistic of many windows: value, threshold and number of rows of each, shape (n_windows,)."""

    statistic: str
    values: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    n: NDArray[np.int64]
    training: float  # rows of the training data
    has_reference: bool

    def drifting(self) -> NDArray[np.bool_]:
        """Return whether the state of each window is drift."""
        return self.has_reference & (self.n >= drift.MIN_ROWS) & (np.abs(self.values) > self.thresholds)

    def states(self) -> list[drift.DriftState]:
        """Return the state of each window."""
        return [
            drift.drift_state(value, threshold, n, self.training, has_reference=self.has_reference)
            for value, threshold, n in zip(self.values.tolist(), self.thresholds.tolist(), self.n.tolist(), strict=True)
        ]


class Outputs(NamedTuple):
    """The outputs of a fitted model: their reference, and one for each row of the population."""

    reference: OutputReference | None = None
    confidence_threshold: float | None = None
    held_out: HeldOut | None = None
    outputs: Sequence[ModelOutput] = ()  # for each row of the population


NO_OUTPUTS: Final = Outputs()


class _MonitoredModel(NamedTuple):
    features: Sequence[Feature]
    output_reference: OutputReference | None
    monitored_outputs: MonitoredOutputs | None
    confidence_threshold: float | None
    held_out: HeldOut | None
    duplicate_probability: float | None


def request_rows(rows: pd.DataFrame) -> list[Row]:
    """Convert a table to rows as requests send them."""
    values: list[Any] = to_rows(rows)
    return values


class Monitor:
    """The bins and critical values of a model that is packed with a training sample."""

    def __init__(self, rows: pd.DataFrame, outputs: Outputs = NO_OUTPUTS, unseen: Integers | None = None) -> None:
        self._unseen = unseen  # the rows of the population from which windows are drawn; `None` for all rows
        training = convert_columns(name_columns(rows))
        self.schema = build_schema(
            training, valid_ranges={}, max_lengths={}, strict_categories=False, allowed_violations={},
            ignore_unknown=False,
        )  # fmt: skip
        self._feature_bins = FeatureBins(self.schema)
        self._outputs = outputs
        self._model = _MonitoredModel(
            self.schema.features, self._outputs.reference, None, self._outputs.confidence_threshold,
            self._outputs.held_out, duplicate_probability(training),
        )  # fmt: skip
        self._criticals: dict[str, dict[str, float]] = {}
        for (name, statistic), value in critical_values(self._model).items():
            self._criticals.setdefault(name, {})[statistic] = value
        sizes = [len(feature.reference.shares) for feature in self.schema.features]
        if self._outputs.reference:
            sizes.append(len(self._outputs.reference.shares))
        self._ends = np.cumsum(sizes)

    def bin(self, rows: Sequence[Row]) -> BinnedRows:
        """Return the bins of rows from `request_rows`. With a model, these must be the rows of the population."""
        numbers = self._feature_bins.numeric_values(rows)
        bins = self._feature_bins.digitize(rows, numbers)
        low = np.zeros(len(rows), dtype=np.bool_)
        reference, threshold, _, outputs = self._outputs
        if reference:
            bins = np.column_stack([bins, _output_bins(reference, outputs) + len(self._feature_bins.bin_names)])
        if threshold is not None:
            low = np.array([output.confidence is not None and output.confidence < threshold for output in outputs])
        return BinnedRows(bins, low)

    def draw(self, binned: BinnedRows, size: int, rng: np.random.Generator) -> Integers:
        """Draw the rows of a window."""
        return rng.choice(len(binned.bins) if self._unseen is None else self._unseen, size)

    def count(self, binned: BinnedRows, drawn: Integers) -> Window:
        """Count the drawn rows."""
        counts = np.bincount(binned.bins[drawn].ravel(), minlength=int(self._ends[-1]))
        return Window(counts, int(binned.low_confidence[drawn].sum()))

    def compare_requests(self, binned: BinnedRows, process_of_row: Integers) -> Dependence:
        """Compare the consecutive rows of each process. Each row is a request."""
        processes = [binned.bins[process_of_row == process] for process in np.unique(process_of_row)]
        differences = np.sum([sum_differences(self._feature_bins.scores, bins) for bins in processes], axis=0)
        return Dependence(differences, [len(bins) - 1 for bins in processes])

    def check(self, window: Window, dependence: Dependence | None = None) -> list[tuple[str, DriftResult]]:
        """Return each statistic of a window with the name of its feature."""
        by_feature = np.split(window.counts, self._ends[:-1])
        differences, pairs = dependence or Dependence(np.zeros(len(by_feature)), [])
        results = [
            (feature.name, result)
            for feature, counts, difference in zip(self.schema.features, by_feature, differences, strict=False)
            for result in check_drift(
                feature.reference,
                WindowCounts(
                    counts.tolist(), difference=difference, pairs=sum(pairs), processes=count_processes(pairs)
                ),
                self._criticals.get(feature.name, {}),
            )
        ]
        if self._outputs.reference:
            criticals = dict(self._criticals.get(OUTPUTS, {}))
            low_confidence = criticals.pop(drift.LOW_CONFIDENCE, None)
            window_counts = WindowCounts(by_feature[-1].tolist())
            held_out, reference = self._outputs.held_out, self._outputs.reference
            results += [
                (PREDICTION, result)
                for result in check_drift(reference, window_counts, criticals, has_reference=held_out is not None)
            ]
            if low_confidence is not None:
                n = int(by_feature[-1].sum())
                results.append((PREDICTION, check_confidence(window.low_confidence, n, low_confidence, held_out)))
        return results

    @property
    def names(self) -> list[str]:
        """The names of the features, and of the model's outputs, if any."""
        return [*self.schema.names, *([PREDICTION] if self._outputs.reference else [])]

    def count_series(
        self, binned: BinnedRows, index: int, drawn: Integers, windows: Integers, n_windows: int
    ) -> FeatureSeries:
        """Count the drawn rows of each window, for the feature at `index`. `windows` has the window of each row."""
        start, end = [0, *self._ends][index : index + 2]
        bins = windows * (end - start) + (binned.bins[:, index] - start)[drawn]
        counts = np.bincount(bins, minlength=n_windows * (end - start)).reshape(n_windows, end - start)
        low = np.zeros(n_windows, dtype=np.int64)
        if index == len(self.schema.names):
            low = np.bincount(windows[binned.low_confidence[drawn]], minlength=n_windows).astype(np.int64)
        return FeatureSeries(counts, low)

    def check_series(self, index: int, windows: FeatureSeries) -> Iterator[SeriesResult]:
        """Yield the result of each statistic. A vectorized `check` of one feature, or of the model's outputs."""
        is_output = index == len(self.schema.names)
        reference = self._outputs.reference if is_output else self.schema.features[index].reference
        assert reference is not None  # noqa: S101  there is an index for it
        held_out = self._outputs.held_out
        for statistic, critical in self._criticals.get(OUTPUTS if is_output else self.names[index], {}).items():
            training = float("nan")
            if statistic != drift.LOW_CONFIDENCE:
                value, limit, n, training = compare(statistic, critical, reference, windows.counts)
            elif held_out is not None and held_out.low_confidence_share is not None:
                n, training = windows.counts.sum(axis=1), held_out.rows
                with np.errstate(divide="ignore", invalid="ignore"):
                    value = windows.low_confidence / n
                    limit = drift.low_confidence_threshold(critical, n, training, held_out.low_confidence_share)
            else:
                continue
            yield SeriesResult(statistic, value, limit, n, training, not is_output or held_out is not None)


def draw_monitor(population: Population, n: int, rng: np.random.Generator) -> Monitor:
    """Draw `n` training rows, and fit the estimator of the population on them, if there is one."""
    rows, drawn = population.draw_training(rng, n)
    unseen = np.setdiff1d(np.arange(len(population.rows)), drawn) if population.unseen else None
    return Monitor(rows, NO_OUTPUTS if population.estimator is None else _fit(population, drawn), unseen)


def _fit(population: Population, drawn: Integers) -> Outputs:
    """Fit the estimator on the drawn rows. Return the reference of its outputs, and its outputs for all rows."""
    assert population.estimator is not None  # noqa: S101  the caller has checked it
    assert population.target is not None  # noqa: S101  a population with an estimator has a target
    matrix: NDArray[Any] = population.rows.to_numpy()
    estimator = population.estimator().fit(matrix[drawn], population.target[drawn])
    predict = make_predict_fn(estimator, population.task)
    classes = tuple(estimator.classes_.tolist()) if population.task == "classifier" else None
    training, labels = population.rows.iloc[drawn].reset_index(drop=True), population.target[drawn]
    try:
        positions, outputs = cross_validate(
            estimator, population.task, training, labels,
            as_frame=False, seconds=TIME_LIMIT, on_message=lambda _: None,
        )  # fmt: skip
    except CrossValidationError:  # as in small samples
        outputs = predict(matrix[drawn])
        return Outputs(
            build_output_reference(outputs, classes), confidence_threshold(outputs, classes), None, predict(matrix)
        )
    threshold = confidence_threshold(outputs, classes)
    predictions = HeldOutPredictions("cross_validation", outputs, [*map(to_json_label, labels[positions])])
    return Outputs(
        build_output_reference(outputs, classes, "cross_validation"),
        threshold,
        summarize(predictions, threshold),
        predict(matrix),
    )


def _output_bins(reference: OutputReference, outputs: Sequence[ModelOutput]) -> Integers:
    if reference.edges is not None:
        return np.searchsorted(reference.edges, [output.value or 0.0 for output in outputs])
    numbers = {label: number for number, label in enumerate(reference.shares)}
    return np.array([numbers[str(output.label)] for output in outputs], dtype=np.intp)
