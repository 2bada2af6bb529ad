"""Metrics of features and named outputs: counts of each bin, sums for means, repeated rows, differences of requests.

    records ─► rows ─► bins ─► counts ─► ml.feature.observations, ml.feature.sum, ml.output.observations
                                  ▲
    bundle ─► shares and means of the training data ─► ml.feature.reference, ml.feature.reference.mean

Thirty counters of the SDK would take 273 µs per prediction; counting a chunk of records takes 2 µs per prediction. A
counter must not decrease, so positive and negative values are summed separately.
"""

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from time import time_ns
from typing import Final

import numpy as np
from numpy.typing import NDArray
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric, NumberDataPoint, Sum

from modeltrace.telemetry.metrics.instruments import (
    FEATURE_DIFFERENCE,
    FEATURE_OBSERVATIONS,
    FEATURE_SUM,
    OUTPUT_DIFFERENCE,
    OUTPUT_OBSERVATIONS,
    PREDICTION_DIFFERENCE,
    REFERENCE_GAUGES,
    REPEATED_PREDICTIONS,
    REQUEST_PAIRS,
    Instrument,
)
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog, ReferenceData
from modeltrace.telemetry.metrics.row_dependence import RepeatedRowCounter, SuccessiveDifferences
from modeltrace.telemetry.names import ML_FEATURE_BIN, ML_FEATURE_NAME, ML_FEATURE_SIGN, ML_OUTPUT_BIN, ML_OUTPUT_NAME
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import PredictedRow, RequestRecord
from modeltrace.telemetry.records.trace import RequestTrace

# Rows that are binned at a time. The limit bounds the memory for a large batch.
CHUNK_ROWS: Final = 1024
# Replaced versions that are still reported. A version with 300 features has about 4,000 points per export.
MAX_RETIRED_MODELS: Final = 8
SIGNS: Final = ("positive", "negative")
COUNTERS: Final = (
    FEATURE_OBSERVATIONS,
    FEATURE_SUM,
    FEATURE_DIFFERENCE,
    PREDICTION_DIFFERENCE,
    REQUEST_PAIRS,
    REPEATED_PREDICTIONS,
    OUTPUT_OBSERVATIONS,
    OUTPUT_DIFFERENCE,
)

RowOfRequest = tuple[PredictedRow, RequestRecord]


class FeatureMetrics:
    """Counts the inputs of predicted rows. Thread-safe."""

    def __init__(self, model_catalog: ModelCatalog, *, exemplar_filter: str, delta: bool = False) -> None:
        """Start with empty counts. `exemplar_filter` and `delta` are as in `RecordMetrics`."""
        self._model_catalog = model_catalog
        self._filter = exemplar_filter
        self._delta = delta
        self._lock = Lock()
        self._counts: dict[ModelInfo, _FeatureCounts] = {}
        self._reported: dict[tuple[str, str], _FeatureCounts] = {}  # by name and version of the model

    def add(self, requests: Iterable[RequestRecord]) -> None:
        """Count the rows of further requests."""
        by_model: dict[ModelInfo, list[RowOfRequest]] = {}
        rows: list[RowOfRequest] = []
        latest = None
        for request in requests:
            model = request.model
            if request.predictions and model is not None and request.remote_call is None and not request.synthetic:
                if model is not latest:
                    rows, latest = by_model.setdefault(model, []), model
                for row in request.predictions:
                    rows.append((row, request))
        for model, rows in by_model.items():
            if counts := self._counts_of(model):
                for start in range(0, len(rows), CHUNK_ROWS):
                    counts.add(rows[start : start + CHUNK_ROWS])

    def _counts_of(self, model: ModelInfo) -> "_FeatureCounts | None":
        with self._lock:
            if model not in self._counts and (reference := self._model_catalog.reference(model)):
                series = model.name, model.version
                # A version in two roles has one count. If it is packed again with other bins, the count restarts.
                counts = self._reported.get(series)
                if counts is None or not counts.has_bins_of(reference, model):
                    counts = self._reported[series] = _FeatureCounts(reference, model, self._filter)
                self._counts[model] = counts
            return self._counts.get(model)

    def count(self, request: RequestTrace) -> None:
        """Count the rows of one finished request."""
        if request.predictions:
            self.add([request.to_record()])

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Return the SDK's metrics. Each exemplar is returned once, to a reader that asks for exemplars."""
        served = [model for model, _ in self._model_catalog.served_models()]
        for model in served:
            self._counts_of(model)  # report all bins from the start, so that a rate includes the first increase
        with self._lock:
            reported = list(self._reported.values())
            names = {(model.name, model.version) for model in served}
            retired = [series for series in self._reported if series not in names]
            for series in retired[:-MAX_RETIRED_MODELS]:  # reported for the last time
                removed = self._reported.pop(series)
                self._counts = {model: counts for model, counts in self._counts.items() if counts is not removed}
        collected = [counts.collect(exemplars=exemplars, delta=self._delta) for counts in reported]
        temporality = AggregationTemporality.DELTA if self._delta else AggregationTemporality.CUMULATIVE
        metrics = []
        for index, counter in enumerate(COUNTERS):
            if points := [point for points in collected for point in points[index]]:
                data = Sum(points, temporality, is_monotonic=True)
                metrics.append(Metric(counter.name, counter.description, counter.unit, data))
        return metrics


