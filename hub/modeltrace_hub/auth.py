"""Control access to the hub.

On loopback the hub needs no key. Without a key, a page of another site could use the user's browser to reach the hub.
The hub therefore rejects a request whose Origin is another site and, on loopback, a request whose Host is not a name of
this machine (DNS rebinding). It sends CORS headers only on the OTLP/HTTP port, to the origins in the settings.

If a key is set, every request must present it: in the header `Authorization: Bearer KEY`, or with a cookie. A browser
gets the cookie when it opens a page once with `?key=KEY`.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace_http.addresses import LOOPBACK_NAMES, host_name
from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import ForbiddenOriginError, UnauthorizedError
from modeltrace_hub.settings import HubSettings

COOKIE_NAME: Final = "modeltrace_hub"
OPEN_PATHS: Final = frozenset({"/healthz"})


class AccessPolicy:
    """Check the origin and the key of a request. All ports share one policy."""

    def __init__(self, settings: HubSettings) -> None:
        self._key = settings.key.get_secret_value().encode() if settings.key else None
        self._hosts = LOOPBACK_NAMES | {settings.host.lower()} if settings.is_loopback else None
        self.cookie = hmac.new(self._key or b"", b"modeltrace hub pages", hashlib.sha256).hexdigest()

    def check_origin(self, headers: Mapping[str, str], *, allowed: frozenset[str] = frozenset()) -> None:
        """Check the Host and Origin headers.

        Args:
            headers: the request headers.
            allowed: origins that may send requests, in addition to the hub's own.

        Raises:
            ForbiddenOriginError: the Host or the Origin is not allowed.
        """
        host = headers.get("host", "")
        name = host_name(host)
        if self._hosts is not None and name not in self._hosts:
            raise ForbiddenOriginError(f"The hub accepts localhost and its own address as Host, not {name!r}.")
        origin = headers.get("origin")
        if origin is None or origin.lower() in allowed:
            return
        if _netloc(origin) != host.lower():
            raise ForbiddenOriginError("The hub accepts requests from its own pages only, not from another origin.")

    def check_authorization(self, authorization: str) -> None:
        """Check the `Authorization` header, or gRPC metadata of that name.

        Raises:
            UnauthorizedError: the key is missing or wrong.
        """
        if self._key is None:
            return
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer" or not self.verify_key(value.strip()):
            raise UnauthorizedError(
                "A key is needed: send `Authorization: Bearer KEY` with the value of the hub's MODELTRACE_HUB_KEY "
                "(for OpenTelemetry SDKs: OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY). "
                "In a browser, open this address once with ?key=KEY at its end."
            )

    def verify_key(self, value: str) -> bool:
        """Return whether a value is the key. The comparison takes constant time."""
        return self._key is not None and hmac.compare_digest(value.encode(), self._key)

    def verify_cookie(self, value: str) -> bool:
        """Return whether a value is the cookie that browsers get after presenting the key."""
        return self._key is not None and hmac.compare_digest(value.encode(), self.cookie.encode())


class AuthMiddleware:
    """Apply the access policy to the pages and the API. `OPEN_PATHS` need no key."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or reject it."""
        response = self._check(HTTPConnection(scope)) if scope["type"] in {"http", "websocket"} else None
        await (self._app if response is None else response)(scope, receive, send)

    def _check(self, request: HTTPConnection) -> Response | None:
        """Return the response to a request that must not reach the application; None if it may."""
        try:
            self._policy.check_origin(request.headers)
            if request.url.path in OPEN_PATHS or self._policy.verify_cookie(request.cookies.get(COOKIE_NAME, "")):
                return None
            if self._policy.verify_key(request.query_params.get("key", "")):
                return self._set_cookie(request)
            self._policy.check_authorization(request.headers.get("authorization", ""))
        except (ForbiddenOriginError, UnauthorizedError) as error:
            status = error_status(error)
            return JSONResponse({"error": {"type": status.type, "message": str(error)}}, status.http, status.headers)
        return None

    def _set_cookie(self, request: HTTPConnection) -> Response:
        """Set the cookie and redirect to the address without the key: histories and logs must not contain the key."""
        query = urlencode([pair for pair in parse_qsl(request.url.query) if pair[0] != "key"])
        # A relative address, because a proxy may have removed a prefix of the path.
        page = request.url.path.rpartition("/")[2] or "."
        response = RedirectResponse(f"./{page}" + (f"?{query}" if query else ""), status_code=303)
        response.set_cookie(
            COOKIE_NAME, self._policy.cookie, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return response


def _netloc(url: str) -> str | None:
    """Return host and port of a URL; None if it is invalid."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return None
