"""What a decoder makes of one request: rows, and an account of what is not among them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

SignalName = Literal["traces", "metrics", "logs"]
Row = tuple[Any, ...]

# The reasons for which a record is left out, each with what the sender is told. The words are fit for counting.
REASONS: Final[Mapping[str, str]] = {
    "trace_id": "trace_id is not 16 bytes, or all zero",
    "span_id": "span_id is not 8 bytes, or all zero",
    "parent_span_id": "parent_span_id is neither empty nor 8 bytes",
    "time": "a time is after the year 2262, so not unix nanoseconds",
    "buckets": "bucket_counts is not one longer than explicit_bounds",
}

# Times are stored as signed 64-bit integers.
MAX_NS: Final = 2**63 - 1


class RejectedError(Exception):
    """One record cannot be kept; caught where the records of a request are counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one request, in the column order of hub/sql/schema.

    `accepted` and `rejected` count what the signal counts: spans, data points or log records (exemplars come on top).
    `detached` counts log records and exemplars that are kept without the trace or span ID they had, because it was not
    one. `size` is the request's length in bytes, unpacked.
    """

    signal: SignalName
    tables: Mapping[str, list[Row]]
    accepted: int
    size: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    detached: int = 0

    @property
    def rows(self) -> int:
        """All rows, exemplars too."""
        return sum(len(rows) for rows in self.tables.values())

    @property
    def message(self) -> str:
        """What the sender is told about records that were not kept as they were; empty when all were."""
        parts = [f"{count} rejected: {REASONS[reason]}" for reason, count in sorted(self.rejected.items())]
        if self.detached:
            parts.append(f"{self.detached} kept without trace or span ID: it was not 16 or 8 bytes, or all zero")
        return "; ".join(parts)
