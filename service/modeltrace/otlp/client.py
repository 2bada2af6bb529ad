"""Send one encoded OTLP request and classify the outcome.

The client uses only the transport of the SDK's exporters (`modeltrace.otlp.exporters`). The caller decides when to
retry; the exporters would retry until a timeout and then drop the request. The SDK has no public interface for a single
attempt, so this module uses private names. A test fails if one of them disappears.

| response | outcome |
|---|---|
| 2xx, OK | `Success`, with the number of rejected items of a partial success |
| 429, 502, 503, 504; CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS | `Retryable` |
| RESOURCE_EXHAUSTED with RetryInfo; no connection, no response in time | `Retryable` |
| anything else | `Permanent` |

`error_type` is `error.type` of the semantic conventions: the status, or the name of the exception. `failure` explains
the cause and the remedy (`modeltrace.otlp.failures`).
Specification: https://opentelemetry.io/docs/specs/otlp/#failures
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from modeltrace.otel_env.table import OtlpProtocol, Signal
from modeltrace.otlp.exporters import credentials, sdk_exporter, target, usable_tls_files
from modeltrace.otlp.failures import Failure, classify

if TYPE_CHECKING:
    import grpc
    from opentelemetry.exporter.http.transport._base import BaseHTTPResult
    from opentelemetry.exporter.otlp.common.http import _OTLPHTTPClient
    from opentelemetry.exporter.otlp.proto.grpc.exporter import OTLPExporterMixin

RETRYABLE_STATUSES: Final = frozenset({429, 502, 503, 504})
RETRYABLE_CODES: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
NO_DETAILS: Final = Failure("", "")


@dataclass(frozen=True, slots=True)
class Success:
    """The endpoint accepted the request, except for the rejected items, which must not be sent again."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retryable:
    """The same request may be sent again, after `retry_after` seconds if the endpoint demands a delay."""

    retry_after: float | None
    error_type: str
    failure: Failure = field(default=NO_DETAILS, compare=False)
    timed_out: bool = False  # the endpoint received the request and did not answer in time; it may still accept it


@dataclass(frozen=True, slots=True)
class Permanent:
    """The request must not be sent again."""

    error_type: str
    message: str
    failure: Failure = field(default=NO_DETAILS, compare=False)


Outcome = Success | Retryable | Permanent


class Client(Protocol):
    """Sends requests of one signal. One thread at a time may call `send`, any thread `close`."""

    def send(self, request: bytes, timeout_factor: int = 1) -> Outcome:
        """Make one attempt, which may take `timeout_factor` times the configured timeout."""

    def close(self) -> None:
        """Close all connections; this may fail a request in flight."""


class _CollectorService(NamedTuple):
    """The parts of the OTLP protocol that differ between signals."""

    name: str
    response_type: type[Message]
    rejected_field: str  # the counter in the partial success


