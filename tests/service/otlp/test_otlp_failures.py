"""Why something cannot be delivered: by both protocols, from endpoints that listen on loopback."""

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
    """Both ways that OTLP travels."""
    found: Protocol = request.param
    return found


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, without any of OpenTelemetry's variables and proxies."""
    for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate for 127.0.0.1, and its key."""
    return self_signed(tmp_path_factory.mktemp("certificates"))


Send = Callable[..., Failure]


@pytest.fixture
def send(variables: pytest.MonkeyPatch) -> Send:
    """Sends one request, and returns why it failed."""

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
def over_tls(protocol: Protocol, files: Files, *, show: bool = False) -> Iterator[str]:
    """An endpoint that speaks TLS; with `show` it asks for a client's certificate, too."""
    chain, key = (file.read_bytes() for file in files)
    if protocol == GRPC:
        credentials = grpc.ssl_server_credentials(
            [(key, chain)], root_certificates=chain if show else None, require_client_auth=show
        )
        with otlp_grpc(credentials=credentials) as listening:
            yield listening.url
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[0])
    context.load_cert_chain(*files)
    context.verify_mode = ssl.CERT_REQUIRED if show else ssl.CERT_NONE
    with otlp_http(tls=context) as listening:
        yield listening.url


@contextmanager
def in_plain_text(protocol: Protocol) -> Iterator[str]:
    """An endpoint that speaks no TLS."""
    with (otlp_grpc if protocol == GRPC else otlp_http)() as listening:
        yield listening.url


def test_nothing_listens(send: Send, protocol: Protocol) -> None:
    """The line names the address and the variable that holds it."""
    url = f"http://127.0.0.1:{free_port()}"
    failure = send(protocol, url)

    assert failure.address == (url if protocol == GRPC else f"{url}/v1/traces")
    assert failure.reason == f"nothing listens at {failure.address}"
    assert failure.remedy == "Start what receives OTLP there, or correct OTEL_EXPORTER_OTLP_ENDPOINT"


def test_the_variable_of_the_signal_is_named(send: Send, protocol: Protocol) -> None:
    """A signal's own endpoint stands where its variable says, as it is."""
    url = f"http://127.0.0.1:{free_port()}/own"
    failure = send(protocol, "http://127.0.0.1:1", TRACES_ENDPOINT=url)

    assert failure.address == url
    assert failure.remedy.endswith("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def test_an_unknown_host(send: Send, protocol: Protocol) -> None:
    """The host is named."""
    assert send(protocol, "http://collector.invalid:4318").reason == "unknown host collector.invalid"


@pytest.mark.parametrize("tls", [False, True])
def test_the_other_protocol(send: Send, protocol: Protocol, files: Files, tls: bool) -> None:
    """An endpoint of the other protocol is known by what it says, in plain text and over TLS."""
    other = HTTP if protocol == GRPC else GRPC
    with over_tls(other, files) if tls else in_plain_text(other) as url:
        failure = send(protocol, url, CERTIFICATE=files[0])

    assert failure.reason == ("it speaks HTTP, not gRPC" if protocol == GRPC else "it speaks gRPC, not HTTP")
    assert f"OTEL_EXPORTER_OTLP_PROTOCOL={other}" in failure.remedy
    assert ("4317" if protocol == GRPC else "4318") in failure.remedy


@pytest.mark.parametrize("server", [HTTP, GRPC])
def test_plain_text_where_tls_is_expected(send: Send, protocol: Protocol, server: Protocol, files: Files) -> None:
    """A server that closes the connection without a word is asked whether it speaks TLS."""
    with over_tls(server, files) as url:
        failure = send(protocol, url.replace("https:", "http:"))

    assert failure.reason == "it expects TLS and was sent plain text"
    assert failure.remedy == "Write https:// in OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize("server", [HTTP, GRPC])
def test_tls_where_plain_text_is_expected(send: Send, protocol: Protocol, server: Protocol) -> None:
    """The other way round."""
    with in_plain_text(server) as url:
        failure = send(protocol, url.replace("http:", "https:"))

    assert failure[:2] == ("it speaks no TLS", "Write http:// in OTEL_EXPORTER_OTLP_ENDPOINT")


def test_a_certificate_that_is_not_trusted(send: Send, protocol: Protocol, files: Files) -> None:
    """The remedy is the variable that names whom to trust."""
    with over_tls(protocol, files) as url:
        failure = send(protocol, url)

    assert failure.reason.startswith("its certificate is not trusted (self")
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in failure.remedy


def test_a_certificate_for_another_host(send: Send, protocol: Protocol, tmp_path: Path) -> None:
    """The host is named."""
    other = self_signed(tmp_path, "DNS:elsewhere.example")
    with over_tls(protocol, other) as url:
        failure = send(protocol, url, CERTIFICATE=other[0])

    assert failure.reason == "its certificate is not for 127.0.0.1"


def test_a_client_certificate_is_asked_for(send: Send, protocol: Protocol, files: Files) -> None:
    """The remedy names both variables."""
    with over_tls(protocol, files, show=True) as url:
        failure = send(protocol, url, CERTIFICATE=files[0])

    assert "asks for a client certificate" in failure.reason
    assert "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY" in failure.remedy


@pytest.mark.parametrize("option", ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "certificate file missing: {}"),
        ("nothing of the kind", "certificate file is not PEM, or the key does not fit: {}"),
    ],
)
def test_a_certificate_file_that_cannot_be_used(
    send: Send, protocol: Protocol, files: Files, tmp_path: Path, option: str, content: str | None, reason: str
) -> None:
    """File and variable are named, and the process lives on; once the file is there, it is used."""
    file = tmp_path / "file.pem"
    if content:
        file.write_text(content)
    chosen = {"CERTIFICATE": files[0], "CLIENT_CERTIFICATE": files[0], "CLIENT_KEY": files[1], option: file}
    with over_tls(protocol, files) as url:
        failure = send(protocol, url, **chosen)

    # A key that does not fit is found when the certificate is loaded with it.
    shown = files[0] if option == "CLIENT_KEY" and content else file
    named = "CLIENT_CERTIFICATE" if option == "CLIENT_KEY" and content else option
    assert failure.reason == reason.format(shown)
    assert failure.remedy == f"Correct OTEL_EXPORTER_OTLP_{named}"
    assert failure.address.startswith(url)


