"""Metric points of predictions, counted from their records.

An instrument of the SDK costs a prediction 3 to 5 µs a call. Counting a chunk of records at a time costs a tenth, on a
thread that no request waits for. What comes out are the SDK's own data points, so readers and exporters take them as
they take any other; `WithPredictions` adds them to what a reader collects.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from threading import Lock
from time import time_ns
from typing import Any, Final, Protocol, Self

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.url_attributes import URL_SCHEME
from opentelemetry.util.types import AttributeValue

from service.telemetry.exemplars import FAILED, LATEST, PINNED
from service.telemetry.metrics import (
    CONFIDENCE,
    INFERENCE_DURATION,
    PREDICTIONS,
    REQUEST_DURATION,
    VIOLATIONS,
    Instrument,
)
from service.telemetry.names import (
    ML_PREDICTION_LABEL,
    SPAN_INFERENCE,
)
from service.telemetry.permodel import PerModel
from service.telemetry.record import ModelInfo, Request

Attributes = dict[str, AttributeValue]
_OVERFLOW: Final = ("overflow",)


class Points(Protocol):
    """Counts records."""

    def add(self, requests: Sequence[Request], /) -> None:
        """Count some more."""

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Everything counted, as the SDK's metrics. Each exemplar is handed over once, to who asks for exemplars."""


class _Series:
    """What is counted for one set of attributes. A counter has one bucket, and counts ones."""

    __slots__ = ("attributes", "bounds", "buckets", "exemplars", "highest", "lowest", "total")

    def __init__(self, attributes: Attributes, bounds: tuple[float, ...]) -> None:
        self.attributes = attributes
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.lowest = float("inf")
        self.highest = float("-inf")
        self.exemplars: dict[int, tuple[int, float, Request]] = {}

    def add(self, value: float, rank: int, request: Request | None, *, times: int = 1) -> None:
        """Count a value; a request makes it an exemplar's candidate."""
        bucket = bisect_left(self.bounds, value)
        self.buckets[bucket] += times
        self.total += value
        if value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value
        if request is not None:
            kept = self.exemplars.get(bucket)
            if kept is None or kept[0] <= rank:
                self.exemplars[bucket] = (rank, value, request)


class _Points:
    """All series of one instrument."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.series: dict[Hashable, _Series] = {}

    def create(self, key: Hashable, attributes: Attributes) -> _Series:
        """The series of a key that has none yet; beyond the limit, the one for all others."""
        if len(self.series) >= self.instrument.limit:
            key, attributes = _OVERFLOW, {"otel.metric.overflow": True}
        return self.series.setdefault(key, _Series(attributes, self.instrument.bounds))


class PredictionPoints:
    """Counts records, for every reader that takes them cumulative, or for one that takes what is new (`delta`)."""

    def __init__(self, *, exemplar_filter: str, delta: bool = False) -> None:
        """`exemplar_filter` is that of `OTEL_METRICS_EXEMPLAR_FILTER`; with `delta` each collection starts afresh."""
        self._all, self._sampled = exemplar_filter == "always_on", exemplar_filter == "trace_based"
        self._delta = delta
        self._start = time_ns()
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._requests, self._inferences = _Points(REQUEST_DURATION), _Points(INFERENCE_DURATION)
        self._predictions, self._confidences = _Points(PREDICTIONS), _Points(CONFIDENCE)
        self._violations = _Points(VIOLATIONS)
        self._of = PerModel(_OfModel)

    def add(self, requests: Iterable[Request]) -> None:
        """Count some more."""
        with self._lock:
            for request in requests:
                self._add(request)

    def _add(self, request: Request) -> None:
        rank = PINNED if request.pinned else LATEST
        exemplar = request if self._all or (self._sampled and request.trace_flags & 1) else None

        if request.shadow_of is None:
            self._add_http(request, rank, exemplar)
        if request.model is None:
            return
        model = self._of(request.model)
        if request.inference_start:
            error, seconds = _inference(request)
            series = model.inferences.get(error) or model.create(
                self._inferences, model.inferences, error, {ERROR_TYPE: error} if error else {}
            )
            series.add(seconds, rank or (FAILED if error else LATEST), exemplar)

        for violated in request.violations:
            what = violated.feature, violated.reason
            series = model.violations.get(what) or model.create(
                self._violations, model.violations, what, violated.series()
            )
            series.add(violated.rows, rank, exemplar, times=violated.rows)

        for answered in request.answered:
            label = answered.label
            if answered.confidence is not None:
                series = model.confidences.get(label) or model.create(
                    self._confidences, model.confidences, label, _labelled(label)
                )
                series.add(answered.confidence, rank, exemplar)
            series = model.predictions.get(label) or model.create(
                self._predictions, model.predictions, label, _labelled(label)
            )
            series.add(1, rank, exemplar)

    def _add_http(self, request: Request, rank: int, exemplar: Request | None) -> None:
        kind = (request.status, request.route, request.method, request.scheme, request.http_version)
        series = self._requests.series.get(kind) or self._requests.create(kind, _http(request))
        series.add(
            max(request.end - request.start, 0) / 1e9, rank or (FAILED if request.status >= 500 else LATEST), exemplar
        )

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Everything counted, as the SDK's metrics. Each exemplar is handed over once, to who asks for exemplars."""
        with self._lock:
            now = time_ns()
            temporality = AggregationTemporality.DELTA if self._delta else AggregationTemporality.CUMULATIVE
            metrics = [
                _metric(points.instrument, list(_data(points, self._start, now, exemplars=exemplars)), temporality)
                for points in (self._requests, self._inferences, self._predictions, self._confidences, self._violations)
                if points.series
            ]
            if self._delta:
                self._start = now
                self._forget()
        return metrics


