"""The prediction calls of a model with private features: what fails, and what was asked for, is not told in words."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.predict import PredictionCalls
from service.inference.privacy import withhold
from service.telemetry.tracing import RequestTrace


class DiscreetCalls(PredictionCalls):
    """As all are, but an exception that comes out has no words of the model's own: nobody further out looks at them."""

    async def predict(self, body: bytes, trace: RequestTrace) -> bytes:
        """Answer one row."""
        try:
            return await super().predict(body, trace)
        except Exception as error:  # noqa: BLE001  raised again
            failed = withhold(error)
        raise failed  # here it has no context that would tell what it stands for

    async def predict_batch(self, body: bytes, trace: RequestTrace) -> bytes:
        """Answer many rows."""
        try:
            return await super().predict_batch(body, trace)
        except Exception as error:  # noqa: BLE001  raised again
            failed = withhold(error)
        raise failed  # see `predict`


class WithoutQuery:
    """An ASGI application before another one: it takes the query off the URL, which no call needs.

    Where somebody puts values there all the same, spans and access lines would have them: the server's, too, which are
    made of the same scope.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] == "http":
            scope["query_string"] = b""
        await self._app(scope, receive, send)
