"""The models whose inputs are counted, each with what its training data was like.

A version that takes over is added before it answers. One that is no longer served keeps its bins, for its last records
are still to be counted; what is said of its training data ends.
"""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from modeltrace.telemetry.metrics.instruments import Instrument
from modeltrace.telemetry.records.prediction import ModelInfo, PredictedRow, PrivacyRules, RequestRecord, Value


class Bins(Protocol):
    """What knows where a value belongs."""

    @property
    def bin_names(self) -> Sequence[tuple[str, str]]:
        """All bins of all features, each by both names."""

    @property
    def numeric_names(self) -> Sequence[str]:
        """The features that have a mean."""

    @property
    def sum_columns(self) -> "NDArray[np.intp] | slice":
        """What takes their columns of `numbers`; others are private."""

    @property
    def exemplar_columns(self) -> "NDArray[np.intp] | slice":
        """What takes the columns of `place` in which a bin may lead to the request that fell into it."""

    def numeric_values(self, rows: Sequence[tuple[Value, ...]]) -> NDArray[np.float64]:
        """The values of all that have bins of numbers, shape (n_rows, n_numbers)."""

    def digitize(self, rows: Sequence[tuple[Value, ...]], numbers: NDArray[np.float64]) -> NDArray[np.intp]:
        """The places in `series` of all values, shape (n_rows, n_features)."""


class ReferenceData(NamedTuple):
    """The distribution of the data that the model was fitted on."""

    bins: Bins
    # What a comparison needs to know of it: by gauge, values with their attributes.
    gauges: Mapping[Instrument, Sequence[tuple[float, Mapping[str, str]]]]
    privacy_rules: PrivacyRules | None = None  # what may be told of inputs; none: all of it
    classes: tuple[object, ...] = ()  # what a classifier may answer


class ModelCatalog:
    """What is known of each model. Of any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[ModelInfo, ReferenceData] = {}
        self._served: dict[ModelInfo, ReferenceData] = {}
        self._private: PrivacyRules | None = None

    def add(self, model: ModelInfo, training: ReferenceData) -> None:
        """From now on this model may answer."""
        with self._lock:
            self._known[model] = self._served[model] = training
            self._private = training.privacy_rules or self._private

    def retire(self, model: ModelInfo) -> None:
        """It answers nothing new."""
        with self._lock:
            self._served.pop(model, None)

    def classes(self) -> Mapping[str, tuple[object, ...]]:
        """What those that answer, or have answered, may say, by their names; labels of either may still arrive."""
        found: dict[str, tuple[object, ...]] = {}
        with self._lock:
            for model, training in self._known.items():
                found[model.name] = (*found.get(model.name, ()), *training.classes)
        return found

    def bins(self, model: ModelInfo) -> Bins | None:
        """What its inputs are counted into; `None` for a model that was never added."""
        training = self._known.get(model)
        return training and training.bins

    def privacy_rules(self, model: ModelInfo) -> PrivacyRules | None:
        """What may be told of its inputs; `None` for all of it."""
        training = self._known.get(model)
        return training and training.privacy_rules

    def redact_rows(self, model: ModelInfo, answered: Sequence[PredictedRow]) -> Sequence[PredictedRow]:
        """Answered rows as they may be told."""
        rules = self.privacy_rules(model)
        return answered if rules is None else rules.redact_rows(answered)

    def redact_requests(self, records: Sequence[RequestRecord]) -> Sequence[RequestRecord]:
        """Requests as they may be told."""
        if self._private is None:
            return records
        known = [(record, self.privacy_rules(record.model) if record.model else None) for record in records]
        return [record if rules is None else rules.redact_request(record) for record, rules in known]

    def redact_exception(self, error: Exception) -> Exception:
        """An exception as it may be told."""
        return error if self._private is None else self._private.redact_exception(error)

    def served_models(self) -> list[tuple[ModelInfo, ReferenceData]]:
        """Those that may answer now; of a version in two roles one."""
        with self._lock:
            return list({(model.name, model.version): (model, one) for model, one in self._served.items()}.values())
