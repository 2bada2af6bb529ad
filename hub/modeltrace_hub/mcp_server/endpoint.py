"""Serve MCP over streamable HTTP at `/mcp`. Key and origin are checked before, as for all paths."""

import asyncio
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrace_hub.api_client import InProcessApi


class McpEndpoint:
    """The ASGI application of the path. The SDK is imported by the first request, because few hubs need it."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. There are no sessions: each request is complete in itself."""
        if find_spec("mcp") is None:
            message = "MCP needs the package mcp: install modeltrace[mcp] and start the hub again."
            await JSONResponse({"error": {"type": "not_installed", "message": message}}, 501)(scope, receive, send)
            return
        tools: Any = await asyncio.to_thread(import_module, "modeltrace_hub.mcp_server.tools")
        manager_module: Any = await asyncio.to_thread(import_module, "mcp.server.streamable_http_manager")
        security_module: Any = await asyncio.to_thread(import_module, "mcp.server.transport_security")
        url = f"{scope['scheme']}://{Headers(scope=scope).get('host', '127.0.0.1')}{scope.get('root_path', '')}"
        server = tools.create_server(InProcessApi(self._app, url=url, key=self._key))
        manager = manager_module.StreamableHTTPSessionManager(
            server._lowlevel_server,  # noqa: SLF001  the SDK has no public name for it
            json_response=True,
            stateless=True,
            security_settings=security_module.TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)
