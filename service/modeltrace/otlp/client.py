"""How one encoded OTLP request travels: one attempt, and what became of it.

Only the transport of the SDK's exporters is used (`modeltrace.otlp.exporters`). When to try again is left to whoever
sends:
their own retries sleep within the timeout and drop the request at its end. They offer no public way to either, hence
the private names here; each has a test that notices when it goes away.

| what comes back | outcome |
|---|---|
| 2xx, OK | `Delivered`; a partial success says how many items were rejected |
| 429, 502, 503, 504; CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS | `TryAgain` |
| RESOURCE_EXHAUSTED with RetryInfo; no connection, no answer in time | `TryAgain` |
| anything else | `Refused` |

`error_type` is what `error.type` is by the semantic conventions: the status, or the exception's name. `failure` says in
words what is wrong and what to do (`modeltrace.otlp.failures`).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, cast

from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from modeltrace.otel_env.table import SIGNALS, Signal
from modeltrace.otlp.exporters import credentials, sdk_exporter, target, usable_tls_files
from modeltrace.otlp.failures import Failure, classify

if TYPE_CHECKING:
    import grpc
    from opentelemetry.exporter.http.transport._base import BaseHTTPResult
    from opentelemetry.exporter.otlp.common.http import _OTLPHTTPClient
    from opentelemetry.exporter.otlp.proto.grpc.exporter import OTLPExporterMixin

__all__ = ["SIGNALS", "Client", "Delivered", "Outcome", "Refused", "Signal", "TryAgain", "otlp_client"]

RETRYABLE_STATUSES: Final = frozenset({429, 502, 503, 504})
RETRYABLE_CODES: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
NOTHING_KNOWN: Final = Failure("", "")


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it, but for the items that it rejected, which must not be sent again."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The same request may be sent later; `retry_after` is how many seconds later, if the endpoint said so."""

    retry_after: float | None
    error_type: str
    failure: Failure = field(default=NOTHING_KNOWN, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """Sending it again makes no sense."""

    error_type: str
    message: str
    failure: Failure = field(default=NOTHING_KNOWN, compare=False)


Outcome = Delivered | TryAgain | Refused


class Client(Protocol):
    """Sends requests of one signal; `send` from one thread at a time, `close` from any."""

    def send(self, request: bytes) -> Outcome:
        """Try once."""

    def close(self) -> None:
        """Give back connections. A send in flight may fail for it."""


class _Kind(NamedTuple):
    """What differs between the signals on the wire."""

    service: str
    response: type[Message]
    rejected: str  # the field of the partial success that counts


_KINDS: Final[dict[Signal, _Kind]] = {
    "traces": _Kind("trace.v1.TraceService", ExportTraceServiceResponse, "rejected_spans"),
    "metrics": _Kind("metrics.v1.MetricsService", ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": _Kind("logs.v1.LogsService", ExportLogsServiceResponse, "rejected_log_records"),
}


def otlp_client(signal: Signal, *, protocol: Literal["http/protobuf", "grpc"], timeout_seconds: float) -> Client:
    """The client that OpenTelemetry's variables ask for; `timeout_seconds` is for each attempt."""
    return GrpcClient(signal, timeout_seconds) if protocol == "grpc" else HttpClient(signal, timeout_seconds)


class HttpClient:
    """OTLP/HTTP by the stock exporter's session, headers and compression."""

    def __init__(self, signal: Signal, timeout_seconds: float) -> None:
        from opentelemetry.exporter.otlp.common import http  # noqa: PLC0415  only when HTTP is in use
        from requests.exceptions import ContentDecodingError  # noqa: PLC0415  only when HTTP is in use

        self._kind = _KINDS[signal]
        self._files = usable_tls_files(signal, protocol="http/protobuf")
        self._stock: _OTLPHTTPClient = sdk_exporter(signal, protocol="http/protobuf", seconds=timeout_seconds)._client  # noqa: SLF001  see the module
        self._target = target(signal, protocol="http/protobuf", seconds=timeout_seconds)
        self._timeout = timeout_seconds
        self._retry_after = http._extract_retry_after  # noqa: SLF001  seconds or a date
        # An address or header that cannot be sent (all are ValueErrors), an answer that is not what it says it is.
        self._final = (ValueError, ContentDecodingError)

    def send(self, request: bytes) -> Outcome:
        """Try once; twice when the connection was lost between requests."""
        packed = self._stock._compress(request)  # noqa: SLF001  as the variables say
        result = self._stock._submit(packed, self._timeout)  # noqa: SLF001  one attempt, which `export` is not
        if result.status_code is None:
            return self._failed(result.error or ConnectionError())
        if 200 <= result.status_code < 300:
            return _delivered(self._kind, _protobuf(self._kind.response, result))
        message = getattr(_protobuf(Status, result), "message", "")
        failure = classify(result.status_code, self._target, message or _text(result))
        if result.status_code in RETRYABLE_STATUSES:
            return TryAgain(self._retry_after(result), str(result.status_code), failure)
        return Refused(str(result.status_code), message or result.reason or "", failure)

    def close(self) -> None:
        """Close the session; a request in flight goes on until it times out."""
        self._stock._transport.close()  # noqa: SLF001  the stock `shutdown` complains when it is called twice

    def _failed(self, error: Exception) -> Outcome:
        failure = (self._files and self._files.problem(folder=True)) or classify(error, self._target)
        failure = failure._replace(where=self._target.shown)
        error_type = type(error).__qualname__
        if isinstance(error, self._final):
            return Refused(error_type, failure.reason, failure)
        return TryAgain(None, error_type, failure)


class GrpcClient:
    """OTLP/gRPC by the stock exporter's channel and metadata; the request passes as the bytes that it is."""

    def __init__(self, signal: Signal, timeout_seconds: float) -> None:
        import grpc  # noqa: PLC0415  only when gRPC is in use

        self._kind = _KINDS[signal]
        self._timeout = timeout_seconds
        self._rpc_error = grpc.RpcError
        self._closed = False
        self._target = target(signal, protocol="grpc", seconds=timeout_seconds)
        self._files = usable_tls_files(signal, protocol="grpc")
        self._stock: OTLPExporterMixin[Any, Any, Any, Any] = sdk_exporter(
            signal, protocol="grpc", seconds=timeout_seconds
        )
        self._unusable = self._problem()
        self._export = self._method()

    def send(self, request: bytes) -> Outcome:
        """Try once."""
        if problem := self._unusable:
            self._connect_anew()  # the files may be there by now
            return TryAgain(None, FileNotFoundError.__qualname__, problem)
        metadata: Any = self._stock._headers  # noqa: SLF001  a tuple once the constructor has resolved it
        try:
            answer = self._export(request, timeout=self._timeout, metadata=metadata)
        except self._rpc_error as error:
            return self._failure(error)
        except ValueError as error:  # the channel was closed meanwhile, or a header cannot be sent
            if self._closed:
                return TryAgain(None, "CANCELLED")
            failure = classify(error, self._target)  # the words hold the header
            return Refused(type(error).__qualname__, failure.reason, failure)
        return _delivered(self._kind, answer)

    def close(self) -> None:
        """Close the channel, which ends a call in flight."""
        self._closed = True
        self._channel().close()

    def _failure(self, error: Any) -> Outcome:  # noqa: ANN401  grpc types RpcError without the call that it also is
        code, details = error.code().name, error.details() or ""
        pause = _retry_info(dict(error.trailing_metadata() or ()))
        if self._closed:
            return TryAgain(pause, code)
        failure = classify(code, self._target, details)
        if code not in RETRYABLE_CODES and (code != "RESOURCE_EXHAUSTED" or pause is None):
            return Refused(code, details, failure)
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            self._connect_anew()
        return TryAgain(pause, code, failure)

    def _connect_anew(self) -> None:
        """Drop the channel: it would wait by a schedule of its own, up to two minutes, before it connects again."""
        self._channel().close()
        self._unusable = self._problem()
        if self._files and not self._unusable:
            self._stock._credentials = credentials(self._files)  # noqa: SLF001  the files may be others by now
        self._stock._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # noqa: SLF001  as the stock one does
        self._export = self._method()

    def _problem(self) -> Failure | None:
        """Why the certificate files cannot be used, if they cannot."""
        problem = self._files and self._files.problem(folder=False)
        return problem._replace(where=self._target.shown) if problem else None

    def _method(self) -> "grpc.UnaryUnaryMultiCallable[bytes, Message]":
        return self._channel().unary_unary(
            f"/opentelemetry.proto.collector.{self._kind.service}/Export",
            response_deserializer=self._kind.response.FromString,
        )

    def _channel(self) -> "grpc.Channel":
        channel: Any = self._stock._channel  # noqa: SLF001  there from its constructor on
        return cast("grpc.Channel", channel)


def _protobuf(type_: type[Message], result: "BaseHTTPResult") -> Message:
    """The message in an HTTP answer; an empty one when there is none that can be read."""
    if "protobuf" in result.headers().get("content-type", ""):
        try:
            return type_.FromString(result.content())
        except DecodeError:
            pass
    return type_()


def _text(result: "BaseHTTPResult") -> str:
    """The words of an HTTP answer that are for people."""
    if not result.headers().get("content-type", "").startswith(("text/plain", "application/json")):
        return ""
    return result.content()[:500].decode(errors="replace")


def _delivered(kind: _Kind, answer: Any) -> Delivered:  # noqa: ANN401  one of three types with different fields
    partial = answer.partial_success
    return Delivered(max(0, getattr(partial, kind.rejected)), partial.error_message)


def _retry_info(metadata: dict[str, Any]) -> float | None:
    """The pause that a gRPC error asks for, in the status's details or, as some send it, by itself."""
    info = RetryInfo()
    try:
        if alone := metadata.get("google.rpc.retryinfo-bin"):
            info.ParseFromString(alone)
        elif not any(
            detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info)
            for detail in Status.FromString(metadata.get("grpc-status-details-bin", b"")).details
        ):
            return None
    except DecodeError:
        return None
    pause: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return max(0.0, pause)
