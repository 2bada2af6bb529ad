"""uvicorn's configuration and event loops with limits."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn

from modeltrace_http.limits import HttpLimits, connection_limit
from modeltrace_http.listener import BACKLOG, Listener
from modeltrace_http.protocol import LimitedHttpProtocol
from modeltrace_http.tls import Reloader, TlsFiles, create_context


class LimitedConfig(uvicorn.Config):
    """uvicorn's configuration with limits. It can be pickled for worker processes.

    The limits of connections apply in event loops of `get_loop_factory`, or after `limit_connections`.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        limits: HttpLimits,
        *,
        tls: TlsFiles | None = None,
        **options: Any,  # noqa: ANN401  uvicorn's
    ) -> None:
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
        self.tls = tls  # used instead of uvicorn's options, whose certificate never changes

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Return a factory of event loops whose servers limit their connections."""
        create_loop = super().get_loop_factory() or asyncio.new_event_loop

        def create_limited_loop() -> asyncio.AbstractEventLoop:
            loop = create_loop()
            limit_connections(loop, self.limits, tls=self.tls)
            return loop

        return create_limited_loop


def limit_connections(
    loop: asyncio.AbstractEventLoop, limits: HttpLimits, *, servers: int = 1, tls: TlsFiles | None = None
) -> None:
    """Replace `create_server` of an event loop, so that it returns a `Listener`. uvicorn calls it for each socket.

    uvicorn's supervisor creates `uvicorn.Server` in the worker processes itself, so that class cannot be replaced.

    Args:
        loop: the event loop.
        limits: the limits of each server.
        servers: number of servers that share the file descriptors of the process.
        tls: certificate and key; `None`: no TLS.

    Raises:
        TlsError: a file of `tls` cannot be used.
    """
    context = Reloader(tls, create_context) if tls else None

    async def create_server(create_protocol: Callable[..., Any], *, sock: socket.socket, **_: object) -> Listener:
        limit = connection_limit(limits.max_connections, servers=servers)
        listener = Listener(create_protocol, sock, max_connections=limit, tls=context)
        listener.start()
        return listener

    loop.create_server = create_server  # type: ignore[assignment, method-assign]  # uvicorn calls it only with a socket
