"""One encoded request, by both protocols, to endpoints that listen.

The stock exporters' private names that the client uses are all used here, by every signal: when one goes away, this
module fails.
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

from modeltrace.otlp.client import SIGNALS, Client, Outcome, Permanent, Retryable, Signal, Success, otlp_client
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
    """Both ways that OTLP travels."""
    found: Protocol = request.param
    return found


@pytest.fixture
def endpoint(protocol: Protocol, variables: pytest.MonkeyPatch) -> Iterator[OtlpEndpoint]:
    """An endpoint of the protocol, which OTEL_EXPORTER_OTLP_ENDPOINT names."""
    with LISTEN[protocol]() as listening:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.url)
        yield listening


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, without any of OpenTelemetry's variables and proxies."""
    for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def build(variables: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds clients, and closes them afterwards."""
    del variables
    built: list[Client] = []

    def client(signal: Signal, protocol: Protocol, seconds: float = 10) -> Client:
        built.append(otlp_client(signal, protocol=protocol, timeout_seconds=seconds))
        return built[-1]

    yield client
    for each in built:
        each.close()


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_arrives_as_it_is(endpoint: OtlpEndpoint, build: Build, protocol: Protocol, signal: Signal) -> None:
    """The bytes, the path of the signal, the stock exporter's name; nothing besides."""
    assert build(signal, protocol).send(REQUEST) == Success()
    assert [(sent.path, sent.body) for sent in endpoint.requests] == [(PATHS[protocol, signal], REQUEST)]
    assert "OTel-OTLP-Exporter-Python" in endpoint.requests[0].headers["user-agent"]
    if protocol == "http/protobuf":
        assert endpoint.requests[0].headers["content-type"] == "application/x-protobuf"


def test_a_connection_serves_many_requests(endpoint: OtlpEndpoint, build: Build, protocol: Protocol) -> None:
    """One client sends one request after the other."""
    client = build("logs", protocol)

    assert [client.send(body) for body in (b"", REQUEST, b"\x00" * 500_000)] == [Success()] * 3
    assert [len(body) for body in endpoint.accepted] == [0, len(REQUEST), 500_000]


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signals_own_variables_win(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, variables: pytest.MonkeyPatch, signal: Signal
) -> None:
    """Endpoint and headers of the signal stand before those of all signals; over HTTP its endpoint is the whole URL."""
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


def test_gzip_is_asked_for_by_a_variable(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, variables: pytest.MonkeyPatch
) -> None:
    """What travels is packed, what arrives is the request."""
    variables.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    client: Any = build("traces", protocol)

    assert client.send(REQUEST) == Success()
    if protocol == "grpc":  # the server unpacks before anybody sees it
        assert client._stock._compression is grpc.Compression.Gzip
        assert endpoint.accepted == [REQUEST]
    else:
        assert endpoint.requests[0].headers["content-encoding"] == "gzip"
        assert gzip.decompress(endpoint.accepted[0]) == REQUEST


@pytest.mark.parametrize("value", ["none", "", "zstd"])
def test_any_other_compression_is_none(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, variables: pytest.MonkeyPatch, value: str
) -> None:
    """`none`, an empty value and one that nobody knows do not keep anything from being sent."""
    variables.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", value)
    variables.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", value)

    assert build("traces", protocol).send(REQUEST) == Success()
    assert endpoint.accepted == [REQUEST]


def test_an_empty_endpoint_is_the_default_one(protocol: Protocol, build: Build, variables: pytest.MonkeyPatch) -> None:
    """An empty variable is as good as none."""
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    client: Any = build("traces", protocol)

    assert client._stock._endpoint == ("localhost:4317" if protocol == "grpc" else "http://localhost:4318/v1/traces")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    return self_signed(tmp_path)


@pytest.fixture
def guarded(protocol: Protocol, certificate: tuple[Path, Path]) -> Iterator[OtlpEndpoint]:
    """An endpoint that talks TLS, and only with those who show that certificate."""
    chain, key = (file.read_bytes() for file in certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate[0])
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    credentials = grpc.ssl_server_credentials([(key, chain)], root_certificates=chain, require_client_auth=True)
    with otlp_grpc(credentials=credentials) if protocol == "grpc" else otlp_http(tls=context) as listening:
        yield listening


@pytest.mark.parametrize("infix", ["", "METRICS_"])
def test_certificates_are_named_by_variables(
    guarded: OtlpEndpoint,
    certificate: tuple[Path, Path],
    build: Build,
    protocol: Protocol,
    variables: pytest.MonkeyPatch,
    infix: str,
) -> None:
    """The endpoint's certificate is checked and the client's own is shown; without them nothing is sent.

    What else the machine trusts, by variables of other programs, has no say in it.
    """
    variables.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", guarded.url)
    assert isinstance(build("metrics", protocol, 3).send(b"unchecked"), Retryable)

    variables.setenv(f"OTEL_EXPORTER_OTLP_{infix}CERTIFICATE", str(certificate[0]))
    variables.setenv(f"OTEL_EXPORTER_OTLP_{infix}CLIENT_CERTIFICATE", str(certificate[0]))
    variables.setenv(f"OTEL_EXPORTER_OTLP_{infix}CLIENT_KEY", str(certificate[1]))
    assert build("metrics", protocol).send(REQUEST) == Success()
    assert guarded.accepted == [REQUEST]


@pytest.fixture
def over_http(variables: pytest.MonkeyPatch) -> Iterator[OtlpEndpoint]:
    """An endpoint of OTLP/HTTP."""
    with otlp_http() as listening:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.url)
        yield listening


