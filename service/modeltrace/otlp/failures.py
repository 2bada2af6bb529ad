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
HANDSHAKE: Final = 1.0
ANSWERS: Final = "it answers "
UNKNOWN: Final = "it fails with "
CLIENT_CERTIFICATE: Final = "client certificate"


class Failure(NamedTuple):
    """What is wrong, what to do about it, where it was to go, and what the other side said of it."""

    reason: str
    remedy: str
    where: str = ""
    said: str = ""

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.reason}{f' ({self.said})' if self.said else ''}. {self.remedy}"


class Target(NamedTuple):
    """Where something is sent, and the variables that say so."""

    url: str
    grpc: bool = False
    seconds: float = 0.0
    endpoint: str = "OTEL_EXPORTER_OTLP_ENDPOINT"
    headers: str = "OTEL_EXPORTER_OTLP_HEADERS"
    secrets: tuple[str, ...] = ()  # the values of headers

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.url.startswith("https:")

    @property
    def shown(self) -> str:
        """The address without user, password and query."""
        return mask(self.url)

    def quote(self, words: str) -> str:
        """What the other side said, without the values of headers, on one line."""
        for secret in self.secrets:
            words = words.replace(secret, "***")
        return printable(" ".join(words.split()), 200)


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
    problem: BaseException | int | str,
    target: Target,
    words: str = "",
    *,
    probe: Callable[[str], str | None] | None = None,
) -> Failure:
    """Say why something could not be delivered.

    Args:
        problem: an exception, an HTTP status, or the name of a gRPC code.
        target: where it was to go.
        words: the details of the gRPC code, or what the other side says of the status.
        probe: finds out whether a URL speaks TLS; a test may know.
    """
    if isinstance(problem, int):
        reason, remedy = _status(problem, target, words)
    else:
        text = words if isinstance(problem, str) else " ".join(_chain(problem))
        if http := re.search(r"Received http2 header with status: (\d{3})", text):
            return classify(int(http[1]), target)
        if problem in _GRPC_STATUS and isinstance(problem, str):
            return classify(int(_GRPC_STATUS[problem]), target, words)
        kind = next((kind for kind, phrase in _PHRASES if re.search(phrase, f"{problem!r} {text}")), "")
        if kind == "closed":
            kind = _why_closed(target, probe or speaks_tls)
        reason, remedy = _words(kind, problem, target, text)
    said = target.quote(words) if reason.startswith(ANSWERS) else ""
    return Failure(reason, remedy, target.shown, said)


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
            socket.create_connection((place.hostname or "", port), HANDSHAKE) as plain,
            context.wrap_socket(plain, server_hostname=place.hostname) as secure,
        ):
            return CLIENT_CERTIFICATE if _hangs_up(secure) else secure.selected_alpn_protocol() or ""
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return None


def _hangs_up(secure: ssl.SSLSocket) -> bool:
    """Whether the other side ends a connection once it has seen no certificate, which TLS 1.3 has it do this late."""
    secure.settimeout(HANDSHAKE)
    try:
        return secure.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:  # the alert that says so
        return True


def _why_closed(target: Target, probe: Callable[[str], str | None]) -> str:
    """Tell the reasons apart for which a server closes a connection without a word."""
    if not re.match(r"https?://", target.url):
        return "closed"
    spoken = probe(target.url)
    if not target.tls:
        return "closed" if spoken is None else "speaks TLS"
    if spoken == CLIENT_CERTIFICATE:
        return CLIENT_CERTIFICATE
    return "speaks gRPC" if spoken == "h2" and not target.grpc else "closed"


