"""Metric points of features: how often each bin was met, the sums that a mean needs, and how many rows repeat.

    records ─► rows ─► bins ─► counts ─► ml.feature.observations, ml.feature.sum
                                  ▲
    bundle ─► shares and mean of the training data ─► ml.feature.reference, ml.feature.reference.mean

Thirty counters a prediction would cost 273 µs; a chunk of records at a time costs 2 a prediction. The sum of a
feature may fall, which a counter must not: what is added and what is taken away are counted apart.
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
    FEATURE_OBSERVATIONS,
    FEATURE_SUM,
    REFERENCE_GAUGES,
    REPEATED_PREDICTIONS,
    Instrument,
)
from modeltrace.telemetry.metrics.model_catalog import Bins, ModelCatalog
from modeltrace.telemetry.names import ML_FEATURE_BIN, ML_FEATURE_NAME, ML_FEATURE_SIGN
from modeltrace.telemetry.records.prediction import ModelInfo, RequestRecord, Value
from modeltrace.telemetry.records.trace import RequestTrace

# Rows that are placed at a time: what that takes in memory is bounded, however large a batch.
CHUNK_ROWS: Final = 1024
# Versions that are served no more and told all the same: 300 features of each are 4,000 points an export.
MAX_RETIRED_MODELS: Final = 8
SIGNS: Final = ("positive", "negative")
# Rows that a new one is compared with: between once and twice as many of the last distinct ones.
REMEMBERED_ROWS: Final = 4096
COUNTERS: Final = (FEATURE_OBSERVATIONS, FEATURE_SUM, REPEATED_PREDICTIONS)


class FeatureMetrics:
    """Counts the inputs of answered rows, for readers that take totals, or for one that takes what is new (`delta`)."""

    def __init__(self, model_catalog: ModelCatalog, *, exemplar_filter: str, delta: bool = False) -> None:
        """`exemplar_filter` and `delta` as for `PredictionMetrics`."""
        self._watched = model_catalog
        self._filter = exemplar_filter
        self._delta = delta
        self._lock = Lock()
        self._models: dict[ModelInfo, _Counts] = {}
        self._told: dict[tuple[str, str], _Counts] = {}  # by what their series say of the model

    def add(self, requests: Iterable[RequestRecord]) -> None:
        """Count some more."""
        met: dict[ModelInfo, list[tuple[tuple[Value, ...], RequestRecord]]] = {}
        rows: list[tuple[tuple[Value, ...], RequestRecord]] = []
        latest = None
        for request in requests:
            model = request.model
            if request.predictions and model is not None and request.remote_call is None and not request.synthetic:
                if model is not latest:
                    rows, latest = met.setdefault(model, []), model
                for row in request.predictions:
                    rows.append((row.inputs, request))
        for model, rows in met.items():
            counts = self._of(model)
            for start in range(0, len(rows) if counts else 0, CHUNK_ROWS):
                counts.add(rows[start : start + CHUNK_ROWS])  # type: ignore[union-attr]  # see the line above

    def _of(self, model: ModelInfo) -> "_Counts | None":
        with self._lock:
            if model not in self._models and (bins := self._watched.bins(model)):
                series = model.name, model.version
                # A version in two roles is counted together. One that was packed anew has other bins, and begins anew.
                counts = self._told.get(series)
                if counts is None or counts.schema_hash != model.schema_hash:
                    counts = self._told[series] = _Counts(bins, model, self._filter)
                self._models[model] = counts
            return self._models.get(model)

    def count(self, request: RequestTrace) -> None:
        """Count one request that is over."""
        if request.predictions:
            self.add([request.to_record()])

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Everything counted, as the SDK's metrics. Each exemplar is handed over once, to who asks for exemplars."""
        served = [model for model, _ in self._watched.served_models()]
        for model in served:
            self._of(model)  # all its bins are told from the start, so that no rate starts late
        with self._lock:
            models = list(self._told.values())
            former = [series for series in self._told if series not in {(one.name, one.version) for one in served}]
            for series in former[
                :-MAX_RETIRED_MODELS
            ]:  # they are told for the last time; should one come back, it begins anew
                gone = self._told.pop(series)
                self._models = {model: counts for model, counts in self._models.items() if counts is not gone}
        told = [one.collect(exemplars=exemplars, delta=self._delta) for one in models]
        temporality = AggregationTemporality.DELTA if self._delta else AggregationTemporality.CUMULATIVE
        points = ([point for one in told for point in one[place]] for place in range(len(COUNTERS)))
        metrics = [_metric(one, found, temporality) for one, found in zip(COUNTERS, points, strict=True)]
        return [metric for metric in metrics if metric.data.data_points]


class RepeatedRowCounter:
    """Counts rows that equal one of the last, of which between `REMEMBERED_ROWS` and twice as many are remembered.

    Two generations of hashes: the older one is forgotten when the newer one is full. Hashes never leave the process.
    """

    def __init__(self, max_remembered: int = REMEMBERED_ROWS) -> None:
        self.count = 0
        self._remembered = max_remembered
        self._older: set[int] = set()
        self._newer: set[int] = set()

    def add(self, rows: Iterable[tuple[Value, ...]]) -> None:
        """Count some more."""
        older, newer = self._older, self._newer
        for row in rows:
            one = hash(row)
            if one in newer:
                self.count += 1
                continue
            self.count += one in older
            newer.add(one)
            if len(newer) >= self._remembered:
                older, newer = newer, set()
        self._older, self._newer = older, newer


