"""A server of the Model Context Protocol (MCP), by which assistants read telemetry. It needs the extra `mcp`."""