def _words(kind: str, problem: BaseException | str, target: Target, text: str) -> tuple[str, str]:
    what = problem if isinstance(problem, str) else type(problem).__name__
    correct = f"Correct {target.endpoint}"
    known = {
        "proxy": ("the proxy of HTTP_PROXY or HTTPS_PROXY does not let it through", "Correct it, or set NO_PROXY"),
        "unknown host": (f"unknown host {_host(target)}", correct),
        "nothing listens": (
            f"nothing listens at {target.shown}",
            f"Start what receives OTLP there, or correct {target.endpoint}",
        ),
        "unreachable": (f"there is no way to {_host(target)}", f"Check the network, or correct {target.endpoint}"),
        "speaks HTTP": (
            "it speaks HTTP, not gRPC",
            "Use its port for gRPC (usually 4317), or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (usually 4318)",
        ),
        "speaks gRPC": (
            "it speaks gRPC, not HTTP",
            "Use its port for HTTP (usually 4318), or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc (usually 4317)",
        ),
        "speaks TLS": ("it expects TLS and was sent plain text", f"Write https:// in {target.endpoint}"),
        "no TLS": ("it speaks no TLS", f"Write http:// in {target.endpoint}"),
        "wrong host": (
            f"its certificate is not for {_host(target)}",
            f"Use a name of its certificate in {target.endpoint}",
        ),
        "expired": ("its certificate has expired", "Have it renewed"),
        "untrusted": (
            f"its certificate is not trusted{_why_untrusted(text)}",
            "Set OTEL_EXPORTER_OTLP_CERTIFICATE to a file with its issuer's certificate",
        ),
        CLIENT_CERTIFICATE: (
            "it asks for a client certificate",
            "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ),
        "no connection": (
            f"no connection within {target.seconds:g} s",
            f"Check the network, or correct {target.endpoint}",
        ),
        "no answer": (
            f"no answer within {target.seconds:g} s" if target.seconds else "no answer in time",
            "See whether it is overloaded, or raise OTEL_EXPORTER_OTLP_TIMEOUT",
        ),
        "closed": ("it closed the connection without an answer", f"See its log, or correct {target.endpoint}"),
        "bad header": (f"{target.headers} holds what a header cannot", f"Correct {target.headers}"),
        "bad address": ("that is not an address", correct),
    }
    if kind in known:
        return known[kind]
    if isinstance(problem, str):
        return f"{ANSWERS}{problem}", "See its log"
    return f"{UNKNOWN}{what}", f"See its log, or correct {target.endpoint}"


def _status(status: int, target: Target, words: str) -> tuple[str, str]:
    phrase = next((f" {one.phrase}" for one in HTTPStatus if one == status), "")
    answer = f"{ANSWERS}{status}{phrase}"
    if "HTTP request to an HTTPS server" in words:
        return "it expects TLS and was sent plain text", f"Write https:// in {target.endpoint}"
    path = (
        ""
        if target.grpc
        else ("; /v1/traces and the like is added to OTEL_EXPORTER_OTLP_ENDPOINT, and not to a signal's own variable")
    )
    remedies = {
        401: f"Set its key in {target.headers}",
        403: f"Set a key that may write in {target.headers}",
        404: f"Correct the path in {target.endpoint}{path}",
        405: f"Correct {target.endpoint}: that takes no OTLP{path}",
        407: "The proxy of HTTP_PROXY or HTTPS_PROXY asks for a password",
        413: "Raise the receiver's limit for a request",
        415: "Check OTEL_EXPORTER_OTLP_COMPRESSION, and whether it takes OTLP as protobuf",
        429: "It asks for less, or for patience: the sender waits",
    }
    if 300 <= status < 400:
        return answer, f"Write the address that it leads to in {target.endpoint}"
    return answer, remedies.get(status, "It is overloaded or failing: see its log" if status >= 500 else "See its log")


def _chain(error: BaseException) -> Iterator[str]:
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


def _host(target: Target) -> str:
    return printable(urlsplit(target.url).hostname or target.shown, 100)


def _why_untrusted(text: str) -> str:
    found = re.search(r"(?:certificate verify failed|CERTIFICATE_VERIFY_FAILED): ([a-z -]+)", text)
    return f" ({found[1].strip()})" if found else ""
