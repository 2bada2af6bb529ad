"""Exporters of the OpenTelemetry SDK that pass encoded requests to the sidecar.

They export all telemetry that is not about predictions: a few records per minute. The sidecar sends, retries and spools
the requests.
"""

from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder import OTLPMetricExporterMixin
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from modeltrace.telemetry.export.queue import ExportQueue


class SidecarSpanExporter(SpanExporter):
    """Passes spans to the sidecar."""

    def __init__(self, queue: ExportQueue) -> None:
        self._queue = queue

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Encode and enqueue."""
        self._queue.enqueue_encoded("traces", encode_spans(spans).SerializeToString(), len(spans))
        return SpanExportResult.SUCCESS


class SidecarLogExporter(LogRecordExporter):
    """Passes log records to the sidecar."""

    def __init__(self, queue: ExportQueue) -> None:
        self._queue = queue

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Encode and enqueue."""
        self._queue.enqueue_encoded("logs", encode_logs(batch).SerializeToString(), len(batch))
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing: the queue is closed elsewhere."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002  the base's
        """Do nothing: the exporter stores nothing."""
        return True


class SidecarMetricExporter(OTLPMetricExporterMixin, MetricExporter):
    """Passes metrics to the sidecar, with the temporality and aggregation of OpenTelemetry's variables.

    The SDK's exporters for HTTP and gRPC share the mixin. It reads these variables and has no client.
    """

    def __init__(self, queue: ExportQueue) -> None:
        self._common_configuration()
        self._queue = queue

    def export(self, metrics_data: MetricsData, timeout_millis: float | None = None, **_: Any) -> MetricExportResult:  # noqa: ANN401, ARG002  the base's
        """Encode and enqueue."""
        points = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        self._queue.enqueue_encoded("metrics", encode_metrics(metrics_data).SerializeToString(), points)
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:  # noqa: ANN401  the base's
        """Do nothing: the queue is closed elsewhere."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002  the base's
        """Do nothing: the exporter stores nothing."""
        return True
