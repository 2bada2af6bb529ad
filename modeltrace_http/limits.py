"""The limits of one HTTP server."""

import resource
from dataclasses import dataclass

# File descriptors that connections leave to everything else: databases, logs, listeners, child processes.
RESERVED_FILES = 128
# Connections that are accepted even where the limit of file descriptors leaves no room for them.
MIN_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may send, how long it may wait, and how many connections there may be.

    Attributes:
        header_bytes: size of the request line and the headers, above which the answer is 414 or 431.
        header_timeout: seconds until the head of a request is complete; afterwards the answer is 408.
        body_timeout: seconds until the body of a request is complete, and until a client reads what is written.
        keep_alive_timeout: seconds that a connection stays open without a request.
        max_connections: open connections, above which others wait in the kernel's queue.
    """

    header_bytes: int = 65_536
    header_timeout: float = 15.0
    body_timeout: float = 30.0
    keep_alive_timeout: float = 75.0
    max_connections: int = 4096


def connection_limit(configured: int, *, servers: int = 1) -> int:
    """Reduce a connection limit to what the process's limit of file descriptors leaves to each of its servers."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return configured
    return min(configured, max(MIN_CONNECTIONS, (files - RESERVED_FILES) // servers))
