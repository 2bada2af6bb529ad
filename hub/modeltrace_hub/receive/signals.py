"""The three OTLP signals: names, message types and decoders."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from modeltrace_hub.decode import logs, metrics, traces
from modeltrace_hub.decode.batch import Problems, SignalName, Tables
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.message_shape import MessageShape, message_shape

# Decodes a request, with the time of its arrival, into rows.
Decoder = Callable[[Any, int, Budget, Problems], Tables]


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal."""

    name: SignalName
    http_path: str
    grpc_service: str
    request_type: type[Message]
    response_type: type[Message]
    rejected_field: str  # field of the partial success that counts rejected records
    decode: Decoder
    shape: MessageShape  # description of the request message

    def build_response(self, problems: Problems) -> Message:
        """Return the response: empty if all records were stored unchanged, else a partial success.

        OTLP specification 1.x, "Partial Success": the response counts the rejected records, which senders must not send
        again. If the count is zero, the message is a warning.
        """
        response: Any = self.response_type()
        if problems.message:
            setattr(response.partial_success, self.rejected_field, problems.rejected.total())
            response.partial_success.error_message = problems.message
        message: Message = response
        return message


def _signal(name: SignalName, module: ModuleType, rejected_field: str, decode: Decoder) -> Signal:
    """Return the signal whose service is defined in a module of the protocol."""
    (service,) = module.DESCRIPTOR.services_by_name.values()
    export = service.methods_by_name["Export"]
    return Signal(
        name=name,
        http_path=f"/v1/{name}",
        grpc_service=service.full_name,
        request_type=GetMessageClass(export.input_type),
        response_type=GetMessageClass(export.output_type),
        rejected_field=rejected_field,
        decode=decode,
        shape=message_shape(export.input_type),
    )


TRACES: Final = _signal("traces", trace_service_pb2, "rejected_spans", traces.decode)
METRICS: Final = _signal("metrics", metrics_service_pb2, "rejected_data_points", metrics.decode)
LOGS: Final = _signal("logs", logs_service_pb2, "rejected_log_records", logs.decode)
SIGNALS: Final = (TRACES, METRICS, LOGS)
