"""The path and the query string of a request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace.serving.router import ModelRouter


def route_path(scope: Scope) -> str:
    """Return the path of a request without the root path that a proxy adds."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root else path


class RedactQueryMiddleware:
    """ASGI middleware: removes the query string of each request while a served model has private features.

    No route reads the query string. If a client sends values in it anyway, spans and access log lines would contain
    them. The server's own access log reads the same scope, so its lines are redacted too.
    """

    def __init__(self, app: ASGIApp, router: ModelRouter) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Remove the query string, then call the application."""
        if scope["type"] == "http" and self._router.private:
            scope["query_string"] = b""
        await self._app(scope, receive, send)
