"""Run the service in the test process, with in-memory SDK exporters or an in-memory export queue."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from modeltrace.app import create_app
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import model_info
from modeltrace.keys import derive_synthetic_token
from modeltrace.monitoring.reference_gauges import reference_metrics
from modeltrace.settings import Settings, read_settings
from modeltrace.sidecar.encode.feedback import FeedbackEncoder
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.feedback import FeedbackMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.providers import SidecarPipeline, Telemetry
from modeltrace.telemetry.records.feedback import FeedbackRecord
from modeltrace.telemetry.records.prediction import BatchRecord, Origin, RequestRecord
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, RecordDecoder, encode
from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer
from tests.helpers.services import ID_KEY

# Marks requests to these services as synthetic.
SYNTHETIC_TOKEN = derive_synthetic_token(ID_KEY.encode())


@dataclass(frozen=True)
class SdkService:
    """A client of a service that uses the SDK, and its in-memory exporters."""

    client: TestClient
    span_exporter: InMemorySpanExporter
    log_exporter: InMemoryLogRecordExporter
    metric_reader: InMemoryMetricReader

    def spans(self) -> dict[str, ReadableSpan]:
        """Return the finished spans by name."""
        return {span.name: span for span in self.span_exporter.get_finished_spans()}

    def logs(self, scope: str) -> list[ReadableLogRecord]:
        """Return the log records of one logger."""
        records = self.log_exporter.get_finished_logs()
        return [record for record in records if record.instrumentation_scope.name == scope]

    def points(self) -> dict[str, list[Any]]:
        """Return the data points of every metric by name. Collecting them resets exemplars."""
        data = self.metric_reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


class RecordingQueue:
    """Replaces the export queue and stores every record."""

    def __init__(self) -> None:
        self.requests: list[RequestRecord] = []
        self.batches: list[BatchRecord] = []
        self.feedback: list[FeedbackRecord] = []

    def enqueue(self, request: RequestTrace) -> None:
        """Store the record of a request."""
        self.requests.append(request.to_record())

    def enqueue_feedback(self, feedback: FeedbackRecord) -> None:
        """Store the record of labels as the sidecar would decode it."""
        self.feedback += RecordDecoder().decode(encode(RecordChunk(feedback=[feedback]))).feedback

    def enqueue_batch(self, batch: BatchRecord) -> None:
        """Store the record of a batch."""
        self.batches.append(batch)

    enqueue_shadow = enqueue

    def shadows(self) -> list[RequestRecord]:
        """Return the records of shadow requests."""
        return [request for request in self.requests if request.shadow_of is not None]


@dataclass(frozen=True)
class RecordsService:
    """A client of a service that uses the export queue, and the queue."""

    client: TestClient
    queue: RecordingQueue
    model: Model

    def spans(self) -> list[Span]:
        """Return the spans that the sidecar would export."""
        origin = Origin(b"", "modeltrace")
        requests = SpanEncoder(origin).encode([*self.queue.requests, *self.queue.batches])
        requests += FeedbackEncoder(origin).spans(self.queue.feedback)
        return [span for request, _ in requests for span in spans_of(ExportTraceServiceRequest.FromString(request))]

    def metrics(self) -> list[Metric]:
        """Return the metrics that a reader would collect."""
        catalog = ModelCatalog()
        catalog.add(model_info(self.model), reference_metrics(self.model))
        predictions = PredictionMetrics(exemplar_filter="trace_based")
        features = FeatureMetrics(catalog, exemplar_filter="trace_based")
        feedback = FeedbackMetrics(exemplar_filter="trace_based")
        predictions.add(self.queue.requests)
        features.add(self.queue.requests)
        feedback.add(self.queue.feedback)
        return [metric for source in (predictions, features, feedback) for metric in source.collect()]


@contextmanager
def records_service(
    model: Model,
    challenger_model: Model | None = None,
    *,
    wrap: Callable[[ASGIApp, Settings], ASGIApp] = lambda app, _: app,
    **settings: Any,
) -> Iterator[RecordsService]:
    """Run the service with the default instrumentation, but without a sidecar.

    The queue is complete when the block has ended, since shadow requests may be pending before.

    Args:
        model: the primary model.
        challenger_model: the model of the challenger; `None` for no challenger.
        wrap: adds middleware.
        **settings: settings that differ from the defaults of the tests.
    """
    queue = RecordingQueue()
    pipeline = SidecarPipeline(
        RequestTracer(DEFAULT_ON, synthetic_token=SYNTHETIC_TOKEN), queue, ExportHealth(), Counter()
    )  # type: ignore[arg-type]  # only the methods that are used
    merged = read_settings(**{"id_key": ID_KEY, "store": "none", **settings})
    app = create_app(merged, model, Telemetry(pipeline=pipeline), challenger=challenger_model)
    with TestClient(wrap(app, merged), raise_server_exceptions=False) as client:
        yield RecordsService(client, queue, model)


@contextmanager
def service_with_challenger(
    model: Model, challenger_model: Model | None, **settings: Any
) -> Iterator[tuple[TestClient, RecordingQueue]]:
    """Run `records_service` with a challenger; yield a client and the queue."""
    with records_service(model, challenger_model, **settings) as service:
        yield service.client, service.queue


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    """Return all spans of an export request."""
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
