"""The reason and remedy of a failed delivery, for both protocols, with real endpoints on loopback."""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Literal

import grpc
import httpx
import pytest
import requests

from modeltrace.otlp.client import Permanent, Retryable, Success, otlp_client
from modeltrace.otlp.failures import CLIENT_CERTIFICATE, Failure, Target, classify
from tests.helpers.certificates import self_signed
from tests.helpers.processes import free_port
from tests.helpers.receivers import Response, otlp_grpc, otlp_http

Protocol = Literal["http/protobuf", "grpc"]
Files = tuple[Path, Path]
HTTP: Protocol = "http/protobuf"
GRPC: Protocol = "grpc"
KEY = "a very secret key"


@pytest.fixture(params=[HTTP, GRPC])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Parametrize over both OTLP protocols."""
    protocol: Protocol = request.param
    return protocol


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the variables of OpenTelemetry and of proxies from the environment."""
    for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Create a certificate for 127.0.0.1 and its key."""
    return self_signed(tmp_path_factory.mktemp("certificates"))


Send = Callable[..., Failure]


@pytest.fixture
def send(variables: pytest.MonkeyPatch) -> Send:
    """Return a function that sends one request and returns its failure."""

    def attempt(protocol: Protocol, url: str, seconds: float = 5, **options: object) -> Failure:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        for option, value in options.items():
            variables.setenv(f"OTEL_EXPORTER_OTLP_{option}", str(value))
        client = otlp_client("traces", protocol=protocol, timeout_seconds=seconds)
        try:
            outcome = client.send(b"")
        finally:
            client.close()
        assert isinstance(outcome, Retryable | Permanent)
        return outcome.failure

    return attempt


@contextmanager
def over_tls(protocol: Protocol, files: Files, *, client_certificate: bool = False) -> Iterator[str]:
    """Serve an endpoint with TLS; with `client_certificate` it requires one of the client."""
    chain, key = (file.read_bytes() for file in files)
    if protocol == GRPC:
        roots = chain if client_certificate else None
        credentials = grpc.ssl_server_credentials([(key, chain)], roots, require_client_auth=client_certificate)
        with otlp_grpc(credentials=credentials) as listening:
            yield listening.url
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[0])
    context.load_cert_chain(*files)
    context.verify_mode = ssl.CERT_REQUIRED if client_certificate else ssl.CERT_NONE
    with otlp_http(tls=context) as listening:
        yield listening.url


@contextmanager
def plain_text(protocol: Protocol) -> Iterator[str]:
    """Serve an endpoint without TLS."""
    with (otlp_grpc if protocol == GRPC else otlp_http)() as listening:
        yield listening.url


def test_nothing_listens(send: Send, protocol: Protocol) -> None:
    """The failure names the address and the variable that configures it."""
    url = f"http://127.0.0.1:{free_port()}"
    failure = send(protocol, url)

    assert failure.address == (url if protocol == GRPC else f"{url}/v1/traces")
    assert failure.reason == f"nothing listens at {failure.address}"
    assert failure.remedy == "Start the OTLP receiver there, or correct OTEL_EXPORTER_OTLP_ENDPOINT"


def test_the_variable_of_the_signal_is_named(send: Send, protocol: Protocol) -> None:
    """The endpoint variable of a single signal is used and named."""
    url = f"http://127.0.0.1:{free_port()}/own"
    failure = send(protocol, "http://127.0.0.1:1", TRACES_ENDPOINT=url)

    assert failure.address == url
    assert failure.remedy.endswith("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def test_an_unknown_host(send: Send, protocol: Protocol) -> None:
    """The failure names the host."""
    assert send(protocol, "http://collector.invalid:4318").reason == "unknown host collector.invalid"


@pytest.mark.parametrize("tls", [False, True])
def test_the_other_protocol(send: Send, protocol: Protocol, files: Files, tls: bool) -> None:
    """A server of the other protocol is recognized by its response, in plain text and over TLS."""
    other = HTTP if protocol == GRPC else GRPC
    with over_tls(other, files) if tls else plain_text(other) as url:
        failure = send(protocol, url, CERTIFICATE=files[0])

    assert failure.reason == ("it speaks HTTP, not gRPC" if protocol == GRPC else "it speaks gRPC, not HTTP")
    assert f"OTEL_EXPORTER_OTLP_PROTOCOL={other}" in failure.remedy
    assert ("4317" if protocol == GRPC else "4318") in failure.remedy


@pytest.mark.slow
@pytest.mark.parametrize("server", [HTTP, GRPC])
def test_plain_text_where_tls_is_expected(send: Send, protocol: Protocol, server: Protocol, files: Files) -> None:
    """A server that closes the connection without a response is probed for TLS."""
    with over_tls(server, files) as url:
        failure = send(protocol, url.replace("https:", "http:"))

    assert failure.reason == "it expects TLS and was sent plain text"
    assert failure.remedy == "Write https:// in OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize("server", [HTTP, GRPC])
def test_tls_where_plain_text_is_expected(send: Send, protocol: Protocol, server: Protocol) -> None:
    """A request with TLS to a server without it is recognized."""
    with plain_text(server) as url:
        failure = send(protocol, url.replace("http:", "https:"))

    assert failure[:2] == ("it does not speak TLS", "Write http:// in OTEL_EXPORTER_OTLP_ENDPOINT")


def test_a_certificate_that_is_not_trusted(send: Send, protocol: Protocol, files: Files) -> None:
    """The remedy is the variable that names the CA certificate."""
    with over_tls(protocol, files) as url:
        failure = send(protocol, url)

    assert failure.reason.startswith("its certificate is not trusted (self")
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in failure.remedy


def test_a_certificate_for_another_host(send: Send, protocol: Protocol, tmp_path: Path) -> None:
    """The failure names the host."""
    other = self_signed(tmp_path, "DNS:elsewhere.example")
    with over_tls(protocol, other) as url:
        failure = send(protocol, url, CERTIFICATE=other[0])

    assert failure.reason == "its certificate is not for 127.0.0.1"


def test_a_client_certificate_is_required(send: Send, protocol: Protocol, files: Files) -> None:
    """The remedy names the variables of certificate and key."""
    with over_tls(protocol, files, client_certificate=True) as url:
        failure = send(protocol, url, CERTIFICATE=files[0])

    assert "requires a client certificate" in failure.reason
    assert "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY" in failure.remedy


@pytest.mark.parametrize("option", ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "certificate file missing: {}"),
        ("not a certificate", "certificate file is not PEM, or the key does not match: {}"),
    ],
)
def test_a_certificate_file_that_cannot_be_used(
    send: Send, protocol: Protocol, files: Files, tmp_path: Path, option: str, content: str | None, reason: str
) -> None:
    """The failure names file and variable, and the process does not abort."""
    file = tmp_path / "file.pem"
    if content:
        file.write_text(content)
    options = {"CERTIFICATE": files[0], "CLIENT_CERTIFICATE": files[0], "CLIENT_KEY": files[1], option: file}
    with over_tls(protocol, files) as url:
        failure = send(protocol, url, **options)

    # A key that does not match is found when the certificate is loaded with it.
    reported_file = files[0] if option == "CLIENT_KEY" and content else file
    variable = "CLIENT_CERTIFICATE" if option == "CLIENT_KEY" and content else option
    assert failure.reason == reason.format(reported_file)
    assert failure.remedy == f"Correct OTEL_EXPORTER_OTLP_{variable}"
    assert failure.address.startswith(url)


def test_a_certificate_file_created_later_is_used(
    variables: pytest.MonkeyPatch, protocol: Protocol, files: Files, tmp_path: Path
) -> None:
    """The client reads the file again on the next attempt."""
    late = tmp_path / "late.pem"
    variables.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(late))
    with over_tls(protocol, files) as url:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        client = otlp_client("traces", protocol=protocol, timeout_seconds=5)
        assert isinstance(client.send(b""), Retryable)
        late.write_bytes(files[0].read_bytes())
        outcomes = [client.send(b"") for _ in range(2)]
        client.close()

    assert outcomes[-1] == Success()


def test_a_key_without_its_certificate(send: Send, protocol: Protocol, files: Files) -> None:
    """The failure names the missing variable."""
    with over_tls(protocol, files) as url:
        failure = send(protocol, url.replace("127.0.0.1", "localhost"), CERTIFICATE=files[0], CLIENT_KEY=files[1])

    assert failure.reason in (
        "OTEL_EXPORTER_OTLP_CLIENT_KEY is set without a certificate",
        "its certificate is not for localhost",  # over HTTP the key alone is not used
    )


def test_a_certificate_file_with_its_key_in_it(send: Send, protocol: Protocol, files: Files, tmp_path: Path) -> None:
    """One file may hold both the certificate and its key."""
    both = tmp_path / "both.pem"
    both.write_bytes(files[0].read_bytes() + files[1].read_bytes())
    with over_tls(protocol, files, client_certificate=True) as url, pytest.raises(AssertionError):  # it is delivered
        send(protocol, url, CERTIFICATE=files[0], CLIENT_CERTIFICATE=both)


def test_no_answer_in_time(send: Send, protocol: Protocol) -> None:
    """The failure names the timeout and the variable that sets it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failure = send(protocol, f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2)

    assert failure.reason == "no answer within 0.2 s"
    assert "OTEL_EXPORTER_OTLP_TIMEOUT" in failure.remedy


