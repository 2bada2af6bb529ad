"""Explain why OTLP cannot be delivered and what to do about it, without revealing secrets.

`classify` accepts an exception of requests or httpx, an HTTP status, or a gRPC status code with its details. The
libraries report the cause in nested exceptions or only in text, so both are searched for the phrases of one table.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import BadStatusLine
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from modeltrace.otel_env.parsers import mask, printable

HANDSHAKE_TIMEOUT: Final = 1.0  # seconds for the TLS handshake of a probe
RESPONSE_PREFIX: Final = "it answers "
UNKNOWN_PREFIX: Final = "it fails with "
CLIENT_CERTIFICATE: Final = "client certificate"


class Failure(NamedTuple):
    """The reason of a failed delivery, its remedy, the address, and the server's response text."""

    reason: str
    remedy: str
    address: str = ""
    response: str = ""

    def __str__(self) -> str:
        """Return the failure as one line."""
        return f"{self.reason}{f' ({self.response})' if self.response else ''}. {self.remedy}"


class Target(NamedTuple):
    """The destination of a request, and the environment variables that configure it."""

    url: str
    grpc: bool = False
    timeout_seconds: float = 0.0
    endpoint_variable: str = "OTEL_EXPORTER_OTLP_ENDPOINT"
    headers_variable: str = "OTEL_EXPORTER_OTLP_HEADERS"
    secrets: tuple[str, ...] = ()  # the values of headers

    @property
    def tls(self) -> bool:
        """Whether the URL requires TLS."""
        return self.url.startswith("https:")

    @property
    def display_url(self) -> str:
        """The URL without user, password and query."""
        return mask(self.url)

    @property
    def host(self) -> str:
        """The host name, printable."""
        return printable(urlsplit(self.url).hostname or self.display_url, 100)

    def redact(self, text: str) -> str:
        """Return a server's text on one line, without the values of headers."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return printable(" ".join(text.split()), 200)


# gRPC reports "Failed parsing HTTP/2" for an HTTP/1.1 server without TLS, and "missing selected ALPN" for an HTTP/1.1
# server with TLS.
_PHRASES: Final = (
    ("proxy", r"ProxyError|Tunnel connection failed|HTTP proxy"),
    ("unknown host", r"NameResolution|gaierror|errors resolving|address lookup failed|DNS resolution failed"),
    ("nothing listens", r"Connection refused|ConnectionRefusedError"),
    ("unreachable", r"No route to host|Network is unreachable|Host is unreachable"),
    ("speaks HTTP", r"Failed parsing HTTP/2|http1\.x|missing selected ALPN"),
    ("speaks gRPC", r"HTTP/2 preface|illegal status line: bytearray\(b'\\x00\\x00|NO_APPLICATION_PROTOCOL"),
    ("wrong host", r"mismatch|not valid for|Hostname Verification Check failed"),
    ("expired", r"certificate has expired"),
    ("untrusted", r"CERTIFICATE_VERIFY_FAILED"),
    (CLIENT_CERTIFICATE, r"CERTIFICATE_REQUIRED|ALERT_BAD_CERTIFICATE|ALERT_UNKNOWN_CA|ALERT_HANDSHAKE_FAILURE"),
    ("no TLS", r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH|packet length too long|SSL.*HTTP_REQUEST"),
    ("no connection", r"ConnectTimeout|connect timeout|Failed to connect.*timed out"),
    ("no answer", r"Timeout|timed out|DEADLINE_EXCEEDED"),
    ("closed", r"[Dd]isconnected|Connection reset|Socket closed|Broken pipe|UNEXPECTED_EOF|SSLEOFError"),
    ("bad header", r"InvalidHeader|metadata was invalid|Invalid metadata|UnicodeEncodeError"),
    ("bad address", r"InvalidURL|MissingSchema|InvalidSchema|LocationParse|LocationValue"),
)
_GRPC_STATUS: Final = {
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "UNIMPLEMENTED": HTTPStatus.NOT_FOUND,
}


def classify(
    error: BaseException | int | str,
    target: Target,
    details: str = "",
    *,
    probe: Callable[[str], str | None] | None = None,
) -> Failure:
    """Explain why a request could not be delivered.

    Args:
        error: An exception, an HTTP status, or the name of a gRPC status code.
        target: The destination of the request.
        details: The details of the gRPC status code, or the text of the HTTP response.
        probe: Replaces `probe_tls`, for tests.
    """
    if isinstance(error, int):
        reason, remedy = _describe_status(error, target, details)
    else:
        text = details if isinstance(error, str) else " ".join(_exception_texts(error))
        if http := re.search(r"Received http2 header with status: (\d{3})", text):
            return classify(int(http[1]), target)
        if error in _GRPC_STATUS and isinstance(error, str):
            return classify(int(_GRPC_STATUS[error]), target, details)
        kind = next((kind for kind, phrase in _PHRASES if re.search(phrase, f"{error!r} {text}")), "")
        if kind == "closed":
            kind = _closed_kind(target, probe or probe_tls)
        reason, remedy = _describe(kind, error, target, text)
    response = target.redact(details) if reason.startswith(RESPONSE_PREFIX) else ""
    return Failure(reason, remedy, target.display_url, response)


def probe_tls(url: str) -> str | None:
    """Find out whether a server speaks TLS.

    Returns:
        The negotiated application protocol ("" for none), `CLIENT_CERTIFICATE` if the server requires one, or `None`
        without TLS.
    """
    address = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # no data is sent
    context.set_alpn_protocols(["h2", "http/1.1"])
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with (
            socket.create_connection((address.hostname or "", port), HANDSHAKE_TIMEOUT) as connection,
            context.wrap_socket(connection, server_hostname=address.hostname) as tls_socket,
        ):
            return CLIENT_CERTIFICATE if _closes_connection(tls_socket) else tls_socket.selected_alpn_protocol() or ""
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return None


def _closes_connection(tls_socket: ssl.SSLSocket) -> bool:
    """Return whether the server closes the connection after the handshake (TLS 1.3: no client certificate)."""
    tls_socket.settimeout(HANDSHAKE_TIMEOUT)
    try:
        return tls_socket.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:  # the TLS alert "certificate required"
        return True


def _closed_kind(target: Target, probe: Callable[[str], str | None]) -> str:
    """Find out why a server closes a connection without a response."""
    if not re.match(r"https?://", target.url):
        return "closed"
    protocol = probe(target.url)
    if not target.tls:
        return "closed" if protocol is None else "speaks TLS"
    if protocol == CLIENT_CERTIFICATE:
        return CLIENT_CERTIFICATE
    return "speaks gRPC" if protocol == "h2" and not target.grpc else "closed"


def _describe(kind: str, error: BaseException | str, target: Target, text: str) -> tuple[str, str]:
    """Return the reason and the remedy for one kind of `_PHRASES`."""
    endpoint, headers = target.endpoint_variable, target.headers_variable
    correct = f"Correct {endpoint}"
    check_network = f"Check the network, or correct {endpoint}"
    descriptions = {
        "proxy": ("the proxy of HTTP_PROXY or HTTPS_PROXY rejects the connection", "Correct it, or set NO_PROXY"),
        "unknown host": (f"unknown host {target.host}", correct),
        "nothing listens": (
            f"nothing listens at {target.display_url}",
            f"Start the OTLP receiver there, or correct {endpoint}",
        ),
        "unreachable": (f"{target.host} is unreachable", check_network),
        "speaks HTTP": (
            "it speaks HTTP, not gRPC",
            "Use its port for gRPC (usually 4317), or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (usually 4318)",
        ),
        "speaks gRPC": (
            "it speaks gRPC, not HTTP",
            "Use its port for HTTP (usually 4318), or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc (usually 4317)",
        ),
        "speaks TLS": ("it expects TLS and was sent plain text", f"Write https:// in {endpoint}"),
        "no TLS": ("it does not speak TLS", f"Write http:// in {endpoint}"),
        "wrong host": (f"its certificate is not for {target.host}", f"Use a name of its certificate in {endpoint}"),
        "expired": ("its certificate has expired", "Renew it"),
        "untrusted": (
            f"its certificate is not trusted{_verification_error(text)}",
            "Set OTEL_EXPORTER_OTLP_CERTIFICATE to a file with its issuer's certificate",
        ),
        CLIENT_CERTIFICATE: (
            "it requires a client certificate",
            "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ),
        "no connection": (f"no connection within {target.timeout_seconds:g} s", check_network),
        "no answer": (
            f"no answer within {target.timeout_seconds:g} s" if target.timeout_seconds else "no answer in time",
            "See whether it is overloaded, or raise OTEL_EXPORTER_OTLP_TIMEOUT",
        ),
        "closed": ("it closed the connection without an answer", f"See its log, or correct {endpoint}"),
        "bad header": (f"{headers} holds characters that a header cannot hold", f"Correct {headers}"),
        "bad address": ("the address is not a URL", correct),
    }
    if kind in descriptions:
        return descriptions[kind]
    if isinstance(error, str):
        return f"{RESPONSE_PREFIX}{error}", "See its log"
    return f"{UNKNOWN_PREFIX}{type(error).__name__}", f"See its log, or correct {endpoint}"


def _describe_status(status: int, target: Target, details: str) -> tuple[str, str]:
    """Return the reason and the remedy for an HTTP status."""
    endpoint, headers = target.endpoint_variable, target.headers_variable
    if "HTTP request to an HTTPS server" in details:
        return "it expects TLS and was sent plain text", f"Write https:// in {endpoint}"
    path = "; /v1/traces and the like is added to OTEL_EXPORTER_OTLP_ENDPOINT, and not to a signal's own variable"
    path = "" if target.grpc else path
    remedies = {
        401: f"Set its key in {headers}",
        403: f"Set a key with permission to write in {headers}",
        404: f"Correct the path in {endpoint}{path}",
        405: f"Correct {endpoint}: this address does not accept OTLP{path}",
        407: "The proxy of HTTP_PROXY or HTTPS_PROXY requires a password",
        413: "Raise the receiver's limit for a request",
        415: "Check OTEL_EXPORTER_OTLP_COMPRESSION, and whether it accepts OTLP as protobuf",
        429: "It limits the rate of requests: the sender waits and retries",
    }
    if 300 <= status < 400:
        remedy = f"Write the address that it leads to in {endpoint}"
    else:
        remedy = remedies.get(status, "It is overloaded or failing: see its log" if status >= 500 else "See its log")
    phrase = next((f" {known.phrase}" for known in HTTPStatus if known == status), "")
    return f"{RESPONSE_PREFIX}{status}{phrase}", remedy


def _exception_texts(error: BaseException) -> Iterator[str]:
    """Yield class and text of an exception and of all exceptions nested in it."""
    pending, seen = [error], set[int]()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        http2 = isinstance(current, BadStatusLine) and str(current).startswith("\0\0")
        yield "HTTP/2 preface" if http2 else f"{type(current).__name__} {current}"
        nested = (
            current.__cause__,
            current.__context__,
            getattr(current, "reason", None),
            *current.args,
            *getattr(current, "exceptions", ()),
        )
        pending += [each for each in nested if isinstance(each, BaseException)]


def _verification_error(text: str) -> str:
    match = re.search(r"(?:certificate verify failed|CERTIFICATE_VERIFY_FAILED): ([a-z -]+)", text)
    return f" ({match[1].strip()})" if match else ""
