"""Send one encoded request over both protocols to real endpoints.

The client uses private names of the SDK's exporters. These tests use each of them with every signal, so a test fails
when one disappears.
"""

import gzip
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest
import requests
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from modeltrace.otel_env.table import SIGNALS, Signal
from modeltrace.otlp.client import Client, Outcome, Permanent, Retryable, Success, otlp_client
from tests.helpers.certificates import self_signed
from tests.helpers.processes import free_port, wait_until
from tests.helpers.receivers import OtlpEndpoint, Response, otlp_grpc, otlp_http

Protocol = Literal["http/protobuf", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = ("http/protobuf", "grpc")
LISTEN: dict[Protocol, Callable[..., AbstractContextManager[OtlpEndpoint]]] = {
    "http/protobuf": otlp_http,
    "grpc": otlp_grpc,
}
PATHS = {
    ("http/protobuf", "traces"): "/v1/traces",
    ("http/protobuf", "metrics"): "/v1/metrics",
    ("http/protobuf", "logs"): "/v1/logs",
    ("grpc", "traces"): "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ("grpc", "metrics"): "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    ("grpc", "logs"): "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
REQUEST = ExportTraceServiceRequest(
    resource_spans=[{"scope_spans": [{"spans": [{"name": f"span {number}"} for number in range(100)]}]}]
).SerializeToString()

Build = Callable[..., Client]


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Parametrize over both OTLP protocols."""
    protocol: Protocol = request.param
    return protocol


@pytest.fixture
def endpoint(protocol: Protocol, variables: pytest.MonkeyPatch) -> Iterator[OtlpEndpoint]:
    """Serve an endpoint of the protocol and set OTEL_EXPORTER_OTLP_ENDPOINT to it."""
    with LISTEN[protocol]() as listening:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.url)
        yield listening


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the variables of OpenTelemetry and of proxies from the environment."""
    for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def build(variables: pytest.MonkeyPatch) -> Iterator[Build]:
    """Return a function that builds clients; close them after the test."""
    del variables
    clients: list[Client] = []

    def client(signal: Signal, protocol: Protocol, seconds: float = 10) -> Client:
        clients.append(otlp_client(signal, protocol=protocol, timeout_seconds=seconds))
        return clients[-1]

    yield client
    for each in clients:
        each.close()


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_arrives_unchanged(endpoint: OtlpEndpoint, build: Build, protocol: Protocol, signal: Signal) -> None:
    """The endpoint receives the bytes at the path of the signal, with the user agent of the SDK's exporter."""
    assert build(signal, protocol).send(REQUEST) == Success()
    assert [(sent.path, sent.body) for sent in endpoint.requests] == [(PATHS[protocol, signal], REQUEST)]
    assert "OTel-OTLP-Exporter-Python" in endpoint.requests[0].headers["user-agent"]
    if protocol == "http/protobuf":
        assert endpoint.requests[0].headers["content-type"] == "application/x-protobuf"


def test_a_connection_serves_many_requests(endpoint: OtlpEndpoint, build: Build, protocol: Protocol) -> None:
    """One client sends several requests in sequence."""
    client = build("logs", protocol)

    assert [client.send(body) for body in (b"", REQUEST, b"\x00" * 500_000)] == [Success()] * 3
    assert [len(body) for body in endpoint.accepted] == [0, len(REQUEST), 500_000]


@pytest.mark.parametrize("signal", SIGNALS)
def test_variables_of_a_signal_take_precedence(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, variables: pytest.MonkeyPatch, signal: Signal
) -> None:
    """Endpoint and headers of a signal take precedence; over HTTP its endpoint is the complete URL."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    variables.setenv(f"{own}_ENDPOINT", f"{endpoint.url}/elsewhere" if protocol != "grpc" else endpoint.url)
    variables.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of%20all,x-of=all")
    variables.setenv(f"{own}_HEADERS", "Authorization=Bearer%20of%20one")

    assert build(signal, protocol).send(REQUEST) == Success()
    sent = endpoint.requests[0]
    assert sent.headers["authorization"] == "Bearer of one"
    assert "x-of" not in sent.headers
    assert sent.path == ("/elsewhere" if protocol != "grpc" else PATHS[protocol, signal])


def test_gzip_is_configured_by_a_variable(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, variables: pytest.MonkeyPatch
) -> None:
    """The request is compressed on the wire and complete at the endpoint."""
    variables.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    client: Any = build("traces", protocol)

    assert client.send(REQUEST) == Success()
    if protocol == "grpc":  # the server decompresses before the handler sees it
        assert client._exporter._compression is grpc.Compression.Gzip
        assert endpoint.accepted == [REQUEST]
    else:
        assert endpoint.requests[0].headers["content-encoding"] == "gzip"
        assert gzip.decompress(endpoint.accepted[0]) == REQUEST


@pytest.mark.parametrize("value", ["none", "", "zstd"])
def test_other_values_of_compression_disable_it(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, variables: pytest.MonkeyPatch, value: str
) -> None:
    """With `none`, an empty value or an unknown value, requests are sent uncompressed."""
    variables.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", value)
    variables.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", value)

    assert build("traces", protocol).send(REQUEST) == Success()
    assert endpoint.accepted == [REQUEST]


def test_an_empty_endpoint_means_the_default(protocol: Protocol, build: Build, variables: pytest.MonkeyPatch) -> None:
    """An empty variable counts as unset."""
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    client: Any = build("traces", protocol)

    assert client._exporter._endpoint == ("localhost:4317" if protocol == "grpc" else "http://localhost:4318/v1/traces")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1 and its key."""
    return self_signed(tmp_path)


@pytest.fixture
def mutual_tls(protocol: Protocol, certificate: tuple[Path, Path]) -> Iterator[OtlpEndpoint]:
    """Serve an endpoint that requires this certificate of its clients."""
    chain, key = (file.read_bytes() for file in certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate[0])
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    credentials = grpc.ssl_server_credentials([(key, chain)], root_certificates=chain, require_client_auth=True)
    with otlp_grpc(credentials=credentials) if protocol == "grpc" else otlp_http(tls=context) as listening:
        yield listening


@pytest.mark.parametrize("infix", ["", "METRICS_"])
def test_certificates_are_configured_by_variables(
    mutual_tls: OtlpEndpoint,
    certificate: tuple[Path, Path],
    build: Build,
    protocol: Protocol,
    variables: pytest.MonkeyPatch,
    infix: str,
) -> None:
    """The server's certificate is verified and the client's is sent; without them nothing is delivered.

    REQUESTS_CA_BUNDLE, a variable of another library, does not override the CA certificate.
    """
    variables.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", mutual_tls.url)
    assert isinstance(build("metrics", protocol, 3).send(b"unchecked"), Retryable)

    variables.setenv(f"OTEL_EXPORTER_OTLP_{infix}CERTIFICATE", str(certificate[0]))
    variables.setenv(f"OTEL_EXPORTER_OTLP_{infix}CLIENT_CERTIFICATE", str(certificate[0]))
    variables.setenv(f"OTEL_EXPORTER_OTLP_{infix}CLIENT_KEY", str(certificate[1]))
    assert build("metrics", protocol).send(REQUEST) == Success()
    assert mutual_tls.accepted == [REQUEST]


@pytest.fixture
def over_http(variables: pytest.MonkeyPatch) -> Iterator[OtlpEndpoint]:
    """Serve an OTLP/HTTP endpoint."""
    with otlp_http() as listening:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.url)
        yield listening


@pytest.fixture
def over_grpc(variables: pytest.MonkeyPatch) -> Iterator[OtlpEndpoint]:
    """Serve an OTLP/gRPC endpoint."""
    with otlp_grpc() as listening:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.url)
        yield listening


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retryable_http_statuses(over_http: OtlpEndpoint, build: Build, status: int) -> None:
    """The statuses of the specification are retryable, and the client does not retry by itself."""
    over_http.respond = lambda _: Response(status)

    assert build("traces", "http/protobuf").send(REQUEST) == Retryable(None, str(status))
    assert len(over_http.requests) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 413, 500, 501])
