"""Who may ask the service: Host, Origin and the API key.

Without a key a web page must not be able to ask for the user: a request whose Host is not a name of the service (DNS
rebinding) or whose Origin is another site is refused. With a key, every request shows it. `/healthz` and `/readyz` are
open to any machine, since probes call them by address and know no key; they tell nothing.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from modeltrace.api.errors import error_response
from modeltrace.api.responses import JSON_CONTENT_TYPE, encode_body
from modeltrace.api.route import route_path
from modeltrace.errors import ForbiddenError, ModeltraceError, UnauthorizedError
from modeltrace.http_settings import HttpSettings, is_path_prefix
from modeltrace.keys import is_loopback, load_api_key

PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def wrap_with_auth(app: ASGIApp, settings: HttpSettings) -> ASGIApp:
    """Put the rules of the settings in front of an application.

    Raises:
        SettingsError: the key cannot be read.
    """
    guarded: ASGIApp = AuthMiddleware(app, settings)
    if settings.root_path or settings.trusted_proxies:
        guarded = ForwardedHeadersMiddleware(guarded, settings.trusted_proxies, settings.root_path or "")
    return guarded


class AuthMiddleware:
    """An ASGI application before another one: passes on what may be answered."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        key = load_api_key(settings)
        self._key = None if key is None else key.encode()
        self._allowed = frozenset(name.lower() for name in settings.allowed_hosts)
        self._loopback = is_loopback(settings.host)
        self._hosts = self._allowed | _LOOPBACK_NAMES | {settings.host.lower()}
        self._any_host = not self._loopback and not self._allowed
        # What most requests send, so that it need not be taken apart.
        self._usual = frozenset(f"{host}:{settings.port}".encode() for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except (ForbiddenError, UnauthorizedError) as error:
                await _send_error(error, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Look at a request's headers.

        Raises:
            ForeignRequestError: Host or Origin is not the service's.
            UnauthorizedError: there is a key, and the request does not show it.
        """
        fields = scope["headers"]
        headers = dict(fields)
        host = headers.get(b"host", b"")
        if host not in self._usual or len(headers) != len(fields):
            self._check_hosts([value for name, value in fields if name == b"host"], scope)
        if b"origin" in headers and not self._is_origin(headers[b"origin"], host) and not _is_public(scope):
            raise ForbiddenError(
                "this service answers to its own pages only, not to those of another origin; other hosts whose pages "
                "may ask are listed in MODELTRACE_ALLOWED_HOSTS"
            )
        if self._key is not None and not self._is_key(headers.get(b"authorization", b"")) and not _is_public(scope):
            raise UnauthorizedError(
                "an API key is needed: send `Authorization: Bearer KEY`, the key that MODELTRACE_API_KEY holds where "
                "the service runs"
            )

    def _check_hosts(self, hosts: Sequence[bytes], scope: Scope) -> None:
        """See that each Host is a name of the service.

        Raises:
            ForeignRequestError: one is not.
        """
        if self._any_host or _is_public(scope):
            return
        for host in hosts:
            name = _host_name(host)
            # An address cannot be rebound, unlike a name.
            if name not in self._hosts and (self._loopback or not _is_address(name)):
                raise ForbiddenError(
                    f"this service does not answer to the host {name[:100]!r}; names that it may be called by are "
                    "listed in MODELTRACE_ALLOWED_HOSTS"
                )

    def _is_origin(self, origin: bytes, host: bytes) -> bool:
        """Return whether a page belongs to the service: same host and port, or a name that is allowed."""
        try:
            url = urlsplit(origin.decode("latin-1"))
            return url.netloc.lower() == host.decode("latin-1").lower() or (url.hostname or "") in self._allowed
        except ValueError:
            return False

    def _is_key(self, shown: bytes) -> bool:
        """Compare in a time that does not tell how much is right."""
        scheme, _, value = shown.partition(b" ")
        value = value.strip()
        if scheme.lower() == b"basic":
            try:
                _, _, value = base64.b64decode(value, validate=True).partition(b":")
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(value, self._key or b"")


class ForwardedHeadersMiddleware:
    """An ASGI application before another one: takes over what proxies say, and where they publish the service.

    A proxy may leave out the path below which it publishes the service, or pass it on; the application sees it.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str], root_path: str) -> None:
        self._proxies = ProxyHeadersMiddleware(app, trusted_hosts=list(trusted))  # type: ignore[arg-type]  # uvicorn's types
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] == "http" and (prefix := self._prefix(scope)):
            scope["root_path"] = prefix
            if scope["path"] != prefix and not scope["path"].startswith(f"{prefix}/"):
                scope["path"] = prefix + scope["path"]
                scope["raw_path"] = prefix.encode() + scope.get("raw_path", b"")
        await self._proxies(scope, receive, send)  # type: ignore[arg-type]  # uvicorn's types

    def _prefix(self, scope: Scope) -> str:
        client = scope.get("client")
        if client and client[0] in self._proxies.trusted_hosts:
            for name, value in scope["headers"]:
                if name == b"x-forwarded-prefix" and is_path_prefix(said := value.decode("latin-1").rstrip("/")):
                    return str(said)
        return self._root_path


async def _send_error(error: ModeltraceError, send: Send) -> None:
    status, payload, headers = error_response(error)
    content = encode_body(payload, None)
    fields = [JSON_CONTENT_TYPE, (b"content-length", b"%d" % len(content))]
    fields += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


def _host_name(host: bytes) -> str:
    """Return the name or address of a Host without its port; "" if it is none."""
    try:
        return (urlsplit(f"//{host.decode('latin-1')}").hostname or "").lower()
    except ValueError:
        return ""


def _is_public(scope: Scope) -> bool:
    return route_path(scope) in PUBLIC_PATHS


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
