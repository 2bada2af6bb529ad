"""How one encoded OTLP request travels: one attempt, and what became of it.

The stock exporters resolve OpenTelemetry's variables (endpoints, headers, certificates, compression, proxies); only
their transport is used. When to try again is left to whoever sends: their own retries sleep within the timeout and drop
the request at its end. They offer no public way to either, hence the private names here; each has a test that notices
when it goes away.

| what comes back | outcome |
|---|---|
| 2xx, OK | `Delivered`; a partial success says how many items were rejected |
| 429, 502, 503, 504; CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS | `TryAgain` |
| RESOURCE_EXHAUSTED with RetryInfo; no connection, no answer in time | `TryAgain` |
| anything else | `Refused` |

`error_type` is what `error.type` is by the semantic conventions: the status, or the exception's name.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, cast

from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

if TYPE_CHECKING:
    import grpc
    import requests
    from opentelemetry.exporter.http.transport._base import BaseHTTPResult
    from opentelemetry.exporter.otlp.common.http import _OTLPHTTPClient
    from opentelemetry.exporter.otlp.proto.grpc.exporter import OTLPExporterMixin

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")

RETRYABLE_STATUSES: Final = frozenset({429, 502, 503, 504})
RETRYABLE_CODES: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
DEFAULT_GRPC_ENDPOINT: Final = "http://localhost:4317"


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


@dataclass(frozen=True, slots=True)
class Refused:
    """Sending it again makes no sense."""

    error_type: str
    message: str


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
    if protocol == "grpc":
        return GrpcClient(_KINDS[signal], _grpc_exporter(signal, timeout_seconds), timeout_seconds)
    return HttpClient(_KINDS[signal], _http_client(signal, timeout_seconds), timeout_seconds)


class HttpClient:
    """OTLP/HTTP by the stock exporter's session, headers and compression."""

    def __init__(self, kind: _Kind, stock: "_OTLPHTTPClient", timeout_seconds: float) -> None:
        from opentelemetry.exporter.otlp.common import http  # noqa: PLC0415  only when HTTP is in use
        from requests.exceptions import ContentDecodingError  # noqa: PLC0415  only when HTTP is in use

        self._kind = kind
        self._stock = stock
        self._timeout = timeout_seconds
        self._retry_after = http._extract_retry_after  # noqa: SLF001  seconds or a date
        # An address or header that cannot be sent (all are ValueErrors), an answer that is not what it says it is.
        self._final = (ValueError, ContentDecodingError)

    def send(self, request: bytes) -> Outcome:
        """Try once; twice when the connection was lost between requests."""
        packed = self._stock._compress(request)  # noqa: SLF001  as the variables say
        result = self._stock._submit(packed, self._timeout)  # noqa: SLF001  one attempt, which `export` is not
        if result.status_code is None:
            error_type = type(result.error).__qualname__
            if isinstance(result.error, self._final):
                return Refused(error_type, str(result.error))
            return TryAgain(None, error_type)
        if 200 <= result.status_code < 300:
            return _delivered(self._kind, _protobuf(self._kind.response, result))
        if result.status_code in RETRYABLE_STATUSES:
            return TryAgain(self._retry_after(result), str(result.status_code))
        message = getattr(_protobuf(Status, result), "message", "")
        return Refused(str(result.status_code), message or result.reason or "")

    def close(self) -> None:
        """Close the session; a request in flight goes on until it times out."""
        self._stock._transport.close()  # noqa: SLF001  the stock `shutdown` complains when it is called twice