def test_other_http_statuses_are_permanent(over_http: OtlpEndpoint, build: Build, status: int) -> None:
    """All other statuses are permanent, including redirects, which the client does not follow."""
    over_http.respond = lambda _: Response(status, PROTOBUF, Status(message="not that").SerializeToString())

    assert build("traces", "http/protobuf").send(REQUEST) == Permanent(str(status), "not that")
    assert len(over_http.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("soon", None), ("nan", None), ("", None)]
)
def test_retry_after_in_seconds(over_http: OtlpEndpoint, build: Build, value: str, seconds: float | None) -> None:
    """The delay is the value of the header if it is a number."""
    over_http.respond = lambda _: Response(503, {"Retry-After": value})

    assert build("traces", "http/protobuf").send(REQUEST) == Retryable(seconds, "503")


def test_retry_after_as_a_date(over_http: OtlpEndpoint, build: Build) -> None:
    """A date in one hour is a delay of about 3,600 s."""
    over_http.respond = lambda _: Response(
        429, {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1))}
    )
    outcome = build("traces", "http/protobuf").send(REQUEST)

    assert isinstance(outcome, Retryable)
    assert outcome.retry_after is not None
    assert 1800 < outcome.retry_after <= 3600


RETRYABLE_CODES = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_grpc_codes(over_grpc: OtlpEndpoint, build: Build, code: grpc.StatusCode) -> None:
    """The codes of the specification are retryable, all others are permanent; the client makes one attempt."""
    over_grpc.respond = lambda _: Response(code)
    timed_out = code is grpc.StatusCode.DEADLINE_EXCEEDED
    expected: Outcome = Permanent(code.name, "configured")
    if code in RETRYABLE_CODES:
        expected = Retryable(None, code.name, timed_out=timed_out)

    assert build("traces", "grpc").send(REQUEST) == expected
    assert len(over_grpc.requests) == 1


