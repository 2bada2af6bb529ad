"""What answers of both applications have in common: HEAD where GET is, and redirects that name no host."""

from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Routes = TypeVar("Routes", FastAPI, APIRouter)


def add_head_routes(routes: Routes) -> Routes:
    """Answer HEAD like GET; the server leaves the body out. FastAPI's routes, unlike Starlette's, take GET alone."""
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
    """ASGI middleware: redirects to another path of the application are relative.

    Starlette makes them absolute, of the Host that the client has sent and the scheme that the server knows.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""

        async def relative(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                message["headers"] = [
                    (name, _relative(value, scope["path"]) if name == b"location" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        await self._app(scope, receive, relative if scope["type"] == "http" else send)


def _relative(location: bytes, path: str) -> bytes:
    """Make a location relative to the path that was asked for; only slashes at the end may differ."""
    url = urlsplit(location.decode("latin-1"))
    if not url.netloc:
        return location
    name = url.path.rstrip("/").rpartition("/")[2]
    slashes = len(path) - len(path.rstrip("/"))
    relative = f"./{name}/" if url.path.endswith("/") else f"{'../' * slashes}{name}"
    return (relative + (f"?{url.query}" if url.query else "")).encode("latin-1")
