"""The SDK's own exporters, handing over to the exporter process what is not a prediction: a few records a minute.

They encode with the SDK's encoder, here, and leave the network, the waiting and the keeping to the process beside.
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
    """Hands over spans."""

    def __init__(self, outbox: ExportQueue) -> None:
        self._outbox = outbox

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Encode and hand over."""
        self._outbox.enqueue_encoded("traces", encode_spans(spans).SerializeToString(), len(spans))
        return SpanExportResult.SUCCESS


class SidecarLogExporter(LogRecordExporter):
    """Hands over log records."""

    def __init__(self, outbox: ExportQueue) -> None:
        self._outbox = outbox

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Encode and hand over."""
        self._outbox.enqueue_encoded("logs", encode_logs(batch).SerializeToString(), len(batch))
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing waits here."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002  the base's
        """Nothing waits here."""
        return True


class SidecarMetricExporter(OTLPMetricExporterMixin, MetricExporter):
    """Hands over metric points; temporality and aggregation are those that OpenTelemetry's variables ask for.

    It takes both from what the SDK's exporters for HTTP and gRPC share, without the client that either brings along.
    """

    def __init__(self, outbox: ExportQueue) -> None:
        self._common_configuration()
        self._outbox = outbox

    def export(self, metrics_data: MetricsData, timeout_millis: float | None = None, **_: Any) -> MetricExportResult:  # noqa: ANN401, ARG002  the base's
        """Encode and hand over."""
        points = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        self._outbox.enqueue_encoded("metrics", encode_metrics(metrics_data).SerializeToString(), points)
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:  # noqa: ANN401  the base's
        """Nothing waits here."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002  the base's
        """Nothing waits here."""
        return True
