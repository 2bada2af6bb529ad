"""Parsers for the values of OpenTelemetry's environment variables.

A parser takes the text of a variable, without surrounding white space, and returns it in the form that the SDK reads.
It raises `ValueError` with a reason that does not repeat a secret. Source: OpenTelemetry specification,
"Configuration types" and "OTLP Exporter".
"""

import logging
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Final
from urllib.parse import quote, urlsplit

Parse = Callable[[str], str]

# The largest integer that the specification requires.
MAX_INTEGER: Final = 2**31 - 1
# Milliseconds that are used for "no limit": one day.
NO_LIMIT_MS: Final = 86_400_000
PROPAGATOR_GROUP: Final = "opentelemetry_propagator"
RESOURCE_DETECTOR_GROUP: Final = "opentelemetry_resource_detector"


class UnsupportedError(ValueError):
    """The variable has no effect in this service."""


class PartialValueError(ValueError):
    """Part of a list is invalid; `rest` is the valid part."""

    def __init__(self, reason: str, rest: str) -> None:
        super().__init__(reason)
        self.rest = rest


def text(value: str) -> str:
    """Accept any text."""
    return value


def unicode_text(value: str) -> str:
    """Accept any text. Invalid UTF-8 becomes U+FFFD: OTLP cannot represent it, so the attribute would be lost."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def boolean(value: str) -> str:
    """Accept `true` and `false` in any case."""
    if value.lower() not in ("true", "false"):
        raise ValueError(f"is {printable(value)}, neither true nor false")
    return value.lower()


def integer(minimum: int = 0, unit: str = "") -> Parse:
    """Return a parser of integers from `minimum` to 2^31 - 1."""
    expected = f"an integer{f' number of {unit}' if unit else ''}, {minimum} or more"

    def parse(value: str) -> str:
        if not re.fullmatch(r"\+?[0-9]+", value, re.ASCII) or not minimum <= int(value[:20]) <= MAX_INTEGER:
            raise ValueError(f"is {printable(value)}, not {expected}")
        return str(int(value))

    return parse


def timeout(value: str) -> str:
    """Accept milliseconds; 0 means no limit."""
    milliseconds = integer(unit="milliseconds")(value)
    return str(NO_LIMIT_MS) if milliseconds == "0" else milliseconds


def ratio(value: str) -> str:
    """Accept a number from 0 to 1."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"is {printable(value)}, not a number from 0 to 1")
    return value


