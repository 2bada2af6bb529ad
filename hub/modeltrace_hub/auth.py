"""Who may talk to the hub.

On loopback there is no key, so nothing else may lead a browser here: a request whose Host is not a name of this machine
(DNS rebinding) or whose Origin is another site is refused, and no CORS header is sent, except on the port for OTLP over
HTTP to the origins that the settings name. With a key, every request must show it: `Authorization: Bearer KEY`, or in a
browser the cookie that one visit with `?key=KEY` sets.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace_hub.errors import ForeignRequestError, PermanentError, UnauthorizedError
from modeltrace_hub.settings import HubSettings

COOKIE: Final = "modeltrace_hub"

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """The rules. One object serves all ports."""

    def __init__(self, settings: HubSettings) -> None:
        self._key = settings.key.get_secret_value().encode() if settings.key else None
        self._hosts = _LOOPBACK_NAMES | {settings.host.lower()} if settings.loopback else None
        self.cookie = hmac.new(self._key or b"", b"modeltrace hub pages", hashlib.sha256).hexdigest()

    def check_origin(self, headers: Mapping[str, str], *, allowed: frozenset[str] = frozenset()) -> None:
        """Look at Host and Origin.

        Args:
            headers: those of the request.
            allowed: origins that may send here besides the hub's own.

        Raises:
            ForeignRequestError: one of them is not the hub's.
        """
        host = headers.get("host", "")
        name = _hostname(f"//{host}")
        if self._hosts is not None and name not in self._hosts:
            raise ForeignRequestError(f"The hub answers to localhost and its own address, not to the host {name!r}.")
        origin = headers.get("origin")
        if origin is None or origin.lower() in allowed:
            return
        if _netloc(origin) != host.lower():
            raise ForeignRequestError("The hub answers to its own pages only, not to those of another origin.")

    def check_bearer(self, authorization: str) -> None:
        """Look at an `Authorization` header, or gRPC metadata of that name.

        Raises:
            UnauthorizedError: there is a key and this is not it.
        """
        if self._key is None:
            return
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer" or not self.is_key(value.strip()):
            raise UnauthorizedError(
                "A key is needed: send `Authorization: Bearer KEY`, the key that MODELTRACE_HUB_KEY holds where the "
                "hub runs (for OpenTelemetry SDKs: OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY). "
                "In a browser: open this address once with ?key=KEY at its end."
            )

    def is_key(self, value: str) -> bool:
        """Compare in a time that does not tell how much is right."""
        return self._key is not None and hmac.compare_digest(value.encode(), self._key)

    def is_cookie(self, value: str) -> bool:
        """Whether a browser has shown the key before."""
        return self._key is not None and hmac.compare_digest(value.encode(), self.cookie.encode())


class GuardMiddleware:
    """The rules in front of the pages and their API. `open_paths` ask for no key."""

    def __init__(self, app: ASGIApp, guard: Guard, open_paths: frozenset[str] = frozenset({"/healthz"})) -> None:
        self._app = app
        self._guard = guard
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        answer = self._refuse(HTTPConnection(scope)) if scope["type"] in {"http", "websocket"} else None
        await (self._app if answer is None else answer)(scope, receive, send)

    def _refuse(self, request: HTTPConnection) -> Response | None:
        try:
            self._guard.check_origin(request.headers)
            if request.url.path in self._open_paths or self._guard.is_cookie(request.cookies.get(COOKIE, "")):
                return None
            if self._guard.is_key(request.query_params.get("key", "")):
                return self._welcome(request)
            self._guard.check_bearer(request.headers.get("authorization", ""))
        except ForeignRequestError as error:
            return _error(403, "forbidden", error)
        except UnauthorizedError as error:
            return _error(401, "unauthorized", error)
        return None

    def _welcome(self, request: HTTPConnection) -> Response:
        """Keep the key as a cookie and take it out of the address, which ends up in histories and logs."""
        rest = urlencode([pair for pair in parse_qsl(request.url.query) if pair[0] != "key"])
        # Relative to the address, of which a proxy may show a part only.
        page = request.url.path.rpartition("/")[2] or "."
        answer = RedirectResponse(f"./{page}" + (f"?{rest}" if rest else ""), status_code=303)
        answer.set_cookie(
            COOKIE, self._guard.cookie, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return answer


def _error(status: int, type_: str, error: PermanentError) -> JSONResponse:
    headers = Headers({"WWW-Authenticate": "Bearer"} if status == 401 else {})
    return JSONResponse({"error": {"type": type_, "message": str(error)}}, status, headers)


def _netloc(url: str) -> str | None:
    """Host and port of an address; None when it is none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return None


def _hostname(url: str) -> str:
    """The host of an address without its port; '' when there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
