"""Know which traces are not stored yet without a query.

Most records that arrive belong to new traces. To look up a trace ID, DuckDB reads the IDs of all traces, which takes
longer than the rest of a small commit.
"""

from typing import Final

import duckdb

# The last digits of a trace ID are the random ones (W3C Trace Context, level 2).
DIGITS: Final = 6
# When so many IDs have been added, the filter is built again, because the IDs of deleted traces stay in it.
MAX_ADDED: Final = 1_000_000


class TraceIdFilter:
    """A bit for each value of the last digits of a trace ID, 2 MiB. Not thread-safe."""

    def __init__(self) -> None:
        self._bits: bytearray | None = None
        self._added = 0

    def load(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Read the IDs of all stored traces, unless that was done before."""
        if self._bits is not None and self._added < MAX_ADDED:
            return
        self._bits, self._added = bytearray(16**DIGITS // 8), 0
        result = connection.execute("SELECT DISTINCT right(trace_id, ?) FROM traces", [DIGITS])
        while rows := result.fetchmany(10_000):
            for (digits,) in rows:
                self._set(int(digits, 16))

    def add(self, trace_id: str) -> None:
        """Add the ID of a trace that is about to be stored. If the transaction fails, the ID may stay."""
        self._added += 1
        self._set(int(trace_id[-DIGITS:], 16))

    def may_contain(self, trace_id: str) -> bool:
        """Whether a trace may be stored. Without `load`, any trace may be."""
        if self._bits is None:
            return True
        value = int(trace_id[-DIGITS:], 16)
        return bool(self._bits[value >> 3] & 1 << (value & 7))

    def _set(self, value: int) -> None:
        if self._bits is not None:
            self._bits[value >> 3] |= 1 << (value & 7)
