"""Headers that proxies add: the address and scheme of the client, and the path below which the service is reached."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from modeltrace.http_settings import is_path_prefix


class ForwardedHeadersMiddleware:
    """ASGI middleware: applies the `X-Forwarded-*` headers of trusted proxies, and the root path.

    The application always receives the root path, whether the proxy strips it from the path or not.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str], root_path: str) -> None:
        self._proxies = ProxyHeadersMiddleware(app, trusted_hosts=list(trusted))  # type: ignore[arg-type]  # uvicorn's types
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the root path, apply the proxy headers, then call the application."""
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
                if name == b"x-forwarded-prefix" and is_path_prefix(prefix := value.decode("latin-1").rstrip("/")):
                    return str(prefix)
        return self._root_path