class _OfModel:
    """The series of one model, found by what else tells them apart."""

    __slots__ = ("_model", "confidences", "inferences", "predictions", "violations")

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self.inferences: dict[Hashable, _Series] = {}
        self.violations: dict[Hashable, _Series] = {}
        self.confidences: dict[Hashable, _Series] = {}
        self.predictions: dict[Hashable, _Series] = {}

    def create(self, points: _Points, found: dict[Hashable, _Series], key: Hashable, more: dict[str, str]) -> _Series:
        """The series of a key that is not found yet. Two models that are told by the same attributes share it."""
        attributes: Attributes = {**self._model.attributes(), **more}
        whole = tuple(attributes.items())
        found[key] = points.series.get(whole) or points.create(whole, attributes)
        return found[key]


def _labelled(label: object) -> dict[str, str]:
    return {} if label is None else {ML_PREDICTION_LABEL: str(label)}


def _http(request: Request) -> Attributes:
    attributes: Attributes = {
        URL_SCHEME: request.scheme,
        NETWORK_PROTOCOL_VERSION: request.http_version,
        HTTP_REQUEST_METHOD: request.method,
        HTTP_ROUTE: request.route,
    }
    if request.status:
        attributes[HTTP_RESPONSE_STATUS_CODE] = request.status
    if request.status >= 500:
        attributes[ERROR_TYPE] = str(request.status)
    return attributes


def _inference(request: Request) -> tuple[str, float]:
    """What the model's call failed with, "" for nothing, and how many seconds it took."""
    failure = request.failure
    if failure is None or failure.stage != SPAN_INFERENCE:
        return "", max((request.inference_end or request.inference_start) - request.inference_start, 0) / 1e9
    return failure.error_type, max((request.inference_end or failure.time) - request.inference_start, 0) / 1e9


def _data(points: _Points, start: int, now: int, *, exemplars: bool) -> Iterator[HistogramDataPoint | NumberDataPoint]:
    for series in points.series.values():
        kept: dict[int, tuple[int, float, Request]] = {}
        if exemplars:
            kept, series.exemplars = series.exemplars, {}
        found = [
            Exemplar({}, value, request.end, int.from_bytes(request.span_id), int.from_bytes(request.trace_id))
            for _, (_, value, request) in sorted(kept.items())
        ]
        count = sum(series.buckets)
        if not points.instrument.bounds:
            yield NumberDataPoint(series.attributes, start, now, count, found)
            continue
        yield HistogramDataPoint(
            series.attributes,
            start,
            now,
            count,
            series.total,
            tuple(series.buckets),
            points.instrument.bounds,
            series.lowest,
            series.highest,
            found,
        )


def _metric(instrument: Instrument, data: Sequence[Any], temporality: AggregationTemporality) -> Metric:
    if instrument.bounds:
        return Metric(instrument.name, instrument.description, instrument.unit, Histogram(data, temporality))
    total = Sum(data, aggregation_temporality=temporality, is_monotonic=True)
    return Metric(instrument.name, instrument.description, instrument.unit, total)


class WithPredictions(MetricReader):
    """A reader that also collects what is counted from records. Mixed into one of the SDK's."""

    _predictions: Sequence[Points] = ()
    _exemplars = True

    def with_predictions(self, points: Sequence[Points], resource: Resource, scope: InstrumentationScope) -> Self:
        """Collect these, too. The SDK's readers take no further arguments when they are built."""
        self._predictions, self._resource, self._scope = points, resource, scope
        return self

    def _receive_metrics(self, metrics_data: MetricsData | None, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  passed on
        found = [metric for points in self._predictions for metric in points.collect(exemplars=self._exemplars)]
        if found:
            metrics_data = _joined(metrics_data, found, self._resource, self._scope)
        self._receive(metrics_data, *arguments, **more)

    def _receive(self, metrics_data: MetricsData | None, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  passed on
        super()._receive_metrics(metrics_data, *arguments, **more)  # type: ignore[safe-super, arg-type]  # the SDK's readers take none, too


def _joined(
    data: MetricsData | None, found: list[Metric], resource: Resource, scope: InstrumentationScope
) -> MetricsData:
    """Both in one. The SDK's encoder keeps one list a resource and scope, so these must not appear twice."""
    scopes = [*data.resource_metrics[0].scope_metrics] if data and data.resource_metrics else []
    same = [metric for one in scopes if one.scope == scope for metric in one.metrics]
    others = [one for one in scopes if one.scope != scope]
    ours = ScopeMetrics(scope, [*same, *found], scope.schema_url or "")
    return MetricsData([ResourceMetrics(resource, [*others, ours], resource.schema_url)])


class PeriodicReader(WithPredictions, PeriodicExportingMetricReader):
    """Pushes every interval."""