@pytest.fixture
def over_grpc(variables: pytest.MonkeyPatch) -> Iterator[OtlpEndpoint]:
    """An endpoint of OTLP/gRPC."""
    with otlp_grpc() as listening:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.url)
        yield listening


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_http_statuses_that_ask_for_another_try(over_http: OtlpEndpoint, build: Build, status: int) -> None:
    """Those of the specification, and it is not the client that tries again."""
    over_http.respond = lambda _: Response(status)

    assert build("traces", "http/protobuf").send(REQUEST) == Retryable(None, str(status))
    assert len(over_http.requests) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 413, 500, 501])
def test_any_other_http_status_is_final(over_http: OtlpEndpoint, build: Build, status: int) -> None:
    """A redirect, too: what was sent has been taken by nobody."""
    over_http.respond = lambda _: Response(status, PROTOBUF, Status(message="not that").SerializeToString())

    assert build("traces", "http/protobuf").send(REQUEST) == Permanent(str(status), "not that")
    assert len(over_http.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("soon", None), ("nan", None), ("", None)]
)
def test_retry_after_in_seconds(over_http: OtlpEndpoint, build: Build, value: str, seconds: float | None) -> None:
    """The pause is what the header says, if it says anything."""
    over_http.respond = lambda _: Response(503, {"Retry-After": value})

    assert build("traces", "http/protobuf").send(REQUEST) == Retryable(seconds, "503")


def test_retry_after_as_a_date(over_http: OtlpEndpoint, build: Build) -> None:
    """An hour from now is about 3,600 s."""
    over_http.respond = lambda _: Response(
        429, {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1))}
    )
    outcome = build("traces", "http/protobuf").send(REQUEST)

    assert isinstance(outcome, Retryable)
    assert outcome.retry_after is not None
    assert 1800 < outcome.retry_after <= 3600


AGAIN = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_grpc_codes(over_grpc: OtlpEndpoint, build: Build, code: grpc.StatusCode) -> None:
    """Those of the specification ask for another try, any other is final; and the client tries once."""
    over_grpc.respond = lambda _: Response(code)
    expected: Outcome = Retryable(None, code.name) if code in AGAIN else Permanent(code.name, "as told")

    assert build("traces", "grpc").send(REQUEST) == expected
    assert len(over_grpc.requests) == 1


def _details(retry: RetryInfo) -> bytes:
    packed = AnyMessage()
    packed.Pack(retry)
    return bytes(Status(details=[AnyMessage(type_url="of/something.Else"), packed]).SerializeToString())


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
@pytest.mark.parametrize("form", ["in the details", "alone"])
def test_retry_info(over_grpc: OtlpEndpoint, build: Build, code: grpc.StatusCode, form: str) -> None:
    """The pause is what it says; RESOURCE_EXHAUSTED may be tried again only with it."""
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(2500)
    trailers: dict[str, str | bytes] = (
        {"grpc-status-details-bin": _details(retry)}
        if form == "in the details"
        else {"google.rpc.retryinfo-bin": retry.SerializeToString()}
    )
    over_grpc.respond = lambda _: Response(code, trailers)

    assert build("traces", "grpc").send(REQUEST) == Retryable(2.5, code.name)