def test_a_certificate_file_that_comes_later_is_used(
    variables: pytest.MonkeyPatch, protocol: Protocol, files: Files, tmp_path: Path
) -> None:
    """The client reads it at the next try."""
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
    """The variable that is missing is named."""
    with over_tls(protocol, files) as url:
        failure = send(protocol, url.replace("127.0.0.1", "localhost"), CERTIFICATE=files[0], CLIENT_KEY=files[1])

    assert failure.reason in (
        "OTEL_EXPORTER_OTLP_CLIENT_KEY is set and no certificate",
        "its certificate is not for localhost",  # over HTTP the key alone is not used
    )


def test_a_certificate_file_with_its_key_in_it(send: Send, protocol: Protocol, files: Files, tmp_path: Path) -> None:
    """One file is enough for both."""
    both = tmp_path / "both.pem"
    both.write_bytes(files[0].read_bytes() + files[1].read_bytes())
    with over_tls(protocol, files, show=True) as url, pytest.raises(AssertionError):  # it is delivered
        send(protocol, url, CERTIFICATE=files[0], CLIENT_CERTIFICATE=both)


def test_no_answer_in_time(send: Send, protocol: Protocol) -> None:
    """The time is named, and the variable that sets it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failure = send(protocol, f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2)

    assert failure.reason == "no answer within 0.2 s"
    assert "OTEL_EXPORTER_OTLP_TIMEOUT" in failure.remedy


def test_a_connection_that_closes_without_a_word(send: Send) -> None:
    """That is all that is known when no TLS is spoken there either."""
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
    """The proxy is to blame, not the endpoint."""
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
    """Each has its remedy; codes of gRPC that mean the same have the same."""
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
    """With what the endpoint says."""
    with otlp_grpc() as endpoint:
        endpoint.respond = lambda _: Response(grpc.StatusCode.RESOURCE_EXHAUSTED)
        failure = send(GRPC, endpoint.url)

    assert str(failure).startswith("it answers RESOURCE_EXHAUSTED (as told). ")


def test_secrets_stay_secret(send: Send, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the user of the URL nor a header's value is repeated, even if the endpoint repeats it."""
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
    """The variable is named, and not the value."""
    with in_plain_text(protocol) as url:
        failure = send(protocol, url, HEADERS=f"x-key=hidden{value}")

    assert failure.reason == "OTEL_EXPORTER_OTLP_HEADERS holds what a header cannot"
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
    ("url", "spoken", "reason"),
    [
        ("http://there:1", None, "it closed the connection without an answer"),
        ("http://there:1", "", "it expects TLS and was sent plain text"),
        ("https://there:1", "http/1.1", "it closed the connection without an answer"),
        ("https://there:1", "h2", "it speaks gRPC, not HTTP"),
        ("https://there:1", CLIENT_CERTIFICATE, "it asks for a client certificate"),
    ],
)
def test_a_connection_that_closes_has_a_reason(error: Exception, url: str, spoken: str | None, reason: str) -> None:
    """However a library finds out that it was closed, what is spoken there tells why."""
    assert classify(error, Target(url), probe=lambda _: spoken).reason == reason


def test_an_exception_that_nobody_knows() -> None:
    """Its class is named, and nothing of its words, which may hold anything."""
    assert classify(RuntimeError(KEY), Target("http://there:1")).reason == "it fails with RuntimeError"


def test_a_status_behind_an_error_of_grpc() -> None:
    """A gateway that answers a gRPC call with plain HTTP is told by its status."""
    failure = classify("UNAVAILABLE", Target("http://there:1", grpc=True), "Received http2 header with status: 503")

    assert failure.reason == "it answers 503 Service Unavailable"
