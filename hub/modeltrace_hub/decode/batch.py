"""The result of decoding one request: rows, and the records that were rejected or changed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

SignalName = Literal["traces", "metrics", "logs"]
Row = tuple[Any, ...]
# The rows of each table, in the column order of hub/modeltrace_hub/sql/schema.
Tables = dict[str, list[Row]]

# Tables with one row per distinct resource or scope, and the column of its ID, which is their first column.
SHARED_TABLES: Final[Mapping[str, str]] = {"resources": "resource_id", "scopes": "scope_id"}

# Reasons why a record is rejected, and the text for the sender. `Problems` counts records by the keys.
REJECTION_REASONS: Final[Mapping[str, str]] = {
    "trace_id": "trace_id is not 16 bytes (in JSON 32 hex digits), or all zero",
    "span_id": "span_id is not 8 bytes (in JSON 16 hex digits), or all zero",
    "parent_span_id": "parent_span_id is neither empty nor 8 bytes (in JSON 16 hex digits)",
    "time": "a time is after the year 2262, so it is not in unix nanoseconds",
    "buckets": "bucket_counts does not have one item more than explicit_bounds",
    "value": "a value has the wrong type, or is out of range",
    "shape": "a record, or a list of records, has the wrong type",
    "unknown": "it has no records that this version of OTLP defines, but unknown fields, which are not stored",
    "wire": "the bytes are not a valid protobuf message",
}

# Reasons why a record is stored with a change, and the text for the sender.
WARNING_REASONS: Final[Mapping[str, str]] = {
    "ids": "stored without trace or span ID: it was not 16 or 8 bytes (in JSON 32 or 16 hex digits), or all zero",
    "links": "links stored without trace or span ID: it was not 16 or 8 bytes (in JSON 32 or 16 hex digits)",
    "text": "texts are not valid Unicode: repaired with U+FFFD",
    "value": "values are omitted: wrong type, out of range, or nested too deeply",
}

# Maximum number of fields per reason that a message to the sender names.
MAX_FIELDS: Final = 5


class RecordRejectedError(Exception):
    """One record cannot be stored. The decoder catches this error and counts the record.

    Args:
        reason: a key of `REJECTION_REASONS`.
        field: the invalid field, as `Message.field`; empty if the text of the reason names the field.
    """

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(REJECTION_REASONS[reason])
        self.reason = reason
        self.field = field


@dataclass(slots=True)
class Problems:
    """Count the rejected records and the warnings of one request, by reason."""

    rejected: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    _fields: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def reject(self, error: RecordRejectedError) -> None:
        """Count a rejected record."""
        self.rejected[error.reason] += 1
        self._add_field("rejected", error.reason, error.field)

    def warn(self, reason: str, field: str = "", count: int = 1) -> None:
        """Count records or values that are stored with a change; `reason` is a key of `WARNING_REASONS`."""
        if count:
            self.warnings[reason] += count
            self._add_field("warned", reason, field)

    @property
    def message(self) -> str:
        """The text for the sender; empty if there is no problem."""
        parts = [
            f"{count} rejected: {REJECTION_REASONS[reason]}{self._format_fields('rejected', reason)}"
            for reason, count in sorted(self.rejected.items())
        ]
        parts += [
            f"{count} {WARNING_REASONS[reason]}{self._format_fields('warned', reason)}"
            for reason, count in sorted(self.warnings.items())
        ]
        return "; ".join(parts)

    def _add_field(self, kind: str, reason: str, field: str) -> None:
        if field:
            self._fields.setdefault((kind, reason), {})[field] = None

    def _format_fields(self, kind: str, reason: str) -> str:
        fields = list(self._fields.get((kind, reason), ()))
        more = ["…"] if len(fields) > MAX_FIELDS else []
        return f" ({', '.join(fields[:MAX_FIELDS] + more)})" if fields else ""


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one request."""

    signal: SignalName
    tables: Tables
    request_bytes: int = 0  # length of the decompressed request in bytes
    row_bytes: int = 0  # bytes of the rows before the database compresses them
    problems: Problems = field(default_factory=Problems)  # rejected and changed records

    @property
    def row_count(self) -> int:
        """The number of rows of records and exemplars, without resources and scopes."""
        return sum(len(rows) for table, rows in self.tables.items() if table not in SHARED_TABLES)

    @property
    def accepted(self) -> int:
        """The number of spans, data points or log records, without exemplars."""
        return self.row_count - len(self.tables.get("exemplars", ()))
