"""Responses of service and hub: HEAD for every GET route, and relative redirects."""

from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Routes = TypeVar("Routes", FastAPI, APIRouter)


def add_head_routes(routes: Routes) -> Routes:
    """Add a HEAD route for each GET route, as Starlette does and FastAPI does not. The server omits the body."""
    for route in [*routes.routes]:
        if isinstance(route, APIRoute) and route.methods == {"GET"}:
            routes.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                name=route.name,
                response_class=route.response_class,
                include_in_schema=False,
            )
    return routes


class RelativeRedirectMiddleware:
    """ASGI middleware: makes redirects relative.

    Starlette builds absolute URLs from the Host header and the scheme of the connection to the server. Behind a proxy,
    the client may use another host and scheme.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application and change the `Location` header of redirects."""

        async def send_relative(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                message["headers"] = [
                    (name, _relative(value, scope["path"]) if name == b"location" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        await self._app(scope, receive, send_relative if scope["type"] == "http" else send)


def _relative(location: bytes, path: str) -> bytes:
    """Return the location relative to the requested path. The two differ only in trailing slashes."""
    url = urlsplit(location.decode("latin-1"))
    if not url.netloc:
        return location
    name = url.path.rstrip("/").rpartition("/")[2]
    slashes = len(path) - len(path.rstrip("/"))
    relative = f"./{name}/" if url.path.endswith("/") else f"{'../' * slashes}{name}"
    return (relative + (f"?{url.query}" if url.query else "")).encode("latin-1")