def test_details_that_cannot_be_read_are_none(over_grpc: OtlpEndpoint, build: Build) -> None:
    """Garbage beside a status leaves the status."""
    over_grpc.respond = lambda _: Response(grpc.StatusCode.UNAVAILABLE, {"google.rpc.retryinfo-bin": b"\xff\xff"})

    assert build("traces", "grpc").send(REQUEST) == Retryable(None, "UNAVAILABLE")


PARTIAL: dict[Signal, Any] = {
    "traces": ExportTraceServiceResponse(partial_success={"rejected_spans": 3, "error_message": "too old"}),
    "metrics": ExportMetricsServiceResponse(partial_success={"rejected_data_points": 3, "error_message": "too old"}),
    "logs": ExportLogsServiceResponse(partial_success={"rejected_log_records": 3, "error_message": "too old"}),
}


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_partial_success_says_how_many(
    endpoint: OtlpEndpoint, build: Build, protocol: Protocol, signal: Signal
) -> None:
    """Rejected items of each signal are counted."""
    endpoint.respond = lambda _: Response(200, PROTOBUF, PARTIAL[signal].SerializeToString())
    if protocol == "grpc":
        endpoint.respond = lambda _: Response(grpc.StatusCode.OK, body=PARTIAL[signal].SerializeToString())

    assert build(signal, protocol).send(REQUEST) == Success(3, "too old")


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"<html>", ExportTraceServiceResponse().SerializeToString()])
@pytest.mark.parametrize("headers", [PROTOBUF, {"Content-Type": "text/html"}, {}])
def test_an_answer_of_200_is_a_success_whatever_it_holds(
    over_http: OtlpEndpoint, build: Build, body: bytes, headers: dict[str, str | bytes]
) -> None:
    """What cannot be read rejects nothing."""
    over_http.respond = lambda _: Response(200, headers, body)

    assert build("traces", "http/protobuf").send(REQUEST) == Success()


def test_nobody_there(protocol: Protocol, build: Build, variables: pytest.MonkeyPatch) -> None:
    """A connection that is refused asks for another try."""
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")

    error_type = "UNAVAILABLE" if protocol == "grpc" else "ConnectionError"
    assert build("traces", protocol).send(REQUEST) == Retryable(None, error_type)


def test_no_answer_in_time(protocol: Protocol, build: Build, variables: pytest.MonkeyPatch) -> None:
    """An endpoint that takes the connection and never answers asks for another try."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        outcome = build("traces", protocol, 0.2).send(REQUEST)

    assert outcome == Retryable(None, "DEADLINE_EXCEEDED" if protocol == "grpc" else "ReadTimeout")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it", b"no HTTP\r\n\r\n"])
def test_a_connection_that_breaks_asks_for_another_try(
    build: Build, variables: pytest.MonkeyPatch, said: bytes
) -> None:
    """Before the answer, in the midst of it, or with something that is none: nobody knows whether it was taken."""
    with socket.create_server(("127.0.0.1", 0)) as breaking:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{breaking.getsockname()[1]}")

        def answer() -> None:
            while True:
                try:
                    connection, _ = breaking.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        outcome = build("traces", "http/protobuf").send(REQUEST)
        breaking.shutdown(socket.SHUT_RDWR)

    assert isinstance(outcome, Retryable)
    assert outcome.retry_after is None


def test_an_endpoint_that_comes_back_is_found(protocol: Protocol, build: Build, variables: pytest.MonkeyPatch) -> None:
    """The client that failed delivers at its next try: it waits by no schedule of its own."""
    port = free_port()
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    client = build("traces", protocol)
    for _ in range(5):
        assert isinstance(client.send(REQUEST), Retryable)
    with LISTEN[protocol](port) as endpoint:
        assert client.send(REQUEST) == Success()
    assert endpoint.accepted == [REQUEST]


@pytest.mark.parametrize(("variable", "value"), [("ENDPOINT", "nonsense"), ("HEADERS", "x-name=a%0Ab")])
def test_what_can_never_be_sent_is_refused(
    over_http: OtlpEndpoint, build: Build, variables: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """An address that is none, a header that is none."""
    variables.setenv(f"OTEL_EXPORTER_OTLP_{variable}", value)

    assert isinstance(build("traces", "http/protobuf").send(REQUEST), Permanent)
    assert over_http.requests == []


def test_closing_ends_a_call_in_flight(over_grpc: OtlpEndpoint, build: Build) -> None:
    """The one who waits for the answer is told to try again."""
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
