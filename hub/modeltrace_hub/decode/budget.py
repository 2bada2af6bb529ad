"""Limit the size to which one request may expand.

A small body can expand to much data: an empty message takes two bytes, and the API returns a resource with each
of its records. The decoders count while they read. They stop at the first exceeded limit, which bounds the
cost of a request.
"""

from typing import Final

from modeltrace_hub.errors import TooLargeError

# The minimum average size of a message. Real messages are larger: an attribute with a name of five letters and a small
# number takes 16 bytes.
BYTES_PER_MESSAGE: Final = 16
# Maximum size of the rows, as a multiple of the maximum size of a request. It suffices for a resource of 16 KiB with
# 8,192 records, the default batch of a Collector.
MAX_EXPANSION: Final = 8


class Budget:
    """Count the records, messages and bytes of one request. `bytes_used` are the bytes of the rows so far.

    Args:
        max_records: spans, log records, or data points and exemplars.
        max_messages: protobuf messages of any type: resources, scopes, records, attributes, events, links, list items.
        max_bytes: bytes of all rows, with resource and scope in each row.
    """

    __slots__ = ("_max_bytes", "_max_messages", "_max_records", "_messages", "_records", "bytes_used")

    def __init__(self, max_records: int, max_messages: int, max_bytes: int) -> None:
        self._max_records, self._max_messages, self._max_bytes = max_records, max_messages, max_bytes
        self._records = self._messages = self.bytes_used = 0

    @classmethod
    def from_limits(cls, max_request_bytes: int, max_records: int) -> "Budget":
        """Return the budget that follows from the settings."""
        return cls(max_records, max_request_bytes // BYTES_PER_MESSAGE, max_request_bytes * MAX_EXPANSION)

    def count_records(self, count: int) -> None:
        """Count records; raise `TooLargeError` if the request has too many."""
        self._records += count
        if self._records > self._max_records:
            raise _too_large("records", self._max_records)

    def count_messages(self, count: int) -> None:
        """Count messages; raise `TooLargeError` if the request has too many."""
        self._messages += count
        if self._messages > self._max_messages:
            raise _too_large("messages (resources, scopes, records, attributes, events, …)", self._max_messages)

    def count_bytes(self, count: int) -> None:
        """Count bytes of rows; raise `TooLargeError` if the request has too many."""
        self.bytes_used += count
        if self.bytes_used > self._max_bytes:
            raise _too_large("bytes, with resource and scope in each record", self._max_bytes)


def _too_large(unit: str, limit: int) -> TooLargeError:
    return TooLargeError(f"The request has more than the maximum of {limit} {unit}. Send smaller batches.")