def choice(*allowed: str) -> Parse:
    """Return a parser of one word of a set, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(f"is {printable(value)}, not one of {', '.join(allowed)}")
        return value.lower()

    return parse


def choices(*allowed: str) -> Parse:
    """Return a parser of a comma-separated list of allowed words in any case. `none` must be the only word."""

    def parse(value: str) -> str:
        names = split(value.lower())
        unknown = [name for name in names if name not in (*allowed, "none")]
        if unknown:
            raise ValueError(f"names {printable(', '.join(unknown))}; supported are {', '.join(allowed)}, and none")
        if "none" in names and len(names) > 1:
            raise ValueError("names none together with others")
        return ",".join(names)

    return parse


def propagators(value: str) -> str:
    """Accept a list of propagators whose packages are installed."""
    known = {"tracecontext", "baggage"}
    if not set(split(value.lower())) <= known | {"none"}:  # otherwise, do not look for packages
        known |= _plugins(PROPAGATOR_GROUP)
    try:
        return choices(*sorted(known))(value)
    except ValueError as error:
        raise ValueError(f"{error} (others come with a package, e.g. opentelemetry-propagator-b3)") from None


def detectors(value: str) -> str:
    """Accept a list of resource detectors whose packages are installed."""
    names = split(value)
    if unknown := [name for name in names if name not in _plugins(RESOURCE_DETECTOR_GROUP) | {"*"}]:
        raise ValueError(f"names {printable(', '.join(unknown))}, which no installed package provides")
    return ",".join(names)


def attributes(value: str) -> str:
    """Accept a comma-separated list of KEY=VALUE. The SDK ignores other entries."""
    entries = [entry for entry in unicode_text(value).split(",") if entry.strip()]
    rest = ",".join(entry for entry in entries if "=" in entry)
    if any("=" not in entry for entry in entries):
        raise PartialValueError("has an entry that is not KEY=VALUE", rest)
    return rest


def headers(value: str) -> str:
    """Accept a comma-separated list of NAME=VALUE, as the SDK reads it, with values that are valid in a header."""
    # The SDK logs an entry that it cannot read, with its secret value.
    log = logging.getLogger("opentelemetry.util.re")
    from opentelemetry.util.re import parse_env_headers  # noqa: PLC0415  only where there are headers

    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    for number, entry in enumerate(entries, 1):
        muted, log.disabled = log.disabled, True
        try:
            read = parse_env_headers(entry, liberal=True)
        finally:
            log.disabled = muted
        if not read:
            raise ValueError(
                f"has an entry (number {number}) that is not NAME=VALUE with the value percent-encoded, e.g. "
                "authorization=Bearer%20KEY"
            )
        if any(not part.isprintable() or not part.isascii() for part in (*read, *read.values())):
            raise ValueError(f"has an entry (number {number}) with a character that a header cannot hold")
    return ",".join(entries)


def endpoint(*, grpc: bool, insecure_is_set: bool, shared: bool = False) -> Parse:
    """Return a parser of OTLP endpoints.

    Args:
        grpc: whether the protocol is gRPC, which also accepts a target without `http://`.
        insecure_is_set: whether `OTEL_EXPORTER_OTLP_INSECURE` decides on TLS for such a target.
        shared: whether it is the endpoint of all signals, to which HTTP exporters append the path of each signal.
    """

    def parse(value: str) -> str:
        shown = mask(value)
        scheme = re.match(r"(?i)(https?)://", value)
        if grpc and not scheme and insecure_is_set:
            return value
        if not scheme:
            example = f"http://{value}" if re.fullmatch(r"[\w.-]+(:[0-9]+)?", value) else "http://localhost:4318"
            raise ValueError(
                f"has no scheme ({shown}): write {example}, or https:// for TLS"
                + (", or set OTEL_EXPORTER_OTLP_INSECURE" if grpc else "")
            )
        try:
            url = urlsplit(value)
            host = url.hostname if url.port != 0 else None
        except ValueError:
            host = None
        if not host or " " in value or not value.isprintable():
            raise ValueError(f"is not a URL ({shown}): write scheme, host and port, e.g. http://localhost:4318")
        if grpc and "@" in url.netloc:
            raise ValueError("has a user name, which gRPC cannot send: use OTEL_EXPORTER_OTLP_HEADERS")
        if shared and not grpc:
            _check_shared_path(value)
        return value

    return parse


def _check_shared_path(url: str) -> None:
    """Check that the path of a signal can be appended to a URL."""
    own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, …_METRICS_ENDPOINT and …_LOGS_ENDPOINT"
    if re.search(r"[?#]", url):
        raise ValueError(f"has a query or fragment ({mask(url)}), so no path can be appended: set {own}")
    if match := re.search(r"/v1/(traces|metrics|logs)/*$", url):
        raise ValueError(
            f"ends with the path of a signal ({mask(url)}), which is appended: write {mask(url[: match.start()])}, or "
            f"set {own}"
        )


def unsupported(why: str) -> Parse:
    """Return a parser that rejects every value."""

    def parse(_: str) -> str:
        raise UnsupportedError(why)

    return parse


def split(value: str) -> tuple[str, ...]:
    """Split a comma-separated list; each name appears once."""
    return tuple(dict.fromkeys(name for part in value.split(",") if (name := part.strip())))


def mask(url: str) -> str:
    """Return a URL without user, password, query and control characters, for a log or a terminal."""
    shown = re.sub(r"(?i)^((?:[a-z][a-z0-9+.-]*:)?//)?[^?#]*@", r"\1***@", url)
    return printable(re.sub(r"[?#].*", "?***", shown, flags=re.DOTALL), 200)


def printable(value: str, limit: int = 40) -> str:
    """Return a value without control characters and quotes, truncated to `limit` characters."""
    safe = "".join(
        char if char.isprintable() and char not in '"\\' else quote(char, errors="replace") for char in value[:limit]
    )
    return safe if len(value) <= limit else f"{safe}…"


def _plugins(group: str) -> set[str]:
    return {entry.name for entry in entry_points(group=group)}
