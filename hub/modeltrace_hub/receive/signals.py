"""The three signals of OTLP: names, messages and decoders, one entry each."""

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
from modeltrace_hub.decode.message_shape import Shape, shape_of


@dataclass(frozen=True, slots=True)
class Signal:
    """How one signal travels. `rejected` is the count's name in the response's partial success.

    The messages differ in type from signal to signal, hence `Any` in the functions that take them.
    """

    name: SignalName
    path: str
    service: str
    request: type[Message]
    response: type[Message]
    rejected: str
    decode: Callable[[Any, int, int, Budget, Problems], Batch]
    shape: Shape

    def answer(self, batch: Batch) -> Message:
        """The response: empty when all was kept as it was, else a partial success.

        OTLP specification 1.x, "Partial Success": rejected records are counted and are not to be sent again; a message
        with a count of zero is a warning.
        """
        response: Any = self.response()
        if batch.message:
            setattr(response.partial_success, self.rejected, batch.rejected.total())
            response.partial_success.error_message = batch.message
        answer: Message = response
        return answer


TRACES: Final = Signal(
    name="traces",
    path="/v1/traces",
    service="opentelemetry.proto.collector.trace.v1.TraceService",
    request=trace_service_pb2.ExportTraceServiceRequest,
    response=trace_service_pb2.ExportTraceServiceResponse,
    rejected="rejected_spans",
    decode=traces.decode,
    shape=shape_of(trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR),
)
METRICS: Final = Signal(
    name="metrics",
    path="/v1/metrics",
    service="opentelemetry.proto.collector.metrics.v1.MetricsService",
    request=metrics_service_pb2.ExportMetricsServiceRequest,
    response=metrics_service_pb2.ExportMetricsServiceResponse,
    rejected="rejected_data_points",
    decode=metrics.decode,
    shape=shape_of(metrics_service_pb2.ExportMetricsServiceRequest.DESCRIPTOR),
)
LOGS: Final = Signal(
    name="logs",
    path="/v1/logs",
    service="opentelemetry.proto.collector.logs.v1.LogsService",
    request=logs_service_pb2.ExportLogsServiceRequest,
    response=logs_service_pb2.ExportLogsServiceResponse,
    rejected="rejected_log_records",
    decode=logs.decode,
    shape=shape_of(logs_service_pb2.ExportLogsServiceRequest.DESCRIPTOR),
)
SIGNALS: Final = (TRACES, METRICS, LOGS)
