"""The result of decoding one request: rows, and the problems that were found in it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

SignalName = Literal["traces", "metrics", "logs"]
Row = tuple[Any, ...]

# Reasons for which a record is rejected, each with the text that the sender gets. The keys are fit for counting.
REASONS: Final[Mapping[str, str]] = {
    "trace_id": "trace_id is not 16 bytes (in JSON 32 hex digits), or all zero",
    "span_id": "span_id is not 8 bytes (in JSON 16 hex digits), or all zero",
    "parent_span_id": "parent_span_id is neither empty nor 8 bytes (in JSON 16 hex digits)",
    "time": "a time is after the year 2262, so not unix nanoseconds",
    "buckets": "bucket_counts is not one longer than explicit_bounds",
    "value": "a value has another type than its field, or is out of its range",
    "shape": "in place of a record, or of a list of them, stands something else",
    "wire": "its bytes are not the protobuf message that they should be",
}

# Reasons for which a record is stored with a change.
WARNINGS: Final[Mapping[str, str]] = {
    "ids": "kept without trace or span ID: it was not 16 or 8 bytes (in JSON 32 or 16 hex digits), or all zero",
    "links": "links kept without trace or span ID: it was not 16 or 8 bytes (in JSON 32 or 16 hex digits)",
    "text": "texts are not valid Unicode: repaired with U+FFFD",
    "value": "values are left out: another type than the field has, out of its range, or nested too deeply",
}

# Times are stored as signed 64-bit integers.
MAX_NS: Final = 2**63 - 1

# How many fields a message to the sender names for each reason.
MAX_FIELDS: Final = 5


class RejectedError(Exception):
    """One record cannot be stored. It is caught where the records of a request are counted.

    Args:
        reason: a key of `REASONS`.
        field: the field at fault, as `Message.field`, where the reason does not name it.
    """

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(REASONS[reason])
        self.reason = reason
        self.field = field


@dataclass(slots=True)
class Problems:
    """Counts what is wrong with one request: rejected records by reason, and warnings by reason."""

    rejected: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    _fields: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def reject(self, error: RejectedError) -> None:
        """Count a record that is not stored."""
        self.rejected[error.reason] += 1
        self._name("rejected", error.reason, error.field)

    def warn(self, reason: str, field: str = "", count: int = 1) -> None:
        """Count records or values that are stored with a change; `reason` is a key of `WARNINGS`."""
        if count:
            self.warned[reason] += count
            self._name("warned", reason, field)

    @property
    def message(self) -> str:
        """The text for the sender; empty when there is no problem."""
        parts = [
            f"{count} rejected: {REASONS[reason]}{self._named('rejected', reason)}"
            for reason, count in sorted(self.rejected.items())
        ]
        parts += [
            f"{count} {WARNINGS[reason]}{self._named('warned', reason)}"
            for reason, count in sorted(self.warned.items())
        ]
        return "; ".join(parts)

    def _name(self, kind: str, reason: str, field: str) -> None:
        if field:
            self._fields.setdefault((kind, reason), {})[field] = None

    def _named(self, kind: str, reason: str) -> str:
        fields = list(self._fields.get((kind, reason), ()))
        more = ["…"] if len(fields) > MAX_FIELDS else []
        return f" ({', '.join(fields[:MAX_FIELDS] + more)})" if fields else ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one request, in the column order of hub/modeltrace_hub/sql/schema.

    Attributes:
        signal: the name of the signal.
        tables: rows by table.
        accepted: the number of spans, data points or log records among the rows (exemplars come on top).
        size: the request's length in bytes, uncompressed.
        expanded: bytes that the rows take in the database, before it compresses them.
        problems: what is not stored, or not as it was sent.
    """

    signal: SignalName
    tables: Mapping[str, list[Row]]
    accepted: int
    size: int = 0
    expanded: int = 0
    problems: Problems = field(default_factory=Problems)

    @property
    def rows(self) -> int:
        """The number of all rows, with those of exemplars."""
        return sum(len(rows) for rows in self.tables.values())

    @property
    def rejected(self) -> Counter[str]:
        """Rejected records by reason."""
        return self.problems.rejected

    @property
    def message(self) -> str:
        """The text for the sender about records that are not stored as they were sent; empty when all are."""
        return self.problems.message
