"""The service in this process, with the SDK and exporters in memory, or with records and a queue in memory."""

import marshal
from collections import Counter
from collections.abc import Iterator
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

from modeltrace.app import create_app
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import model_info
from modeltrace.keys import derive_synthetic_token
from modeltrace.monitoring.reference_metrics import reference_metrics
from modeltrace.settings import read_settings
from modeltrace.sidecar.encode.feedback import FeedbackEncoder
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.feedback import FeedbackMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.provider import SidecarPipeline, Telemetry
from modeltrace.telemetry.records.feedback import FeedbackRecord, plain
from modeltrace.telemetry.records.feedback import feedback as out_of_pipe
from modeltrace.telemetry.records.prediction import BatchRecord, Origin, RequestRecord
from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer
from tests.helpers.services import ID_KEY

# Marks requests to these services as synthetic.
SYNTHETIC_TOKEN = derive_synthetic_token(ID_KEY.encode())


@dataclass(frozen=True)
class SdkService:
    """A client of the service, and the exporters in memory that its telemetry goes to."""

    client: TestClient
    span_exporter: InMemorySpanExporter
    log_exporter: InMemoryLogRecordExporter
    metric_reader: InMemoryMetricReader

    def spans(self) -> dict[str, ReadableSpan]:
        """Finished spans by name."""
        return {span.name: span for span in self.span_exporter.get_finished_spans()}

    def logs(self, scope: str) -> list[ReadableLogRecord]:
        """Log records of one logger."""
        return [r for r in self.log_exporter.get_finished_logs() if r.instrumentation_scope.name == scope]

    def points(self) -> dict[str, list[Any]]:
        """The data points of every metric, by name; resets exemplars."""
        data = self.metric_reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


class RecordingQueue:
    """Stands for the queue to the sidecar: stores every record that is put."""

    def __init__(self) -> None:
        self.requests: list[RequestRecord] = []
        self.batches: list[BatchRecord] = []
        self.feedback: list[FeedbackRecord] = []

    def put(self, request: RequestTrace) -> None:
        """Store the record of a request."""
        self.requests.append(request.to_record())

    def put_feedback(self, feedback: FeedbackRecord) -> None:
        """Store labels, as they come out of the pipe."""
        self.feedback.append(out_of_pipe(marshal.loads(marshal.dumps(plain(feedback), 2))))  # noqa: S302  ours

    def put_batch(self, batch: BatchRecord) -> None:
        """Store the span of a shared call."""
        self.batches.append(batch)

    put_shadow = put

    def shadows(self) -> list[RequestRecord]:
        """The records of the challenger."""
        return [request for request in self.requests if request.shadow_of is not None]


@dataclass(frozen=True)
class RecordsService:
    """A client of the service that writes records, and those records."""

    client: TestClient
    queue: RecordingQueue
    model: Model

    def spans(self) -> list[Span]:
        """List the spans that the sidecar would export."""
        origin = Origin(b"", "modeltrace")
        encoded, _ = SpanEncoder(origin).encode(self.queue.requests, self.queue.batches)
        labels = FeedbackEncoder(origin).spans(self.queue.feedback, 2**20)
        return [
            span
            for one in (encoded, *(r for r, _ in labels))
            for span in spans_of(ExportTraceServiceRequest.FromString(one))
        ]

    def metrics(self) -> list[Metric]:
        """List the metrics that a reader would collect."""
        watched = ModelCatalog()
        watched.add(model_info(self.model), reference_metrics(self.model))
        both = (
            PredictionMetrics(exemplar_filter="trace_based"),
            FeatureMetrics(watched, exemplar_filter="trace_based"),
        )
        for points in both:
            points.add(self.queue.requests)
        labels = FeedbackMetrics(exemplar_filter="trace_based")
        labels.add(self.queue.feedback)
        return [metric for points in (*both, labels) for metric in points.collect()]


@contextmanager
def records_service(model: Model, challenger_model: Model | None = None, **settings: Any) -> Iterator[RecordsService]:
    """Run the service as it is by default, but without a sidecar; records are complete when the block has ended.

    Args:
        model: the model that answers.
        challenger_model: a second version that is served beside it.
        **settings: settings that differ from the tests' own.
    """
    queue = RecordingQueue()
    records = SidecarPipeline(
        RequestTracer(DEFAULT_ON, synthetic_token=SYNTHETIC_TOKEN), queue, ExportHealth(), Counter()
    )  # type: ignore[arg-type]  # what of it is used
    chosen = read_settings(**{"id_key": ID_KEY, "store": "none", **settings})
    app = create_app(chosen, model, Telemetry(pipeline=records), challenger=challenger_model)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield RecordsService(client, queue, model)


@contextmanager
def service_with_challenger(
    model: Model, challenger_model: Model | None, **settings: Any
) -> Iterator[tuple[TestClient, RecordingQueue]]:
    """Run `records_service` with a challenger; a client of it, and the queue that its records are put into."""
    with records_service(model, challenger_model, **settings) as service:
        yield service.client, service.queue


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    """List all spans of an export request."""
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
