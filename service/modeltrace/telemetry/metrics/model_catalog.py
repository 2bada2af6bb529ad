"""The models of this process, each with its reference data and its privacy rules.

A version is added before it serves. After it has been replaced, its records are still counted and redacted, but its
reference data is no longer reported.
"""

from collections.abc import Mapping, Sequence
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from modeltrace.telemetry.metrics.instruments import Instrument
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import PredictedRow, PrivacyRules, RequestRecord, Value


class Bins(Protocol):
    """Assigns values to the bins of their features."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the features."""

    @property
    def bin_names(self) -> Sequence[tuple[str, str]]:
        """Feature and bin of each bin of all features."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """The score of each bin of all features; NaN for bins of categories."""

    @property
    def numeric_names(self) -> Sequence[str]:
        """Numeric features whose mean is reported."""

    @property
    def sum_columns(self) -> "NDArray[np.intp] | slice":
        """Columns of `numeric_values` whose sums are reported; other features are private."""

    @property
    def exemplar_columns(self) -> "NDArray[np.intp] | slice":
        """Columns of `digitize` whose bins may have exemplars."""

    def numeric_values(self, rows: Sequence[tuple[Value, ...]]) -> NDArray[np.float64]:
        """Return the values of the numeric features, shape (n_rows, n_numeric_features)."""

    def digitize(self, rows: Sequence[tuple[Value, ...]], numbers: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the index of the bin of each value, shape (n_rows, n_features)."""


class OutputBins(Protocol):
    """Assigns named outputs to their bins."""

    @property
    def monitored(self) -> object:
        """The distributions; equal ones have the same bins."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the monitored outputs."""

    @property
    def bin_names(self) -> Sequence[tuple[str, str]]:
        """Output and bin of each bin of all monitored outputs."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """The score of each bin of all monitored outputs; NaN for bins of labels."""

    def digitize(self, rows: Sequence[tuple[Value, ...] | None]) -> NDArray[np.intp]:
        """Return the index of the bin of each monitored output, shape (n_rows, n_outputs)."""


class Baseline(NamedTuple):
    """The errors of a model for rows that it was not fitted on."""

    rows: int  # held-out rows with a label
    error: float  # error rate of a classifier, mean absolute error of a regressor
    deviation: float | None = None  # of a regressor: standard deviation of the absolute errors


ModelKey = tuple[str, str, str]  # name, version and hash


class ReferenceData(NamedTuple):
    """The reference data of a model: bins, gauges, privacy rules, classes and baseline."""

    bins: Bins
    # For each gauge of `REFERENCE_GAUGES`, its values with their attributes.
    gauges: Mapping[Instrument, Sequence[tuple[float, Mapping[str, str]]]]
    # The score of each bin of a regressor's predictions, by name; empty for a classifier.
    output_scores: Mapping[str, float] = MappingProxyType({})
    privacy_rules: PrivacyRules | None = None  # None: no feature is private
    classes: tuple[object, ...] = ()  # of a classifier, or of all outputs of a model with several outputs
    output_bins: OutputBins | None = None  # None: no named output is monitored
    baseline: Baseline | None = None  # None: the bundle has no errors for held-out rows


class ModelCatalog:
    """The models that this process serves or has served. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[ModelInfo, ReferenceData] = {}
        self._served: dict[ModelInfo, ReferenceData] = {}
        self._private: PrivacyRules | None = None

    def add(self, model: ModelInfo, reference: ReferenceData) -> None:
        """Add a model before it serves."""
        with self._lock:
            self._known[model] = self._served[model] = reference
            self._private = reference.privacy_rules or self._private

    def retire(self, model: ModelInfo) -> None:
        """Stop reporting the reference data of a model that has been replaced."""
        with self._lock:
            self._served.pop(model, None)

    def classes(self) -> Mapping[str, tuple[object, ...]]:
        """Return the classes of all versions, by name of the model. Labels of a retired version may still arrive."""
        classes: dict[str, tuple[object, ...]] = {}
        with self._lock:
            for model, reference in self._known.items():
                classes[model.name] = (*classes.get(model.name, ()), *reference.classes)
        return classes

    def baselines(self) -> Mapping[ModelKey, Baseline]:
        """Return the known baselines of all versions."""
        with self._lock:
            return {
                (model.name, model.version, model.hash): reference.baseline
                for model, reference in self._known.items()
                if reference.baseline
            }

    def reference(self, model: ModelInfo) -> ReferenceData | None:
        """Return the reference data of a model; `None` if the model was never added."""
        return self._known.get(model)

    def privacy_rules(self, model: ModelInfo) -> PrivacyRules | None:
        """Return the privacy rules of a model; `None` if no feature is private."""
        reference = self._known.get(model)
        return reference and reference.privacy_rules

    def redact_rows(self, model: ModelInfo, rows: Sequence[PredictedRow]) -> Sequence[PredictedRow]:
        """Return predicted rows with redacted inputs."""
        rules = self.privacy_rules(model)
        return rows if rules is None else rules.redact_rows(rows)

    def redact_requests(self, records: Sequence[RequestRecord]) -> Sequence[RequestRecord]:
        """Return records with redacted inputs."""
        if self._private is None:
            return records
        with_rules = [(record, self.privacy_rules(record.model) if record.model else None) for record in records]
        return [record if rules is None else rules.redact_request(record) for record, rules in with_rules]

    def redact_exception(self, error: Exception) -> Exception:
        """Return an exception without its message if any model has private features."""
        return error if self._private is None else self._private.redact_exception(error)

    def served_models(self) -> list[tuple[ModelInfo, ReferenceData]]:
        """Return the models that serve; a version in two roles appears once."""
        with self._lock:
            served = {(model.name, model.version): (model, reference) for model, reference in self._served.items()}
        return list(served.values())
