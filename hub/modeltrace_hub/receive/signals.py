"""The three OTLP signals: names, message types and decoders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from modeltrace_hub.decode import logs, metrics, traces
from modeltrace_hub.decode.batch import Batch, Problems, SignalName
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.message_shape import MessageShape, build_shape


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal."""

    name: SignalName
    http_path: str
    grpc_service: str
    request_type: type[Message]
    response_type: type[Message]
    rejected_field: str  # field of the partial success that counts rejected records
    decode: Callable[[Any, int, int, Budget, Problems], Batch]
    shape: MessageShape  # description of the request message

    def build_response(self, batch: Batch) -> Message:
        """Return the response: empty if all records were stored unchanged, else a partial success.

        OTLP specification 1.x, "Partial Success": the response counts the rejected records, which senders must not send
        again. If the count is zero, the message is a warning.
        """
        response: Any = self.response_type()
        if batch.message:
            setattr(response.partial_success, self.rejected_field, batch.rejected.total())
            response.partial_success.error_message = batch.message
        message: Message = response
        return message


TRACES: Final = Signal(
    name="traces",
    http_path="/v1/traces",
    grpc_service="opentelemetry.proto.collector.trace.v1.TraceService",
    request_type=trace_service_pb2.ExportTraceServiceRequest,
    response_type=trace_service_pb2.ExportTraceServiceResponse,
    rejected_field="rejected_spans",
    decode=traces.decode,
    shape=build_shape(trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR),
)
METRICS: Final = Signal(
    name="metrics",
    http_path="/v1/metrics",
    grpc_service="opentelemetry.proto.collector.metrics.v1.MetricsService",
    request_type=metrics_service_pb2.ExportMetricsServiceRequest,
    response_type=metrics_service_pb2.ExportMetricsServiceResponse,
    rejected_field="rejected_data_points",
    decode=metrics.decode,
    shape=build_shape(metrics_service_pb2.ExportMetricsServiceRequest.DESCRIPTOR),
)
LOGS: Final = Signal(
    name="logs",
    http_path="/v1/logs",
    grpc_service="opentelemetry.proto.collector.logs.v1.LogsService",
    request_type=logs_service_pb2.ExportLogsServiceRequest,
    response_type=logs_service_pb2.ExportLogsServiceResponse,
    rejected_field="rejected_log_records",
    decode=logs.decode,
    shape=build_shape(logs_service_pb2.ExportLogsServiceRequest.DESCRIPTOR),
)
SIGNALS: Final = (TRACES, METRICS, LOGS)
