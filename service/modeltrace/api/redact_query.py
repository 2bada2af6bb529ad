"""What was asked for in the URL is not told where a model has private features."""

from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace.serving.router import ModelRouter


class RedactQueryMiddleware:
    """An ASGI application before another one: of private features it takes the query off the URL.

    No call needs one. Where somebody puts values there all the same, spans and access lines would have them: the
    server's, too, which are made of the same scope.
    """

    def __init__(self, app: ASGIApp, serving: ModelRouter) -> None:
        self._app = app
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] == "http" and self._serving.private:
            scope["query_string"] = b""
        await self._app(scope, receive, send)
