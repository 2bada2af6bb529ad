"""Metric points of predictions, counted from their records.

An instrument of the SDK costs a prediction 3 to 5 µs a call. Counting a chunk of records at a time costs a tenth, on a
thread that no request waits for. What comes out are the SDK's own data points, so readers and exporters take them as
they take any other; `RecordMetricsReader` adds them to what a reader collects.
"""

from collections.abc import Hashable, Iterable, Sequence
from threading import Lock
from time import time_ns
from typing import Any, Protocol, Self

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
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

from modeltrace.telemetry.metrics.exemplars import FAILED, LATEST, PINNED
from modeltrace.telemetry.metrics.instruments import (
    CONFIDENCE,
    INFERENCE_DURATION,
    LOW_CONFIDENCE,
    PREDICTIONS,
    REQUEST_DURATION,
    SYNTHETIC_PREDICTIONS,
    VIOLATIONS,
)
from modeltrace.telemetry.metrics.per_model_cache import PerModelCache
from modeltrace.telemetry.metrics.series import Attributes, InstrumentSeries, Series
from modeltrace.telemetry.names import SPAN_INFERENCE
from modeltrace.telemetry.records.prediction import ModelInfo, RequestRecord


class MetricSource(Protocol):
    """What was counted from records."""

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Everything counted, as the SDK's metrics. Each exemplar is handed over once, to who asks for exemplars."""


class RequestMetrics(MetricSource, Protocol):
    """Counts records of requests."""

    def add(self, requests: Sequence[RequestRecord], /) -> None:
        """Count some more."""


class PredictionMetrics:
    """Counts records, for every reader that takes them cumulative, or for one that takes what is new (`delta`)."""

    def __init__(self, *, exemplar_filter: str, delta: bool = False) -> None:
        """`exemplar_filter` is that of `OTEL_METRICS_EXEMPLAR_FILTER`; with `delta` each collection starts afresh."""
        self._all, self._sampled = exemplar_filter == "always_on", exemplar_filter == "trace_based"
        self._delta = delta
        self._start = time_ns()
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._requests, self._inferences = InstrumentSeries(REQUEST_DURATION), InstrumentSeries(INFERENCE_DURATION)
        self._predictions, self._confidences = InstrumentSeries(PREDICTIONS), InstrumentSeries(CONFIDENCE)
        self._unsure, self._violations = InstrumentSeries(LOW_CONFIDENCE), InstrumentSeries(VIOLATIONS)
        self._synthetic = InstrumentSeries(SYNTHETIC_PREDICTIONS)
        self._of = PerModelCache(_ModelSeries)

    def add(self, requests: Iterable[RequestRecord]) -> None:
        """Count some more."""
        with self._lock:
            for request in requests:
                self._add(request)

    def _add(self, request: RequestRecord) -> None:
        rank = PINNED if request.pinned else LATEST
        exemplar = request if self._all or (self._sampled and request.trace_flags & 1) else None

        if request.shadow_of is None:
            self._add_http(request, rank, exemplar)
        if request.model is None or request.remote_call is not None:
            return
        about, model = request.model, self._of(request.model)
        if request.inference_start:
            error, seconds = _inference(request)
            series = model.inferences.get(error) or model.create(
                self._inferences, model.inferences, error, {ERROR_TYPE: error} if error else {}
            )
            series.add(seconds, rank or (FAILED if error else LATEST), exemplar)

        if request.synthetic:
            if number := len(request.predictions):
                series = model.synthetic.get(None) or model.create(self._synthetic, model.synthetic, None, {})
                series.add(number, rank, exemplar, count=number)
            return

        for violated in request.violations:
            what = violated[:-1]
            series = model.violations.get(what) or model.create(
                self._violations, model.violations, what, violated.metric_attributes()
            )
            series.add(violated.rows, rank, exemplar, count=violated.rows)

        for answered in request.predictions:
            said = about.outcome(answered)
            if answered.confidence is not None:
                series = model.confidences.get(said) or model.create(
                    self._confidences, model.confidences, said, about.outcome_attributes(answered)
                )
                series.add(answered.confidence, rank, exemplar)
            if about.is_low_confidence(answered):
                series = model.unsure.get(None) or model.create(self._unsure, model.unsure, None, {})
                series.add(1, rank, exemplar)
            series = model.predictions.get(said) or model.create(
                self._predictions, model.predictions, said, about.outcome_attributes(answered)
            )
            series.add(1, rank, exemplar)

    def _add_http(self, request: RequestRecord, rank: int, exemplar: RequestRecord | None) -> None:
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
                points.metric(self._start, now, temporality, exemplars=exemplars)
                for points in (
                    self._requests,
                    self._inferences,
                    self._predictions,
                    self._confidences,
                    self._unsure,
                    self._violations,
                    self._synthetic,
                )
                if points.series
            ]
            if self._delta:
                self._start = now
                self._forget()
        return metrics


class _ModelSeries:
    """The series of one model, found by what else tells them apart."""

    __slots__ = ("_model", "confidences", "inferences", "predictions", "synthetic", "unsure", "violations")

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self.inferences: dict[Hashable, Series] = {}
        self.violations: dict[Hashable, Series] = {}
        self.confidences: dict[Hashable, Series] = {}
        self.predictions: dict[Hashable, Series] = {}
        self.unsure: dict[Hashable, Series] = {}
        self.synthetic: dict[Hashable, Series] = {}

    def create(
        self, points: InstrumentSeries, found: dict[Hashable, Series], key: Hashable, more: dict[str, str]
    ) -> Series:
        """The series of a key that is not found yet. Two models that are told by the same attributes share it."""
        attributes: Attributes = {**self._model.metric_attributes(), **more}
        whole = tuple(attributes.items())
        found[key] = points.series.get(whole) or points.create(whole, attributes)
        return found[key]


def _http(request: RequestRecord) -> Attributes:
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


def _inference(request: RequestRecord) -> tuple[str, float]:
    """What the model's call failed with, "" for nothing, and how many seconds it took."""
    failure = request.failure
    if failure is None or failure.stage != SPAN_INFERENCE:
        return "", max((request.inference_end or request.inference_start) - request.inference_start, 0) / 1e9
    return failure.error_type, max((request.inference_end or failure.time) - request.inference_start, 0) / 1e9


class RecordMetricsReader(MetricReader):
    """A reader that also collects what is counted from records. Mixed into one of the SDK's."""

    _predictions: Sequence[MetricSource] = ()
    _exemplars = True

    def with_sources(self, points: Sequence[MetricSource], resource: Resource, scope: InstrumentationScope) -> Self:
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


class PeriodicRecordMetricsReader(RecordMetricsReader, PeriodicExportingMetricReader):
    """Pushes every interval."""
