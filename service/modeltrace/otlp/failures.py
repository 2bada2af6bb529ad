"""Why OTLP cannot be delivered, and what to do: in words that hold no secret.

`classify` takes whatever a sender got: an exception of requests or httpx, an HTTP status, or a gRPC code with its
details. The libraries tell the cause in exceptions below exceptions, or only in text; both are searched for the phrases
of one table.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import BadStatusLine
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from modeltrace.otel_env.values import mask, printable

# Seconds that a TLS handshake may take which is only to find out whether there is TLS.
HANDSHAKE_TIMEOUT: Final = 1.0
RESPONSE_PREFIX: Final = "it answers "
UNKNOWN_PREFIX: Final = "it fails with "
CLIENT_CERTIFICATE: Final = "client certificate"


class Failure(NamedTuple):
    """What is wrong, what to do about it, where it was to go, and what the other side said of it."""

    reason: str
    remedy: str
    address: str = ""
    response: str = ""

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.reason}{f' ({self.response})' if self.response else ''}. {self.remedy}"


class Target(NamedTuple):
    """Where something is sent, and the variables that say so."""

    url: str
    grpc: bool = False
    timeout_seconds: float = 0.0
    endpoint_variable: str = "OTEL_EXPORTER_OTLP_ENDPOINT"
    headers_variable: str = "OTEL_EXPORTER_OTLP_HEADERS"
    secrets: tuple[str, ...] = ()  # the values of headers

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.url.startswith("https:")

    @property
    def display_url(self) -> str:
        """The address without user, password and query."""
        return mask(self.url)

    def redact(self, text: str) -> str:
        """What the other side said, without the values of headers, on one line."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return printable(" ".join(text.split()), 200)


