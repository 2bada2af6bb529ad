"""Rate limit: requests per second of each API key, or of each client address without a key.

The workers of a service share one table, so the limit is that of the service. The algorithm is GCRA, the virtual
scheduling form of a leaky bucket (ITU-T I.371): for each client, the table has the time at which its requests so far
would have been sent at the exact rate. A request is rejected if that time is more than the burst ahead of now.
"""

import fcntl
import math
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from modeltrace.api_keys import ApiKey
from modeltrace.errors import RateLimitedError
from modeltrace.http_settings import HttpSettings

# Entries of the table: a hash of the client, and a time of the monotonic clock, which all processes share.
_ENTRY: Final = struct.Struct("<Qd")
# Entries that may contain a client. If all are in use, a new client replaces the one that used least of its burst.
_ENTRIES_PER_GROUP: Final = 8
_GROUPS: Final = 8192
_GROUP_BYTES: Final = _ENTRIES_PER_GROUP * _ENTRY.size
TABLE_BYTES: Final = _GROUPS * _GROUP_BYTES
# A lock is held for some microseconds. If it is not free after so many attempts, its owner is suspended.
_LOCK_ATTEMPTS: Final = 200
FILE_NAME: Final = "rate_limit"
_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"  # the first bytes of an IPv4 address in the form of IPv6 (RFC 4291)


class RateLimiter:
    """Limits the rate of each client. One instance per process, used by one thread."""

    def __init__(self, rate: float, burst: int, folder: Path | None = None) -> None:
        """Open the table.

        Args:
            rate: requests per second.
            burst: requests that a client may send at once.
            folder: the folder that the workers of the service share; `None`: there is one worker.

        Raises:
            OSError: the table cannot be created in the folder.
        """
        self._interval = 1 / rate
        self._tolerance = burst / rate
        self._lock = -1
        if folder is None:
            self._table = mmap.mmap(-1, TABLE_BYTES)
            return
        self._lock = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._lock, TABLE_BYTES)
        self._table = mmap.mmap(self._lock, TABLE_BYTES)

    def acquire(self, client: bytes) -> int:
        """Count a request of a client.

        Returns:
            0 if it is within the limit, otherwise the seconds after which the client may send the next one.
        """
        identity = int.from_bytes(blake2b(client, digest_size=8).digest()) or 1
        locked = self._lock >= 0 and self._try_lock()
        try:
            now = time.monotonic()
            offset, scheduled = self._find(identity, now)
            wait = max(scheduled, now) + self._interval - self._tolerance - now
            if wait > 1e-9:  # rounding errors
                return math.ceil(wait)
            _ENTRY.pack_into(self._table, offset, identity, max(scheduled, now) + self._interval)
            return 0
        finally:
            if locked:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _find(self, identity: int, now: float) -> tuple[int, float]:
        """Return the offset of a client's entry and its time, or an entry that it may replace and `now`."""
        start = identity % _GROUPS * _GROUP_BYTES
        free, earliest = start, math.inf
        for offset in range(start, start + _GROUP_BYTES, _ENTRY.size):
            owner, scheduled = _ENTRY.unpack_from(self._table, offset)
            if owner == identity:
                return offset, scheduled
            if scheduled < earliest:
                free, earliest = offset, scheduled
        return free, now

    def _try_lock(self) -> bool:
        """Lock the table. Without the lock, at worst a request is not counted."""
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return True
        return False


class RateLimit:
    """Limits the rate of requests, by API key or by client address."""

    def __init__(self, limiter: RateLimiter, on_rejected: Callable[[], object]) -> None:
        """Create the limit; `on_rejected` is called for each request beyond it."""
        self._limiter = limiter
        self._on_rejected = on_rejected

    def check(self, key: ApiKey | None, address: str) -> None:
        """Count a request. Without a valid key, it counts for the address of the client.

        Raises:
            RateLimitedError: it is beyond the limit.
        """
        client = _address_client(address) if key is None else b"key " + key.name.encode()
        if seconds := self._limiter.acquire(client):
            self._on_rejected()
            what = f"address {address}" if key is None else f"API key {key.name}" if key.name else "API key"
            raise RateLimitedError(
                f"too many requests with this {what}: send the next one in {seconds} s (MODELTRACE_RATE_LIMIT of the "
                "service)",
                retry_after=seconds,
            )


def build_rate_limit(
    settings: HttpSettings, folder: Path | None, on_rejected: Callable[[], object]
) -> RateLimit | None:
    """Return the rate limit of the settings; `None` if there is none.

    Args:
        settings: the rate and the burst.
        folder: the folder that the workers of the service share; `None`: there is one worker.
        on_rejected: called for each request beyond the limit.
    """
    if settings.rate_limit is None:
        return None
    burst = settings.rate_limit_burst or math.ceil(settings.rate_limit)
    return RateLimit(RateLimiter(settings.rate_limit, burst, folder), on_rejected)


def _address_client(address: str) -> bytes:
    """Return the client of an address. An IPv6 network (/64) is one client, because one host has all its addresses.

    An IPv4 address in the form of IPv6 (`::ffff:192.0.2.1`) is the client of the IPv4 address.
    """
    if ":" in address:
        with suppress(OSError):
            packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
            if packed.startswith(_IPV4_MAPPED):
                return b"address " + socket.inet_ntop(socket.AF_INET, packed[-4:]).encode()
            return b"address " + packed[:8]
    return b"address " + address.encode()
