"""Trace and span IDs: bytes on the wire, lower-case hex in the store."""

from typing import Final

_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)


def trace_id(raw: bytes) -> str | None:
    """The ID in hex; None when it is not 16 bytes or all zero, which the protocol calls invalid."""
    return raw.hex() if len(raw) == 16 and raw != _NO_TRACE else None


def span_id(raw: bytes) -> str | None:
    """The ID in hex; None when it is not 8 bytes or all zero, which the protocol calls invalid."""
    return raw.hex() if len(raw) == 8 and raw != _NO_SPAN else None


def detached(trace: bytes, span: bytes) -> bool:
    """Whether an optional ID was sent and is not one."""
    return bool((trace and trace_id(trace) is None) or (span and span_id(span) is None))