# gRPC says "Failed parsing HTTP/2" of a server that answers in HTTP/1.1, and "missing selected ALPN" of one with TLS.
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
    (
        "closed",
        r"[Dd]isconnected|Connection reset|Socket closed|Broken pipe|UNEXPECTED_EOF|SSLEOFError",
    ),
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
    """Say why something could not be delivered.

    Args:
        error: an exception, an HTTP status, or the name of a gRPC code.
        target: where it was to go.
        details: the details of the gRPC code, or what the other side says of the status.
        probe: finds out whether a URL speaks TLS; a test may know.
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
            kind = _closed_kind(target, probe or speaks_tls)
        reason, remedy = _describe(kind, error, target, text)
    said = target.redact(details) if reason.startswith(RESPONSE_PREFIX) else ""
    return Failure(reason, remedy, target.display_url, said)


def speaks_tls(url: str) -> str | None:
    """Find out whether TLS is spoken at an address.

    Returns:
        The protocol agreed on ("" if none was), `CLIENT_CERTIFICATE` where one is asked for; `None` without TLS.
    """
    place = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only the answer matters
    context.set_alpn_protocols(["h2", "http/1.1"])
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        with (
            socket.create_connection((place.hostname or "", port), HANDSHAKE_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=place.hostname) as secure,
        ):
            return CLIENT_CERTIFICATE if _closes_connection(secure) else secure.selected_alpn_protocol() or ""
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return None


def _closes_connection(secure: ssl.SSLSocket) -> bool:
    """Whether the other side ends a connection once it has seen no certificate, which TLS 1.3 has it do this late."""
    secure.settimeout(HANDSHAKE_TIMEOUT)
    try:
        return secure.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:  # the alert that says so
        return True


def _closed_kind(target: Target, probe: Callable[[str], str | None]) -> str:
    """Tell the reasons apart for which a server closes a connection without a word."""
    if not re.match(r"https?://", target.url):
        return "closed"
    spoken = probe(target.url)
    if not target.tls:
        return "closed" if spoken is None else "speaks TLS"
    if spoken == CLIENT_CERTIFICATE:
        return CLIENT_CERTIFICATE
    return "speaks gRPC" if spoken == "h2" and not target.grpc else "closed"


def _describe(kind: str, error: BaseException | str, target: Target, text: str) -> tuple[str, str]:
    what = error if isinstance(error, str) else type(error).__name__
    correct = f"Correct {target.endpoint_variable}"
    known = {
        "proxy": ("the proxy of HTTP_PROXY or HTTPS_PROXY does not let it through", "Correct it, or set NO_PROXY"),
        "unknown host": (f"unknown host {_host_name(target)}", correct),
        "nothing listens": (
            f"nothing listens at {target.display_url}",
            f"Start what receives OTLP there, or correct {target.endpoint_variable}",
        ),
        "unreachable": (
            f"there is no way to {_host_name(target)}",
            f"Check the network, or correct {target.endpoint_variable}",
        ),
        "speaks HTTP": (
            "it speaks HTTP, not gRPC",
            "Use its port for gRPC (usually 4317), or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (usually 4318)",
        ),
        "speaks gRPC": (
            "it speaks gRPC, not HTTP",
            "Use its port for HTTP (usually 4318), or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc (usually 4317)",
        ),
        "speaks TLS": ("it expects TLS and was sent plain text", f"Write https:// in {target.endpoint_variable}"),
        "no TLS": ("it speaks no TLS", f"Write http:// in {target.endpoint_variable}"),
        "wrong host": (
            f"its certificate is not for {_host_name(target)}",
            f"Use a name of its certificate in {target.endpoint_variable}",
        ),
        "expired": ("its certificate has expired", "Have it renewed"),
        "untrusted": (
            f"its certificate is not trusted{_verification_error(text)}",
            "Set OTEL_EXPORTER_OTLP_CERTIFICATE to a file with its issuer's certificate",
        ),
        CLIENT_CERTIFICATE: (
            "it asks for a client certificate",
            "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ),
        "no connection": (
            f"no connection within {target.timeout_seconds:g} s",
            f"Check the network, or correct {target.endpoint_variable}",
        ),
        "no answer": (
            f"no answer within {target.timeout_seconds:g} s" if target.timeout_seconds else "no answer in time",
            "See whether it is overloaded, or raise OTEL_EXPORTER_OTLP_TIMEOUT",
        ),
        "closed": ("it closed the connection without an answer", f"See its log, or correct {target.endpoint_variable}"),
        "bad header": (f"{target.headers_variable} holds what a header cannot", f"Correct {target.headers_variable}"),
        "bad address": ("that is not an address", correct),
    }
    if kind in known:
        return known[kind]
    if isinstance(error, str):
        return f"{RESPONSE_PREFIX}{error}", "See its log"
    return f"{UNKNOWN_PREFIX}{what}", f"See its log, or correct {target.endpoint_variable}"


def _describe_status(status: int, target: Target, details: str) -> tuple[str, str]:
    phrase = next((f" {one.phrase}" for one in HTTPStatus if one == status), "")
    answer = f"{RESPONSE_PREFIX}{status}{phrase}"
    if "HTTP request to an HTTPS server" in details:
        return "it expects TLS and was sent plain text", f"Write https:// in {target.endpoint_variable}"
    path = (
        ""
        if target.grpc
        else ("; /v1/traces and the like is added to OTEL_EXPORTER_OTLP_ENDPOINT, and not to a signal's own variable")
    )
    remedies = {
        401: f"Set its key in {target.headers_variable}",
        403: f"Set a key that may write in {target.headers_variable}",
        404: f"Correct the path in {target.endpoint_variable}{path}",
        405: f"Correct {target.endpoint_variable}: that takes no OTLP{path}",
        407: "The proxy of HTTP_PROXY or HTTPS_PROXY asks for a password",
        413: "Raise the receiver's limit for a request",
        415: "Check OTEL_EXPORTER_OTLP_COMPRESSION, and whether it takes OTLP as protobuf",
        429: "It asks for less, or for patience: the sender waits",
    }
    if 300 <= status < 400:
        return answer, f"Write the address that it leads to in {target.endpoint_variable}"
    return answer, remedies.get(status, "It is overloaded or failing: see its log" if status >= 500 else "See its log")


def _exception_texts(error: BaseException) -> Iterator[str]:
    """Class and words of an exception and of all below it."""
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        http2 = isinstance(one, BadStatusLine) and str(one).startswith("\0\0")
        yield "HTTP/2 preface" if http2 else f"{type(one).__name__} {one}"
        below = (
            one.__cause__,
            one.__context__,
            getattr(one, "reason", None),
            *one.args,
            *getattr(one, "exceptions", ()),
        )
        todo += [each for each in below if isinstance(each, BaseException)]


def _host_name(target: Target) -> str:
    return printable(urlsplit(target.url).hostname or target.display_url, 100)


def _verification_error(text: str) -> str:
    found = re.search(r"(?:certificate verify failed|CERTIFICATE_VERIFY_FAILED): ([a-z -]+)", text)
    return f" ({found[1].strip()})" if found else ""