class _FeatureCounts:
    """The counts of one model's inputs and named outputs. The columns of the outputs follow those of the features."""

    def __init__(self, reference: ReferenceData, model: ModelInfo, exemplar_filter: str) -> None:
        bins, outputs = reference.bins, reference.output_bins
        attributes = model.metric_attributes()
        self._model_attributes = attributes
        self._repeated = RepeatedRowCounter()
        scores = bins.scores if outputs is None else np.concatenate([bins.scores, outputs.scores])
        self._columns = np.arange(len(bins.names) + len(outputs.names if outputs else ()))
        self._differences = SuccessiveDifferences(scores, reference.output_scores, len(self._columns))
        self.schema_hash = model.schema_hash
        self._bins = bins
        self._output_bins = outputs
        features = self._columns[: len(bins.names)]
        self._exemplar_columns = [*features[bins.exemplar_columns], *self._columns[len(bins.names) :]]
        self._always, self._sampled = exemplar_filter == "always_on", exemplar_filter == "trace_based"
        self._attributes = [
            {**attributes, ML_FEATURE_NAME: name, ML_FEATURE_BIN: bin_} for name, bin_ in bins.bin_names
        ]
        self._attributes += [
            {**attributes, ML_OUTPUT_NAME: name, ML_OUTPUT_BIN: bin_}
            for name, bin_ in (outputs.bin_names if outputs else ())
        ]
        self._sum_attributes = [
            {**attributes, ML_FEATURE_NAME: name, ML_FEATURE_SIGN: sign}
            for sign in SIGNS
            for name in bins.numeric_names
        ]
        self._difference_attributes = [{**attributes, ML_FEATURE_NAME: name} for name in bins.names]
        self._difference_attributes += [
            {**attributes, ML_OUTPUT_NAME: name} for name in (outputs.names if outputs else ())
        ]
        self._start = time_ns()
        self._lock = Lock()
        self._counts = np.zeros(len(self._attributes), dtype=np.int64)
        self._sums = np.zeros((len(SIGNS), len(bins.numeric_names)))
        # For each bin, the request that may become its exemplar, and whether that request is pinned.
        self._requests = np.full(len(self._attributes), None, dtype=object)
        self._pinned = np.zeros(len(self._attributes), dtype=bool)

    def has_bins_of(self, reference: ReferenceData, model: ModelInfo) -> bool:
        """Return whether a model has the same features and the same bins of named outputs."""
        other = reference.output_bins and reference.output_bins.monitored
        return self.schema_hash == model.schema_hash and (self._output_bins and self._output_bins.monitored) == other

    def add(self, rows: Sequence[RowOfRequest]) -> None:
        """Count rows, each with its request."""
        inputs = [row.inputs for row, _ in rows]
        numbers = self._bins.numeric_values(inputs)
        indices = self._bins.digitize(inputs, numbers)
        if self._output_bins is not None:
            of_outputs = self._output_bins.digitize([row.outputs for row, _ in rows])
            indices = np.hstack([indices, of_outputs + len(self._bins.bin_names)])
        with self._lock:
            self._repeated.add(inputs)
            self._counts += np.bincount(indices.ravel(), minlength=len(self._counts))
            summed = np.nan_to_num(numbers[:, self._bins.sum_columns], nan=0.0)
            self._sums[0] += np.maximum(summed, 0.0).sum(axis=0)
            self._sums[1] -= np.minimum(summed, 0.0).sum(axis=0)
            requests = [request for _, request in rows]
            self._differences.add(requests, indices)
            self._choose_exemplars(requests, indices[:, self._exemplar_columns])

    def _choose_exemplars(self, requests: Sequence[RequestRecord], indices: NDArray[np.intp]) -> None:
        """For each bin, store the latest pinned request; if none is pinned, store the latest request."""
        sampled = np.array([self._always or bool(self._sampled and r.trace_flags & 1) for r in requests], dtype=bool)
        pinned = np.array([request.pinned for request in requests], dtype=bool)
        candidates = np.fromiter(requests, dtype=object, count=len(requests))
        for chosen, are_pinned in ((sampled & ~pinned, False), (sampled & pinned, True)):
            if chosen.any():
                bins = indices[chosen]
                sources = np.broadcast_to(candidates[chosen][:, np.newaxis], bins.shape)
                replaceable = np.ones_like(bins, dtype=bool) if are_pinned else ~self._pinned[bins]
                self._requests[bins[replaceable]] = sources[replaceable]  # the last request wins
                if are_pinned:
                    self._pinned[bins] = True

    def collect(self, *, exemplars: bool, delta: bool) -> tuple[list[NumberDataPoint], ...]:
        """Return the points of each of `COUNTERS`; with `delta`, reset the counts."""
        with self._lock:
            start, now = self._start, time_ns()
            counts, sums = self._counts.tolist(), self._sums.ravel().tolist()
            repeated = self._repeated.count
            differences, output_difference, pairs = self._differences.sums()
            requests: list[RequestRecord | None] = [None] * len(counts)
            if exemplars:
                requests = self._requests.tolist()
                self._requests[:] = None
                self._pinned[:] = False
            if delta:
                self._start = now
                self._counts[:] = 0
                self._sums[:] = 0.0
                self._repeated.count = 0
                self._differences.reset()
        observations = [
            NumberDataPoint(attributes, start, now, count, [_exemplar(request)] if request else [])
            for attributes, count, request in zip(self._attributes, counts, requests, strict=True)
        ]
        feature_sums = [
            NumberDataPoint(attributes, start, now, total, [])
            for attributes, total in zip(self._sum_attributes, sums, strict=True)
        ]
        all_differences = [
            NumberDataPoint(attributes, start, now, total, [])
            for attributes, total in zip(self._difference_attributes, differences, strict=True)
        ]
        of_model = [
            [NumberDataPoint(self._model_attributes, start, now, total, [])]
            for total in (output_difference, pairs, repeated)
        ]
        n_bins, n_features = len(self._bins.bin_names), len(self._bins.names)
        of_features = observations[:n_bins], feature_sums, all_differences[:n_features]
        return *of_features, *of_model, observations[n_bins:], all_differences[n_features:]


def _exemplar(request: RequestRecord) -> Exemplar:
    return Exemplar({}, 1, request.end, int.from_bytes(request.span_id), int.from_bytes(request.trace_id))


def observe_reference(meter: Meter, model_catalog: ModelCatalog) -> None:
    """Report the reference data of all served models, so that drift can be computed from metrics alone."""

    def callback(gauge: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for model, reference in model_catalog.served_models():
                for value, attributes in reference.gauges.get(gauge, ()):
                    yield Observation(value, {**model.metric_attributes(), **attributes})

        return observe

    for gauge in REFERENCE_GAUGES:
        meter.create_observable_gauge(gauge.name, [callback(gauge)], gauge.unit, gauge.description)


def observe_features(meter: Meter, metrics: FeatureMetrics) -> None:
    """Report the counts as observable instruments of the SDK, without exemplars."""

    def callback(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for metric in metrics.collect(exemplars=False):
                if metric.name == name:
                    yield from (Observation(point.value, point.attributes) for point in metric.data.data_points)  # type: ignore[union-attr]  # sums

        return observe

    for counter in COUNTERS:
        meter.create_observable_counter(counter.name, [callback(counter.name)], counter.unit, counter.description)
