"""Describe HTTP requests as opentelemetry-instrumentation-fastapi and uvicorn do.

Names: https://opentelemetry.io/docs/specs/semconv/http/http-spans. Attributes with an empty value or zero are omitted.
"""

from operator import attrgetter
from typing import Final
from urllib.parse import quote

from opentelemetry.semconv._incubating.attributes.user_agent_attributes import USER_AGENT_SYNTHETIC_TYPE
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_QUERY, URL_SCHEME
from opentelemetry.semconv.attributes.user_agent_attributes import USER_AGENT_ORIGINAL

from modeltrace.sidecar.encode.protobuf import utf8
from modeltrace.telemetry.records.prediction import Value

KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
OTHER_METHOD = "_OTHER"
# Parts of a user agent in lower case; the first match applies.
SYNTHETIC_USER_AGENTS = (("alwayson", "test"), ("googlebot", "bot"), ("bingbot", "bot"))

# The fields of a `RequestRecord` that `server_span` and `access_log` describe. Encoders cache by them.
SERVER_FIELDS: Final = attrgetter(
    "method", "route", "path", "query", "scheme", "http_version", "server_address", "server_port", "client_address",
    "user_agent",
)  # fmt: skip
ACCESS_FIELDS: Final = attrgetter("method", "path", "query", "http_version", "client_address", "client_port", "status")


def server_span(
    method: str,
    route: str,
    path: str,
    query: str,
    scheme: str,
    http_version: str,
    server_address: str,
    server_port: int,
    client_address: str,
    user_agent: str,
) -> tuple[str, dict[str, Value]]:
    """Return the name of a SERVER span, and its attributes before the response, except the port of the client.

    An unknown method becomes HTTP in the name, to bound the number of names.
    """
    known = method.upper() if method.upper() in KNOWN_METHODS else OTHER_METHOD
    name = "HTTP" if known == OTHER_METHOD else known
    attributes: dict[str, Value] = {
        URL_SCHEME: scheme,
        SERVER_ADDRESS: server_address,
        SERVER_PORT: server_port,
        NETWORK_PROTOCOL_VERSION: http_version,
        URL_PATH: path,
        URL_QUERY: path and query,
        HTTP_REQUEST_METHOD_ORIGINAL: method if method != known else "",
        HTTP_REQUEST_METHOD: known,
        USER_AGENT_ORIGINAL: user_agent,
        USER_AGENT_SYNTHETIC_TYPE: _synthetic_type(user_agent),
        CLIENT_ADDRESS: client_address,
        HTTP_ROUTE: route,
    }
    return f"{name} {route}" if route else name, {key: value for key, value in attributes.items() if value}


def _synthetic_type(user_agent: str) -> str:
    lower_case = user_agent.lower()
    return next((kind for part, kind in SYNTHETIC_USER_AGENTS if part in lower_case), "")


def access_log(
    method: str, path: str, query: str, http_version: str, client_address: str, client_port: int, status: int
) -> tuple[str, dict[str, Value]]:
    """Return the message of uvicorn's access log, and attributes. The attributes omit the query string."""
    quoted = quote(utf8(path))
    target = f"{quoted}?{query}" if query else quoted
    client = f"{client_address}:{client_port}" if client_address else ""
    return f'{client} - "{method} {target} HTTP/{http_version}" {status}', {
        CLIENT_ADDRESS: client_address,
        HTTP_REQUEST_METHOD: method,
        URL_PATH: quoted,
        HTTP_RESPONSE_STATUS_CODE: status,
    }
