"""Limits of what one request may expand to.

A small body can stand for a lot: an empty message takes two bytes, and a resource is stored with every record of it.
The decoders count while they read, and stop at the first limit, so a request costs no more than the limits allow.
"""

import sys
from typing import Final

from modeltrace_hub.errors import TooLargeError

# No sender needs as many messages: an attribute with a name of five letters and a small number takes 16 bytes.
BYTES_PER_MESSAGE: Final = 16
# A resource of 16 KiB with 8,192 records, the batch of a Collector.
EXPANSION: Final = 8


class Budget:
    """Counts the records, messages and bytes of one request.

    Args:
        max_records: spans, log records, or data points and exemplars.
        max_messages: messages of any kind: resources, scopes, records, attributes, events, links, items of lists.
        max_bytes: bytes of all rows, resource and scope counted with every row.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_max_records", "_messages", "_records")

    def __init__(self, max_records: int, max_messages: int, max_bytes: int) -> None:
        self._max_records, self._max_messages, self._max_bytes = max_records, max_messages, max_bytes
        self._records = self._messages = self._bytes = 0

    @classmethod
    def of(cls, max_request_bytes: int, max_records: int) -> "Budget":
        """Return the limits that follow from the two settings."""
        return cls(max_records, max_request_bytes // BYTES_PER_MESSAGE, max_request_bytes * EXPANSION)

    @classmethod
    def unlimited(cls) -> "Budget":
        """Return limits that no request reaches."""
        return cls(sys.maxsize, sys.maxsize, sys.maxsize)

    @property
    def bytes_used(self) -> int:
        """The bytes of the rows so far."""
        return self._bytes

    def records(self, count: int) -> None:
        """Count records.

        Raises:
            TooLargeError: there are more than one request may have.
        """
        self._records += count
        if self._records > self._max_records:
            raise _too_large("records", self._max_records)

    def messages(self, count: int) -> None:
        """Count messages.

        Raises:
            TooLargeError: there are more than one request may have.
        """
        self._messages += count
        if self._messages > self._max_messages:
            raise _too_large("messages (resources, scopes, records, attributes, events, …)", self._max_messages)

    def bytes(self, count: int) -> None:
        """Count bytes of rows.

        Raises:
            TooLargeError: there are more than one request may have.
        """
        self._bytes += count
        if self._bytes > self._max_bytes:
            raise _too_large("bytes, resource and scope counted with every record,", self._max_bytes)


def _too_large(what: str, limit: int) -> TooLargeError:
    return TooLargeError(f"The request has more than the {limit} {what} that one may have. Send smaller batches.")