class GrpcClient:
    """OTLP/gRPC by the stock exporter's channel and metadata; the request passes as the bytes that it is."""

    def __init__(self, kind: _Kind, stock: "OTLPExporterMixin[Any, Any, Any, Any]", timeout_seconds: float) -> None:
        import grpc  # noqa: PLC0415  only when gRPC is in use

        self._kind = kind
        self._stock = stock
        self._timeout = timeout_seconds
        self._rpc_error = grpc.RpcError
        self._closed = False
        self._export = self._method()

    def send(self, request: bytes) -> Outcome:
        """Try once."""
        metadata: Any = self._stock._headers  # noqa: SLF001  a tuple once the constructor has resolved it
        try:
            answer = self._export(request, timeout=self._timeout, metadata=metadata)
        except self._rpc_error as error:
            return self._failure(error)
        except ValueError as error:  # the channel was closed meanwhile, or a header cannot be sent
            return TryAgain(None, "CANCELLED") if self._closed else Refused(type(error).__qualname__, str(error))
        return _delivered(self._kind, answer)

    def close(self) -> None:
        """Close the channel, which ends a call in flight."""
        self._closed = True
        self._channel().close()

    def _failure(self, error: Any) -> Outcome:  # noqa: ANN401  grpc types RpcError without the call that it also is
        code = error.code().name
        pause = _retry_info(dict(error.trailing_metadata() or ()))
        if code not in RETRYABLE_CODES and (code != "RESOURCE_EXHAUSTED" or pause is None):
            return Refused(code, error.details() or "")
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and not self._closed:
            self._connect_anew()
        return TryAgain(pause, code)

    def _connect_anew(self) -> None:
        """Drop the channel: it would wait by a schedule of its own, up to two minutes, before it connects again."""
        self._channel().close()
        self._stock._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # noqa: SLF001  as the stock one does
        self._export = self._method()

    def _method(self) -> "grpc.UnaryUnaryMultiCallable[bytes, Message]":
        return self._channel().unary_unary(
            f"/opentelemetry.proto.collector.{self._kind.service}/Export",
            response_deserializer=self._kind.response.FromString,
        )

    def _channel(self) -> "grpc.Channel":
        channel: Any = self._stock._channel  # noqa: SLF001  there from its constructor on
        return cast("grpc.Channel", channel)


def _http_client(signal: Signal, timeout: float) -> "_OTLPHTTPClient":
    """The stock client within the stock exporter. Each protocol's exporters are imported only when they are in use."""
    session = _session(signal)
    if signal == "traces":
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415  see above

        return trace_exporter.OTLPSpanExporter(timeout=timeout, session=session)._client  # noqa: SLF001  see the module
    if signal == "metrics":
        from opentelemetry.exporter.otlp.proto.http import metric_exporter  # noqa: PLC0415  see above

        return metric_exporter.OTLPMetricExporter(timeout=timeout, session=session)._client  # noqa: SLF001  see the module
    from opentelemetry.exporter.otlp.proto.http import _log_exporter  # noqa: PLC0415  see above

    return _log_exporter.OTLPLogExporter(timeout=timeout, session=session)._client  # noqa: SLF001  see the module


def _session(signal: Signal) -> "requests.Session | None":
    """A session in which a certificate's variable beats REQUESTS_CA_BUNDLE, which it does not in a stock one.

    None where the stock one will do. It would hide a credential provider's, which comes first therefore.
    """
    provider = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_{}CREDENTIAL_PROVIDER"
    provided = any(os.environ.get(provider.format(infix)) for infix in ("", f"{signal.upper()}_"))
    if provided or not _variable(signal, "CERTIFICATE"):
        return None
    import requests  # noqa: PLC0415  only when HTTP is in use

    class Session(requests.Session):
        def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:  # noqa: ANN401  passed on
            return super().merge_environment_settings(url, proxies, stream, verify or self.verify, cert)

    return Session()


def _grpc_exporter(signal: Signal, timeout: float) -> "OTLPExporterMixin[Any, Any, Any, Any]":
    """The stock exporter. It fails on variables that are empty or `none`, so two are resolved here."""
    import grpc  # noqa: PLC0415  see `_http_client`

    names = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
    compression = names.get(_variable(signal, "COMPRESSION").strip().lower(), grpc.Compression.NoCompression)
    endpoint = _variable(signal, "ENDPOINT") or DEFAULT_GRPC_ENDPOINT
    if signal == "traces":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter  # noqa: PLC0415  see `_http_client`

        return trace_exporter.OTLPSpanExporter(endpoint, timeout=timeout, compression=compression)
    if signal == "metrics":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter  # noqa: PLC0415  see `_http_client`

        return metric_exporter.OTLPMetricExporter(endpoint, timeout=timeout, compression=compression)
    from opentelemetry.exporter.otlp.proto.grpc import _log_exporter  # noqa: PLC0415  see `_http_client`

    return _log_exporter.OTLPLogExporter(endpoint, timeout=timeout, compression=compression)


def _variable(signal: Signal, name: str) -> str:
    """A signal's own variable, or the one for all signals; an empty one is as good as none."""
    environ = os.environ
    return environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""


def _protobuf(type_: type[Message], result: "BaseHTTPResult") -> Message:
    """The message in an HTTP answer; an empty one when there is none that can be read."""
    if "protobuf" in result.headers().get("content-type", ""):
        try:
            return type_.FromString(result.content())
        except DecodeError:
            pass
    return type_()


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
