"""uvicorn's configuration and server with limits."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn

from modeltrace_http.limits import HttpLimits, connection_limit
from modeltrace_http.listener import Listener
from modeltrace_http.protocol import LimitedHttpProtocol

BACKLOG = 2048


class LimitedConfig(uvicorn.Config):
    """uvicorn's configuration with limits. It can be pickled for worker processes."""

    def __init__(self, app: Callable[..., Any], limits: HttpLimits, *, servers: int = 1, **options: Any) -> None:  # noqa: ANN401  uvicorn's
        """`servers` of this process share its file descriptors; `options` are those of uvicorn."""
        super().__init__(
            app,
            http=partial(LimitedHttpProtocol, limits=limits),  # type: ignore[arg-type]  # called as a class
            ws="none",
            log_config=None,
            server_header=False,
            backlog=BACKLOG,
            **options,
        )
        self.limits = limits
        self.servers = servers

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Return a factory of event loops whose servers limit their connections."""
        return partial(_limited_loop, super().get_loop_factory() or asyncio.new_event_loop, self)

    def listener(self, create_protocol: Callable[..., Any], sock: socket.socket) -> Listener:
        """Start a listener on a socket."""
        limit = connection_limit(self.limits.max_connections, servers=self.servers)
        listener = Listener(create_protocol, sock, max_connections=limit, backlog=BACKLOG)
        listener.start()
        return listener


class LimitedServer(uvicorn.Server):
    """A server that runs in an existing event loop."""

    config: LimitedConfig

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then the listeners."""
        await super().startup(sockets=[])
        create_protocol = partial(
            LimitedHttpProtocol,
            limits=self.config.limits,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        listeners: list[Any] = [self.config.listener(create_protocol, sock) for sock in sockets or ()]
        self.servers = listeners


def _limited_loop(
    create_loop: Callable[[], asyncio.AbstractEventLoop], config: LimitedConfig
) -> asyncio.AbstractEventLoop:
    """Create an event loop whose `create_server` returns a `Listener`.

    uvicorn's supervisor creates `uvicorn.Server` in the worker processes itself, so that class cannot be replaced.
    """
    loop = create_loop()

    async def create_server(create_protocol: Callable[..., Any], *, sock: socket.socket, **_: object) -> Listener:
        return config.listener(create_protocol, sock)

    loop.create_server = create_server  # type: ignore[assignment, method-assign]  # uvicorn calls it only with a socket
    return loop