_SERVICES: Final[dict[Signal, _CollectorService]] = {
    "traces": _CollectorService("trace.v1.TraceService", ExportTraceServiceResponse, "rejected_spans"),
    "metrics": _CollectorService("metrics.v1.MetricsService", ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": _CollectorService("logs.v1.LogsService", ExportLogsServiceResponse, "rejected_log_records"),
}


def otlp_client(signal: Signal, *, protocol: OtlpProtocol, timeout_seconds: float) -> Client:
    """Build the client that OpenTelemetry's variables configure; `timeout_seconds` limits each attempt."""
    return GrpcClient(signal, timeout_seconds) if protocol == "grpc" else HttpClient(signal, timeout_seconds)


class HttpClient:
    """Sends OTLP/HTTP with the session, headers and compression of the SDK's exporter."""

    def __init__(self, signal: Signal, timeout_seconds: float) -> None:
        from opentelemetry.exporter.otlp.common import http  # noqa: PLC0415  only when HTTP is in use
        from requests.exceptions import ContentDecodingError, ReadTimeout  # noqa: PLC0415  only when HTTP is in use

        self._service = _SERVICES[signal]
        self._tls_files = usable_tls_files(signal, protocol="http/protobuf")
        exporter = sdk_exporter(signal, protocol="http/protobuf", timeout_seconds=timeout_seconds)
        self._exporter: _OTLPHTTPClient = exporter._client  # noqa: SLF001  see the module
        self._target = target(signal, protocol="http/protobuf", timeout_seconds=timeout_seconds)
        self._timeout = timeout_seconds
        self._retry_after = http._extract_retry_after  # noqa: SLF001  seconds or a date
        # An invalid address or header (both are ValueErrors), or a response that does not match its Content-Encoding.
        self._permanent_errors = (ValueError, ContentDecodingError)
        self._timeout_error = ReadTimeout

    def send(self, request: bytes, timeout_factor: int = 1) -> Outcome:
        """Make one attempt, or two if the connection was lost between requests."""
        compressed = self._exporter._compress(request)  # noqa: SLF001  as the variables configure it
        response = self._exporter._submit(compressed, self._timeout * timeout_factor)  # noqa: SLF001  `export` would retry
        if response.status_code is None:
            return self._error_outcome(response.error or ConnectionError())
        if 200 <= response.status_code < 300:
            return _success(self._service, _parse_response(self._service.response_type, response))
        message = getattr(_parse_response(Status, response), "message", "")
        failure = classify(response.status_code, self._target, message or _response_text(response))
        if response.status_code in RETRYABLE_STATUSES:
            return Retryable(self._retry_after(response), str(response.status_code), failure)
        return Permanent(str(response.status_code), message or response.reason or "", failure)

    def close(self) -> None:
        """Close the session; a request in flight continues until it times out."""
        self._exporter._transport.close()  # noqa: SLF001  `shutdown` logs a warning on its second call

    def _error_outcome(self, error: Exception) -> Outcome:
        failure = (self._tls_files and self._tls_files.find_problem(allow_folder=True)) or classify(error, self._target)
        failure = failure._replace(address=self._target.display_url)
        error_type = type(error).__qualname__
        if isinstance(error, self._permanent_errors):
            return Permanent(error_type, failure.reason, failure)
        return Retryable(None, error_type, failure, isinstance(error, self._timeout_error))


class GrpcClient:
    """Sends OTLP/gRPC with the channel and metadata of the SDK's exporter; the encoded request is sent unchanged."""

    def __init__(self, signal: Signal, timeout_seconds: float) -> None:
        import grpc  # noqa: PLC0415  only when gRPC is in use

        self._service = _SERVICES[signal]
        self._timeout = timeout_seconds
        self._rpc_error = grpc.RpcError
        self._closed = False
        self._target = target(signal, protocol="grpc", timeout_seconds=timeout_seconds)
        self._tls_files = usable_tls_files(signal, protocol="grpc")
        self._exporter: OTLPExporterMixin[Any, Any, Any, Any] = sdk_exporter(
            signal, protocol="grpc", timeout_seconds=timeout_seconds
        )
        self._tls_problem = self._find_tls_problem()
        self._export_call = self._build_export_call()

    def send(self, request: bytes, timeout_factor: int = 1) -> Outcome:
        """Make one attempt."""
        if problem := self._tls_problem:
            self._reconnect()  # the files may have been created meanwhile
            return Retryable(None, FileNotFoundError.__qualname__, problem)
        metadata: Any = self._exporter._headers  # noqa: SLF001  a tuple once the constructor has resolved it
        try:
            response = self._export_call(request, timeout=self._timeout * timeout_factor, metadata=metadata)
        except self._rpc_error as error:
            return self._error_outcome(error)
        except ValueError as error:  # the channel was closed, or a header is invalid
            if self._closed:
                return Retryable(None, "CANCELLED")
            failure = classify(error, self._target)  # the text of the error contains the header
            return Permanent(type(error).__qualname__, failure.reason, failure)
        return _success(self._service, response)

    def close(self) -> None:
        """Close the channel, which cancels a call in flight."""
        self._closed = True
        self._channel().close()

    def _error_outcome(self, error: Any) -> Outcome:  # noqa: ANN401  grpc types RpcError without the call that it also is
        code, details = error.code().name, error.details() or ""
        delay = _retry_delay(dict(error.trailing_metadata() or ()))
        if self._closed:
            return Retryable(delay, code)
        failure = classify(code, self._target, details)
        if code not in RETRYABLE_CODES and (code != "RESOURCE_EXHAUSTED" or delay is None):
            return Permanent(code, details, failure)
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            self._reconnect()
        return Retryable(delay, code, failure, code == "DEADLINE_EXCEEDED")

    def _reconnect(self) -> None:
        """Replace the channel: its own backoff would wait up to two minutes before it connects again."""
        self._channel().close()
        self._tls_problem = self._find_tls_problem()
        if self._tls_files and not self._tls_problem:
            self._exporter._credentials = credentials(self._tls_files)  # noqa: SLF001  the files may have changed
        self._exporter._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # noqa: SLF001  as its constructor does
        self._export_call = self._build_export_call()

    def _find_tls_problem(self) -> Failure | None:
        """Return why the certificate files cannot be used, or `None` if they can."""
        problem = self._tls_files and self._tls_files.find_problem(allow_folder=False)
        return problem._replace(address=self._target.display_url) if problem else None

    def _build_export_call(self) -> "grpc.UnaryUnaryMultiCallable[bytes, Message]":
        return self._channel().unary_unary(
            f"/opentelemetry.proto.collector.{self._service.name}/Export",
            response_deserializer=self._service.response_type.FromString,
        )

    def _channel(self) -> "grpc.Channel":
        channel: Any = self._exporter._channel  # noqa: SLF001  set by its constructor
        return cast("grpc.Channel", channel)


def _parse_response(message_type: type[Message], response: "BaseHTTPResult") -> Message:
    """Parse the message in an HTTP response; return an empty message if it cannot be parsed."""
    if "protobuf" in response.headers().get("content-type", ""):
        try:
            return message_type.FromString(response.content())
        except DecodeError:
            pass
    return message_type()


def _response_text(response: "BaseHTTPResult") -> str:
    """Return the text of an HTTP response that is meant for people."""
    if not response.headers().get("content-type", "").startswith(("text/plain", "application/json")):
        return ""
    return response.content()[:500].decode(errors="replace")


def _success(service: _CollectorService, response: Any) -> Success:  # noqa: ANN401  one of three types with different fields
    partial = response.partial_success
    return Success(max(0, getattr(partial, service.rejected_field)), partial.error_message)


def _retry_delay(metadata: dict[str, Any]) -> float | None:
    """Return the RetryInfo delay of a gRPC error in seconds. Some servers send it outside of the status details."""
    info = RetryInfo()
    try:
        if retry_info := metadata.get("google.rpc.retryinfo-bin"):
            info.ParseFromString(retry_info)
        elif not any(
            detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info)
            for detail in Status.FromString(metadata.get("grpc-status-details-bin", b"")).details
        ):
            return None
    except DecodeError:
        return None
    delay: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return max(0.0, delay)
