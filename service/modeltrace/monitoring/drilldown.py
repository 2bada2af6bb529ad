"""Drill-down for a drift alert: the predictions in the bins whose share has increased.

It reads the prediction store instead of metrics, because the store contains the trace IDs and all predictions,
independent of trace sampling.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from modeltrace.bin_names import describe_numeric_bins, numeric_bin_name
from modeltrace.errors import ModeltraceError
from modeltrace.inference.schema import Feature, Reference, Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.dependence import bin_scores
from modeltrace.monitoring.drift_check import (
    DriftResult,
    WindowCounts,
    check_confidence,
    check_drift,
    window_independent_share,
)
from modeltrace.monitoring.gauges import OUTPUTS, MonitoredModel, critical_values
from modeltrace.monitoring.segment_bins import segment_bins
from modeltrace.store.rows import StoredPrediction
from modeltrace.telemetry.metrics.row_dependence import half_squared_difference
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import PredictedRow, Value

# The name of the model's outputs, in place of a feature's name.
PREDICTION: Final = "prediction"
# A bin is listed as increased if its share has increased by this number of standard errors. Without drift, half of all
# bins increase a little.
STANDARD_ERRORS: Final = 2.0


class DrilldownError(ModeltraceError):
    """The predictions of a feature cannot be listed by bin."""


class TracedPrediction(NamedTuple):
    """A prediction in a bin.

    `trace_id` is `None` if telemetry was off. If `sampled` is false, the trace was not exported. `row` is the position
    in the request, because the rows of a batch share a trace. `value` is the feature's value, or the model's output.
    """

    trace_id: str | None
    prediction_id: str
    row: int
    value: Value
    time: int
    sampled: bool


@dataclass(frozen=True)
class Bin:
    """A bin with its shares and, if its share has increased, its latest predictions, newest first."""

    name: str
    bounds: str  # in words
    training_share: float
    window_share: float
    count: int
    increased: bool
    traces: list[TracedPrediction] = field(default_factory=list)


@dataclass(frozen=True)
class Drilldown:
    """The drift statistics and bins of a feature in a window."""

    feature: str
    rows: int
    erased: int  # predictions whose inputs were removed
    other_models: int  # predictions of another model with the same name and version; no other field includes them
    distinct: int  # distinct rows
    rows_repeat: bool  # whether the number of distinct rows is too low for independent rows
    results: list[DriftResult]
    bins: list[Bin]  # bins whose share has increased, then the others; each group by increase, largest first


def drill_down(
    model: MonitoredModel,
    info: ModelInfo,
    feature: str,
    predictions: Iterable[StoredPrediction],
    *,
    max_traces: int,
    model_hashes: Collection[str] = (),
) -> Drilldown:
    """Count predictions of one model into the bins of a feature, or of the model's outputs (`PREDICTION`).

    Args:
        model: the model's features and references.
        info: the model's name, version and features.
        feature: the name of the feature.
        predictions: the predictions of this name and version, by time.
        max_traces: the maximum number of latest predictions for each bin.
        model_hashes: the hashes of the model's files. Predictions by other files are excluded. Empty for no filter.

    Raises:
        DrilldownError: the model does not have the feature, or its values are private.
    """
    if feature == PREDICTION and PREDICTION not in info.features:
        if model.output_reference is None:
            raise DrilldownError(
                f"the bundle of {info.name} {info.version} has no reference of the model's outputs; pack it again"
            )
        bounds = describe_numeric_bins(model.output_reference.edges or ())
        counter = _BinCounter(model, model.output_reference, bounds, max_traces, model_hashes)
        return _drill_down_outputs(model, info, predictions, counter)
    features = {candidate.name: candidate for candidate in model.features}
    if feature not in features:
        raise DrilldownError(f"{info.name} {info.version} has no feature {feature}; it has {', '.join(info.features)}")
    if (rule := str(features[feature].privacy)) != "plain":
        raise DrilldownError(
            f"{feature} is `{rule}` in the schema of {info.name} {info.version}: the prediction store does "
            "not have its original values, so the predictions of a bin are not known"
        )
    bins = segment_bins([features[feature]]).get(feature)
    counter = _BinCounter(model, features[feature].reference, bins.names if bins else [], max_traces, model_hashes)
    return _drill_down_feature(model, features[feature], predictions, counter)


def _drill_down_feature(
    model: MonitoredModel, feature: Feature, predictions: Iterable[StoredPrediction], counter: "_BinCounter"
) -> Drilldown:
    bins = FeatureBins(Schema(features=(feature,)))
    names = [name for _, name in bins.bin_names]
    erased = 0
    for stored in filter(counter.is_same_model, predictions):
        if stored.inputs is None:
            erased += 1
            continue
        value = stored.inputs.get(feature.name)
        numbers = bins.numeric_values([(value,)])
        counter.add(names[int(bins.digitize([(value,)], numbers)[0, 0])], stored, value)
    criticals = {name: value for (of, name), value in critical_values(model).items() if of == feature.name}
    if not feature.accepts_missing:
        # Rows without the feature were rejected, so the store does not contain them.
        criticals.pop(drift.MISSING_VALUES, None)
    results = check_drift(feature.reference, counter.window(), criticals)
    return counter.drilldown(feature.name, erased, results)


def _drill_down_outputs(
    model: MonitoredModel, info: ModelInfo, predictions: Iterable[StoredPrediction], counter: "_BinCounter"
) -> Drilldown:
    low_confidence, with_confidence = 0, 0
    for stored in filter(counter.is_same_model, predictions):
        row = PredictedRow(
            stored.row, stored.prediction_id, stored.label, stored.confidence, stored.value, (), stored.time
        )
        if (name := str(info.outcome(row))) in counter.reference.shares:
            counter.add(name, stored, stored.label if stored.value is None else stored.value)
        if stored.confidence is not None:
            with_confidence += 1
            low_confidence += info.is_low_confidence(row)
    criticals = {name: value for (of, name), value in critical_values(model).items() if of == OUTPUTS}
    critical = criticals.pop(drift.LOW_CONFIDENCE, None)
    window = counter.window()
    results = check_drift(counter.reference, window, criticals, has_reference=model.held_out is not None)
    if critical is not None:
        results.append(
            check_confidence(
                low_confidence,
                with_confidence,
                critical,
                model.held_out,
                rows_repeat=counter.rows_repeat,
                independent_share=window_independent_share(counter.reference, window),
            )
        )
    return counter.drilldown(PREDICTION, 0, results)


class _BinCounter:
    """Counts predictions by bin, keeps the newest of each bin, counts distinct rows, and compares requests."""

    def __init__(
        self,
        model: MonitoredModel,
        reference: Reference,
        bounds: Sequence[str],
        max_traces: int,
        model_hashes: Collection[str],
    ) -> None:
        self.reference = reference
        self._bounds = bounds
        self._scores = bin_scores(reference)
        # The redacted values of `bucket` and `drop` features can be equal in different rows.
        self._can_compare_rows = all(str(feature.privacy) in ("plain", "hash") for feature in model.features)
        self._duplicate_probability = model.duplicate_probability
        self._model_hashes = frozenset(model_hashes)
        self._max_traces = max_traces
        self._counts: dict[str, int] = {}
        self._newest: dict[str, deque[TracedPrediction]] = {}
        self._other_models = self._with_inputs = 0
        self._row_hashes: set[int] = set()
        # The trace ID and span ID of the request before, and the bin of its first row.
        self._request: tuple[str | None, str | None] | None = None
        self._first_bin = ""
        self._difference, self._pairs = 0.0, 0

    def is_same_model(self, stored: StoredPrediction) -> bool:
        """Return whether the model made the prediction. If another model of this name and version made it, count it."""
        same = not self._model_hashes or stored.model_hash in self._model_hashes
        self._other_models += not same
        return same

    def add(self, name: str, stored: StoredPrediction, value: Value) -> None:
        """Count a prediction. Predictions must be added in order of time."""
        self._compare(name, (stored.trace_id, stored.span_id))
        self._counts[name] = self._counts.get(name, 0) + 1
        newest = self._newest.setdefault(name, deque(maxlen=self._max_traces))
        newest.append(
            TracedPrediction(stored.trace_id, stored.prediction_id, stored.row, value, stored.time, stored.sampled)
        )
        if stored.inputs is not None:
            self._with_inputs += 1
            self._row_hashes.add(hash(tuple(stored.inputs.items())))  # always in the order of the schema

    def _compare(self, name: str, request: tuple[str | None, str | None]) -> None:
        """Compare the first row of a request with that of the request before, as `SuccessiveDifferences` does."""
        if request == self._request and request != (None, None):
            return
        if self._request is not None:
            self._difference += half_squared_difference(self._scores, self._first_bin, name)
            self._pairs += 1
        self._request, self._first_bin = request, name

    @property
    def rows_repeat(self) -> bool:
        """Whether too few rows are distinct; false for a bundle without a duplicate probability."""
        if self._duplicate_probability is None or not self._can_compare_rows:
            return False
        return len(self._row_hashes) < drift.min_distinct_rows(self._with_inputs, self._duplicate_probability)

    def window(self) -> WindowCounts:
        """Return the counts in the order of the reference's bins."""
        counts = [self._counts.get(name, 0) for name in self.reference.shares]
        return WindowCounts(counts, rows_repeat=self.rows_repeat, difference=self._difference, pairs=self._pairs)

    def drilldown(self, feature: str, erased: int, results: list[DriftResult]) -> Drilldown:
        """Return the result for a feature."""
        rows, distinct = sum(self._counts.values()), len(self._row_hashes)
        bins = self._bins()
        return Drilldown(feature, rows, erased, self._other_models, distinct, self.rows_repeat, results, bins)

    def _bins(self) -> list[Bin]:
        reference = self.reference
        n, rows = max(sum(self._counts.values()), 1), reference.n
        bounds = {} if reference.edges is None else {numeric_bin_name(i): text for i, text in enumerate(self._bounds)}
        bins = []
        for name, share in reference.shares.items():
            count = self._counts.get(name, 0)
            pooled = (count + share * rows + drift.PSEUDOCOUNT) / (n + rows + 2 * drift.PSEUDOCOUNT)
            margin = STANDARD_ERRORS * float(np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / rows)))
            increased = count / n - share > margin
            traces = list(reversed(self._newest.get(name, ()))) if increased else []
            bins.append(Bin(name, bounds.get(name, name), share, count / n, count, increased, traces))
        return sorted(bins, key=lambda item: (not item.increased, item.training_share - item.window_share))