def test_a_connection_that_closes_without_a_response(send: Send) -> None:
    """Without TLS on the server, the closed connection is the reason."""
    with socket.create_server(("127.0.0.1", 0)) as closing:

        def close() -> None:
            while True:
                try:
                    closing.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=close, daemon=True).start()
        failure = send(HTTP, f"http://127.0.0.1:{closing.getsockname()[1]}")
        closing.shutdown(socket.SHUT_RDWR)

    assert failure.reason == "it closed the connection without an answer"


def test_a_proxy(send: Send, variables: pytest.MonkeyPatch) -> None:
    """The failure names the proxy, not the endpoint."""
    variables.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")

    assert "proxy" in send(HTTP, "http://collector.invalid:4318").reason


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (401, grpc.StatusCode.UNAUTHENTICATED, "OTEL_EXPORTER_OTLP_HEADERS"),
        (403, grpc.StatusCode.PERMISSION_DENIED, "OTEL_EXPORTER_OTLP_HEADERS"),
        (404, grpc.StatusCode.UNIMPLEMENTED, "path in OTEL_EXPORTER_OTLP_ENDPOINT"),
        (413, None, "limit for a request"),
        (415, None, "OTEL_EXPORTER_OTLP_COMPRESSION"),
        (429, None, "the sender waits"),
        (503, None, "overloaded or failing"),
        (302, None, "the address that it leads to"),
    ],
)
def test_statuses(send: Send, status: int, code: grpc.StatusCode | None, remedy: str) -> None:
    """Each status has a remedy; the equivalent gRPC status code has the same."""
    with ExitStack() as stack:
        over_http = stack.enter_context(otlp_http())
        over_http.respond = lambda _: Response(status)
        failures = [send(HTTP, over_http.url)]
        if code:
            over_grpc = stack.enter_context(otlp_grpc())
            over_grpc.respond = lambda _: Response(code)
            failures.append(send(GRPC, over_grpc.url))

    for failure in failures:
        assert f" {status}" in failure.reason
        assert remedy in failure.remedy