def _details(retry: RetryInfo) -> bytes:
    packed = AnyMessage()
    packed.Pack(retry)
    return bytes(Status(details=[AnyMessage(type_url="of/something.Else"), packed]).SerializeToString())


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
@pytest.mark.parametrize("form", ["in the details", "alone"])
def test_retry_info(over_grpc: OtlpEndpoint, build: Build, code: grpc.StatusCode, form: str) -> None:
    """RetryInfo sets the delay; RESOURCE_EXHAUSTED is retryable only with it."""
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(2500)
    trailers: dict[str, str | bytes] = (
        {"grpc-status-details-bin": _details(retry)}
        if form == "in the details"
        else {"google.rpc.retryinfo-bin": retry.SerializeToString()}
    )
    over_grpc.respond = lambda _: Response(code, trailers)

    assert build("traces", "grpc").send(REQUEST) == Retryable(2.5, code.name)


def test_invalid_details_are_ignored(over_grpc: OtlpEndpoint, build: Build) -> None:
    """Invalid details do not change the outcome of the status."""
    over_grpc.respond = lambda _: Response(grpc.StatusCode.UNAVAILABLE, {"google.rpc.retryinfo-bin": b"\xff\xff"})

    assert build("traces", "grpc").send(REQUEST) == Retryable(None, "UNAVAILABLE")


