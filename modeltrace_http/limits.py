"""The limits of an HTTP server, and the settings that configure them."""

import resource
from dataclasses import dataclass

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings

# File descriptors reserved for other uses than connections: databases, logs, listeners, child processes.
RESERVED_FILES = 128
# Connections that are accepted even if the limit of file descriptors is lower.
MIN_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of connections, in bytes and seconds; `HttpLimitSettings` describes them."""

    header_bytes: int = 65_536
    header_timeout: float = 15.0
    body_timeout: float = 30.0
    keep_alive_timeout: float = 75.0
    max_connections: int = 4096


class HttpLimitSettings(BaseSettings):
    """Base class of settings with the limits of an HTTP server."""

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

    @property
    def http_limits(self) -> HttpLimits:
        """The limits of each HTTP port."""
        return HttpLimits(
            header_bytes=self.max_header_bytes,
            header_timeout=self.header_timeout,
            body_timeout=self.body_timeout,
            keep_alive_timeout=self.keep_alive_timeout,
            max_connections=self.max_connections,
        )


def connection_limit(configured: int, *, servers: int = 1) -> int:
    """Return the connection limit of one server, reduced to its share of the process's file descriptors."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return configured
    return min(configured, max(MIN_CONNECTIONS, (files - RESERVED_FILES) // servers))
