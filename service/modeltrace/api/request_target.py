"""The path and the query string of a request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace.api.details import redact_query
from modeltrace.serving.router import ModelRouter


def route_path(scope: Scope) -> str:
    """Return the path of a request without the root path that a proxy adds."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root else path


class RedactQueryMiddleware:
    """ASGI middleware: redacts the query string of each request while a served model has private features.

    The query parameters of the routes are `probabilities` and `interval`. If a client sends other values in the query
    string, spans and access log lines would contain them. The server's own access log reads the same scope, so its
    lines are redacted too.
    """

    def __init__(self, app: ASGIApp, router: ModelRouter) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redact the query string, then call the application."""
        if scope["type"] == "http" and self._router.private:
            scope["query_string"] = redact_query(scope["query_string"])
        await self._app(scope, receive, send)