PARTIAL: dict[Signal, Any] = {
    "traces": ExportTraceServiceResponse(partial_success={"rejected_spans": 3, "error_message": "too old"}),
    "metrics": ExportMetricsServiceResponse(partial_success={"rejected_data_points": 3, "error_message": "too old"}),
    "logs": ExportLogsServiceResponse(partial_success={"rejected_log_records": 3, "error_message": "too old"}),
}


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_partial_success_counts_rejected_items(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, signal: Signal
) -> None:
    """The outcome has the number of rejected items of each signal."""
    endpoint.respond = lambda _: Response(200, PROTOBUF, PARTIAL[signal].SerializeToString())
    if protocol == "grpc":
        endpoint.respond = lambda _: Response(grpc.StatusCode.OK, body=PARTIAL[signal].SerializeToString())

    assert build(signal, protocol).send(REQUEST) == Success(3, "too old")


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"<html>", ExportTraceServiceResponse().SerializeToString()])
@pytest.mark.parametrize("headers", [PROTOBUF, {"Content-Type": "text/html"}, {}])
def test_status_200_is_a_success_whatever_the_body(
    over_http: OtlpEndpoint, build: Build, body: bytes, headers: dict[str, str | bytes]
) -> None:
    """A body that cannot be parsed rejects no items."""
    over_http.respond = lambda _: Response(200, headers, body)

    assert build("traces", "http/protobuf").send(REQUEST) == Success()


def test_a_refused_connection_is_retryable(protocol: Protocol, build: Build, variables: pytest.MonkeyPatch) -> None:
    """A refused connection is retryable, with the name of the error."""
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")

    error_type = "UNAVAILABLE" if protocol == "grpc" else "ConnectionError"
    assert build("traces", protocol).send(REQUEST) == Retryable(None, error_type)


def test_a_timeout_is_retryable(protocol: Protocol, build: Build, variables: pytest.MonkeyPatch) -> None:
    """An endpoint that accepts the connection and never responds is retryable."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        outcome = build("traces", protocol, 0.2).send(REQUEST)

    assert outcome == Retryable(None, "DEADLINE_EXCEEDED" if protocol == "grpc" else "ReadTimeout", timed_out=True)


@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it", b"no HTTP\r\n\r\n"]
)
def test_a_broken_connection_is_retryable(build: Build, variables: pytest.MonkeyPatch, reply: bytes) -> None:
    """A connection that breaks before or during the response, or an invalid response, is retryable."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        threading.Thread(target=answer, daemon=True).start()
        outcome = build("traces", "http/protobuf").send(REQUEST)
        server.shutdown(socket.SHUT_RDWR)

    assert isinstance(outcome, Retryable)
    assert outcome.retry_after is None


def test_an_endpoint_that_starts_later_is_reached(
    protocol: Protocol, build: Build, variables: pytest.MonkeyPatch
) -> None:
    """A client that failed delivers on its next attempt: it has no backoff of its own."""
    port = free_port()
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    client = build("traces", protocol)
    for _ in range(5):
        assert isinstance(client.send(REQUEST), Retryable)
    with LISTEN[protocol](port) as endpoint:
        assert client.send(REQUEST) == Success()
    assert endpoint.accepted == [REQUEST]


@pytest.mark.parametrize(("variable", "value"), [("ENDPOINT", "nonsense"), ("HEADERS", "x-name=a%0Ab")])
def test_an_invalid_address_or_header_is_permanent(
    over_http: OtlpEndpoint, build: Build, variables: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """An invalid endpoint and an invalid header are permanent failures."""
    variables.setenv(f"OTEL_EXPORTER_OTLP_{variable}", value)

    assert isinstance(build("traces", "http/protobuf").send(REQUEST), Permanent)
    assert over_http.requests == []


def test_close_cancels_a_call_in_flight(over_grpc: OtlpEndpoint, build: Build) -> None:
    """The cancelled call is retryable, as is a call after `close`."""
    gate = threading.Event()
    outcomes: list[Outcome] = []

    def wait(_: object) -> Response:
        gate.wait(60)
        return Response()

    over_grpc.respond = wait
    client = build("traces", "grpc", 600)
    sending = threading.Thread(target=lambda: outcomes.append(client.send(REQUEST)))
    sending.start()
    wait_until(lambda: over_grpc.requests, description="the call to arrive")
    client.close()
    sending.join()
    gate.set()

    assert outcomes == [Retryable(None, "CANCELLED")]
    assert client.send(REQUEST) == Retryable(None, "CANCELLED")