class _Counts:
    """What is counted of one model's inputs."""

    def __init__(self, bins: Bins, about: ModelInfo, exemplar_filter: str) -> None:
        model = about.metric_attributes()
        self._model = model
        self._repeats = RepeatedRowCounter()
        self.schema_hash = about.schema_hash
        self._bins = bins
        self._all, self._sampled = exemplar_filter == "always_on", exemplar_filter == "trace_based"
        self._attributes = [{**model, ML_FEATURE_NAME: name, ML_FEATURE_BIN: one} for name, one in bins.bin_names]
        self._sum_attributes = [
            {**model, ML_FEATURE_NAME: name, ML_FEATURE_SIGN: sign} for sign in SIGNS for name in bins.numeric_names
        ]
        self._start = time_ns()
        self._lock = Lock()
        self._counts = np.zeros(len(bins.bin_names), dtype=np.int64)
        self._sums = np.zeros((len(SIGNS), len(bins.numeric_names)))
        # The request that each bin was last met in, and whether that one was pinned.
        self._met = np.full(len(bins.bin_names), None, dtype=object)
        self._pinned = np.zeros(len(bins.bin_names), dtype=bool)

    def add(self, met: Sequence[tuple[tuple[Value, ...], RequestRecord]]) -> None:
        """Count some rows, each with the request that it came in."""
        rows = [inputs for inputs, _ in met]
        numbers = self._bins.numeric_values(rows)
        places = self._bins.digitize(rows, numbers)
        with self._lock:
            self._repeats.add(rows)
            self._counts += np.bincount(places.ravel(), minlength=len(self._counts))
            known = np.nan_to_num(numbers[:, self._bins.sum_columns], nan=0.0)
            self._sums[0] += np.maximum(known, 0.0).sum(axis=0)
            self._sums[1] -= np.minimum(known, 0.0).sum(axis=0)
            self._meet([request for _, request in met], places[:, self._bins.exemplar_columns])

    def _meet(self, requests: Sequence[RequestRecord], places: NDArray[np.intp]) -> None:
        """Remember who may be an exemplar of a bin: the latest, but a pinned one before any other."""
        kept = np.array([self._all or bool(self._sampled and one.trace_flags & 1) for one in requests], dtype=bool)
        pinned = np.array([one.pinned for one in requests], dtype=bool)
        who = np.fromiter(requests, dtype=object, count=len(requests))
        for these, first in ((kept & ~pinned, False), (kept & pinned, True)):
            if these.any():
                where = places[these]
                asking = np.broadcast_to(who[these][:, np.newaxis], where.shape)
                free = np.ones_like(where, dtype=bool) if first else ~self._pinned[where]
                self._met[where[free]] = asking[free]  # of several for one bin, the last stays
                if first:
                    self._pinned[where] = True

    def collect(self, *, exemplars: bool, delta: bool) -> tuple[list[NumberDataPoint], ...]:
        """The points of each of `COUNTERS`; with `delta` counting starts afresh."""
        with self._lock:
            start, now = self._start, time_ns()
            counts, sums = self._counts.tolist(), self._sums.ravel().tolist()
            repeated = self._repeats.count
            met: list[RequestRecord | None] = [None] * len(counts)
            if exemplars:
                met = self._met.tolist()
                self._met[:] = None
                self._pinned[:] = False
            if delta:
                self._start = now
                self._counts[:] = 0
                self._sums[:] = 0.0
                self._repeats.count = 0
        observed = [
            NumberDataPoint(said, start, now, count, [_exemplar(request)] if request else [])
            for said, count, request in zip(self._attributes, counts, met, strict=True)
        ]
        summed = [
            NumberDataPoint(said, start, now, total, []) for said, total in zip(self._sum_attributes, sums, strict=True)
        ]
        return observed, summed, [NumberDataPoint(self._model, start, now, repeated, [])]


def observe_reference(meter: Meter, model_catalog: ModelCatalog) -> None:
    """Say with every export what traffic is compared with, so that whoever compares needs nothing else."""

    def saying(one: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def say(_: CallbackOptions) -> Iterable[Observation]:
            for model, training in model_catalog.served_models():
                about = model.metric_attributes()
                for value, said in training.gauges.get(one, ()):
                    yield Observation(value, {**about, **said})

        return say

    for one in REFERENCE_GAUGES:
        meter.create_observable_gauge(one.name, [saying(one)], one.unit, one.description)


def observe_features(meter: Meter, points: FeatureMetrics) -> None:
    """The same counts as instruments of the SDK, for the stock set-up: those have no exemplars."""

    def observing(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            found = [metric.data.data_points for metric in points.collect(exemplars=False) if metric.name == name]
            return [Observation(point.value, point.attributes) for data in found for point in data]  # type: ignore[union-attr]  # sums

        return observe

    for one in COUNTERS:
        meter.create_observable_counter(one.name, [observing(one.name)], one.unit, one.description)


def _exemplar(request: RequestRecord) -> Exemplar:
    return Exemplar({}, 1, request.end, int.from_bytes(request.span_id), int.from_bytes(request.trace_id))


def _metric(instrument: Instrument, points: Iterable[NumberDataPoint], temporality: AggregationTemporality) -> Metric:
    total = Sum(list(points), aggregation_temporality=temporality, is_monotonic=True)
    return Metric(instrument.name, instrument.description, instrument.unit, total)
