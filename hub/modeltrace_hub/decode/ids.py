"""Convert trace and span IDs: bytes in OTLP, lower-case hex in the store."""


def trace_id_hex(raw: bytes) -> str | None:
    """Return the ID in hex; None if it is invalid: not 16 bytes, or all zero."""
    return raw.hex() if len(raw) == 16 and any(raw) else None


def span_id_hex(raw: bytes) -> str | None:
    """Return the ID in hex; None if it is invalid: not 8 bytes, or all zero."""
    return raw.hex() if len(raw) == 8 and any(raw) else None


def has_invalid_id(trace: bytes, span: bytes) -> bool:
    """Whether an optional ID was sent and is invalid."""
    return bool((trace and trace_id_hex(trace) is None) or (span and span_id_hex(span) is None))
