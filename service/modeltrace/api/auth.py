"""Access control: Host, Origin, API key and rate limit.

Without API keys, a web page in the user's browser could call the service. Requests are therefore rejected if their
Host is not a name of the service (DNS rebinding) or their Origin is another site. With API keys, every request needs
one with the scope of the request. The Host is not checked if the address is not loopback and no allowed hosts are
configured. The paths of probes are public, since probes call them by address and without a key; they return no data.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace.api.errors import error_response
from modeltrace.api.forwarded_headers import ForwardedHeadersMiddleware
from modeltrace.api.model_and_health import PROBE_PATHS
from modeltrace.api.rate_limit import RateLimit
from modeltrace.api.request_target import route_path
from modeltrace.api.responses import TRACE_HEADER, json_response
from modeltrace.api_keys import ALL_SCOPES, ApiKey
from modeltrace.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from modeltrace.http_settings import HttpSettings
from modeltrace.keys import load_api_keys
from modeltrace.telemetry.records.trace import API_KEY_NAME
from modeltrace_http.addresses import LOOPBACK_NAMES, host_name, is_loopback, parse_address

# Response headers that pages of another origin may read.
EXPOSED_HEADERS: Final = (TRACE_HEADER, "Retry-After", "Inference-Header-Content-Length")
# Seconds for which a browser remembers the answer to a preflight request.
PREFLIGHT_MAX_AGE: Final = 600
PUBLIC_PATHS = frozenset(f"/{path}" for path in PROBE_PATHS)


def wrap_with_auth(app: ASGIApp, settings: HttpSettings, rate_limit: RateLimit | None = None) -> ASGIApp:
    """Wrap an application with access control and rate limit, and with proxy support if the settings need it.

    Raises:
        SettingsError: the API key cannot be read.
    """
    wrapped: ASGIApp = AuthMiddleware(app, settings, rate_limit)
    if settings.cors_origins:  # outside, so that pages of these origins can also read 401 and 429
        wrapped = _CORSMiddleware(
            wrapped,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_MAX_AGE,
        )
    if settings.root_path or settings.trusted_proxies:
        wrapped = ForwardedHeadersMiddleware(wrapped, settings.trusted_proxies, settings.root_path or "")
    return wrapped


class _CORSMiddleware(CORSMiddleware):
    """CORS for origins in any case: browsers write them in small letters, other clients may not (RFC 6454)."""

    def is_allowed_origin(self, origin: str) -> bool:
        """Return whether pages of an origin may call the service."""
        return super().is_allowed_origin(origin.lower())


class AuthMiddleware:
    """ASGI middleware: rejects requests with a wrong Host, Origin or API key, and those beyond the rate limit."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, rate_limit: RateLimit | None = None) -> None:
        self._app = app
        self._rate_limit = rate_limit
        self._keys = load_api_keys(settings)
        self._allowed_hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        self._cors_origins = frozenset(settings.cors_origins)
        self._loopback = is_loopback(settings.host)
        self._hosts = self._allowed_hosts | LOOPBACK_NAMES | {settings.host.lower()}
        self._any_host = not self._loopback and not self._allowed_hosts
        # Most requests have one of these Host headers; they need no parsing.
        self._common_hosts = frozenset(f"{host}:{settings.port}".encode() for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, or reject the request."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except (ForbiddenError, RateLimitedError, UnauthorizedError) as error:
                status, payload, headers = error_response(error, route_path(scope))
                await json_response(payload, status=status, headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Check the headers of a request.

        Raises:
            ForbiddenError: the Host, the Origin or the use of the API key is not allowed.
            RateLimitedError: the client sends too many requests.
            UnauthorizedError: the API key is missing or wrong.
        """
        fields = scope["headers"]
        headers = dict(fields)
        host = headers.get(b"host", b"")
        if host not in self._common_hosts or len(headers) != len(fields):
            self._check_hosts([value for name, value in fields if name == b"host"], scope)
        if b"origin" in headers and not self._is_allowed_origin(headers[b"origin"], host) and not _is_public(scope):
            raise ForbiddenError(
                "this service does not accept requests of web pages of another origin; list the hosts whose pages may "
                "call it in MODELTRACE_ALLOWED_HOSTS, or the origins in MODELTRACE_CORS_ORIGINS"
            )
        if (self._keys is not None or self._rate_limit is not None) and not _is_public(scope):
            key = None if self._keys is None else self._keys.find(_sent_key(headers.get(b"authorization", b"")))
            if self._rate_limit is not None:
                self._rate_limit.check(key, scope["client"][0] if scope.get("client") else "")
            if self._keys is not None:
                _authorize(scope, key)

    def _check_hosts(self, hosts: Sequence[bytes], scope: Scope) -> None:
        """Check that each Host header is a name of the service.

        Raises:
            ForbiddenError: a Host header is not allowed.
        """
        if self._any_host or _is_public(scope):
            return
        for host in hosts:
            name = host_name(host.decode("latin-1"))
            # DNS rebinding needs a name, so addresses are allowed.
            if name not in self._hosts and (self._loopback or parse_address(name) is None):
                raise ForbiddenError(
                    f"this service does not accept the host {name[:100]!r}; list the names that clients may use in "
                    "MODELTRACE_ALLOWED_HOSTS"
                )

    def _is_allowed_origin(self, origin: bytes, host: bytes) -> bool:
        """Return whether an Origin is allowed: that of the request, one with CORS, or an allowed host."""
        try:
            if origin.decode("latin-1").lower() in self._cors_origins:
                return True
            url = urlsplit(origin.decode("latin-1"))
            return url.netloc.lower() == host.decode("latin-1").lower() or (url.hostname or "") in self._allowed_hosts
        except ValueError:
            return False


def _sent_key(header: bytes) -> bytes:
    """Return the key of an `Authorization` header; empty without one."""
    scheme, _, value = header.partition(b" ")
    value = value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return value if scheme.lower() == b"bearer" else b""


def _authorize(scope: Scope, key: ApiKey | None) -> None:
    """Check that a key may be used for a request, and add its name to the scope.

    Raises:
        ForbiddenError: it may not be used for this request.
        UnauthorizedError: it is missing or wrong.
    """
    if key is None:
        raise UnauthorizedError(
            "an API key is needed: send `Authorization: Bearer KEY` with a key of the service (MODELTRACE_API_KEY, "
            "MODELTRACE_API_KEYS_FILE)"
        )
    if len(key.scopes) < len(ALL_SCOPES) and (needed := _needed_scope(scope)) not in key.scopes:
        raise ForbiddenError(
            f"the API key {key.name} may not be used for this request: it needs the scope {needed!r}, and has "
            f"{', '.join(sorted(key.scopes))} (MODELTRACE_API_KEYS_FILE of the service)"
        )
    if key.name:
        scope[API_KEY_NAME] = key.name


def _needed_scope(scope: Scope) -> str:
    """Return the scope of a request. All POST requests except labels are predictions."""
    path = route_path(scope)
    if path == "/feedback":
        return "feedback"
    if path == "/metrics":
        return "metrics"
    return "predict" if scope["method"] == "POST" else "model"


def _is_public(scope: Scope) -> bool:
    return route_path(scope) in PUBLIC_PATHS
