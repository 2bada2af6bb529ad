"""The limits of an HTTP server, which are settings of service and hub."""

import resource

from pydantic import BaseModel, ByteSize, ConfigDict, Field

# File descriptors reserved for other uses than connections: databases, logs, listeners, child processes.
RESERVED_FILES = 128
# Connections that are accepted even if the limit of file descriptors is lower.
MIN_CONNECTIONS = 16


class HttpLimits(BaseModel):
    """The limits of the connections of an HTTP server. The settings of a server inherit them."""

    model_config = ConfigDict(frozen=True)

    max_header_bytes: ByteSize = Field(
        ByteSize(65_536),
        ge=1024,
        description="The most bytes of a request line with its headers; a longer one is answered with 414 or 431.",
    )
    header_timeout: float = Field(
        15.0, gt=0, description="Seconds until the headers of a request are complete; then the response is 408."
    )
    body_timeout: float = Field(
        30.0,
        gt=0,
        description="Seconds until the body of a request is complete, and until a client reads what was written.",
    )
    keep_alive_timeout: float = Field(75.0, gt=0, description="Seconds that a connection stays open without a request.")
    max_connections: int = Field(
        4096,
        ge=1,
        description="Open connections per worker and port, fewer if the limit of open files is low; others wait.",
    )


def connection_limit(configured: int, *, servers: int = 1) -> int:
    """Return the connection limit of one server, reduced to its share of the process's file descriptors."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return configured
    return min(configured, max(MIN_CONNECTIONS, (files - RESERVED_FILES) // servers))