def test_other_codes_of_grpc_are_named(send: Send) -> None:
    """Other gRPC status codes are named together with the details of the response."""
    with otlp_grpc() as endpoint:
        endpoint.respond = lambda _: Response(grpc.StatusCode.RESOURCE_EXHAUSTED)
        failure = send(GRPC, endpoint.url)

    assert str(failure).startswith("it answers RESOURCE_EXHAUSTED (configured). ")


def test_secrets_stay_secret(send: Send, caplog: pytest.LogCaptureFixture) -> None:
    """A failure contains neither credentials of the URL nor values of headers, even if the response does."""
    with otlp_http() as endpoint:
        endpoint.respond = lambda sent: Response(
            401, {"Content-Type": "text/plain"}, f"no such key: {sent.headers['x-key']}".encode()
        )
        url = endpoint.url.replace("http://", "http://user:password@")
        failure = send(HTTP, f"{url}/?token=hidden", HEADERS=f"x-key={KEY.replace(' ', '%20')}")

    assert "401" in failure.reason
    assert failure.response == "no such key: ***"
    assert failure.address.startswith("http://***@127.0.0.1:")
    assert not any(secret in f"{failure}{caplog.text}" for secret in (KEY, "password", "hidden"))


@pytest.mark.parametrize("value", ["a%0Ab", "%E2%82%AC"])
def test_a_header_that_cannot_be_sent(send: Send, protocol: Protocol, value: str) -> None:
    """The failure names the variable but not its value."""
    with plain_text(protocol) as url:
        failure = send(protocol, url, HEADERS=f"x-key=hidden{value}")

    assert failure.reason == "OTEL_EXPORTER_OTLP_HEADERS holds characters that a header cannot hold"
    assert "hidden" not in str(failure)


CLOSED = [
    ConnectionResetError(104, "Connection reset by peer"),
    BrokenPipeError(32, "Broken pipe"),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    requests.ConnectionError("Connection aborted.", RemoteDisconnected("Remote end closed connection")),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
]


@pytest.mark.parametrize("error", CLOSED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("url", "protocol", "reason"),
    [
        ("http://there:1", None, "it closed the connection without an answer"),
        ("http://there:1", "", "it expects TLS and was sent plain text"),
        ("https://there:1", "http/1.1", "it closed the connection without an answer"),
        ("https://there:1", "h2", "it speaks gRPC, not HTTP"),
        ("https://there:1", CLIENT_CERTIFICATE, "it requires a client certificate"),
    ],
)
def test_a_connection_that_closes_has_a_reason(error: Exception, url: str, protocol: str | None, reason: str) -> None:
    """The probe explains a closed connection, whichever exception reports it."""
    assert classify(error, Target(url), probe=lambda _: protocol).reason == reason


def test_an_unknown_exception() -> None:
    """The failure names the class of an unknown exception but omits its text, which may contain secrets."""
    assert classify(RuntimeError(KEY), Target("http://there:1")).reason == "it fails with RuntimeError"


def test_a_status_behind_an_error_of_grpc() -> None:
    """The HTTP status of a gateway that responds to a gRPC call is recognized."""
    failure = classify("UNAVAILABLE", Target("http://there:1", grpc=True), "Received http2 header with status: 503")

    assert failure.reason == "it answers 503 Service Unavailable"
