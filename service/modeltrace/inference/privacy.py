"""Redaction of feature values: applies the schema's privacy rules before values reach telemetry or the store.

    raw row ─► counted into bins ─► Redactor ─► spans, log records, prediction log records, rows of the store

The model always receives the raw values, and metrics count the raw values. All other telemetry and the store contain
the redacted values.

| rule | recorded instead of the value |
|---|---|
| `plain` | the value itself |
| `hash` | 16 hexadecimal digits of an HMAC-SHA-256 (RFC 2104) of feature and value; equal values have equal hashes |
| `bucket` | the name of the bin that contains the value |
| `drop` | nothing; the feature is left out of the record |

A missing value is recorded as missing, except with `drop`.
"""

import hmac
from bisect import bisect_left
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, TypeAlias

from modeltrace.bin_names import OTHER, numeric_bin_name
from modeltrace.errors import InferenceError, ModeltraceError
from modeltrace.inference.category_levels import level_name
from modeltrace.inference.schema import Feature, Schema, Value
from modeltrace.inference.time_values import seconds_fn
from modeltrace.telemetry.records.prediction import PredictedRow, RequestRecord

HASH_DIGITS: Final = 16
REDACTED_MESSAGE: Final = "withheld because the bundle has private features"

RedactFn: TypeAlias = Callable[[Value], Value]


class Redactor:
    """Applies the privacy rules of a schema with private features, with a key that only the service has."""

    def __init__(self, schema: Schema, key: bytes) -> None:
        self._recorded = [
            (index, _redact_fn(feature, key))
            for index, feature in enumerate(schema.features)
            if feature.privacy != "drop"
        ]

    def redact_inputs(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """Redact the values of a validated row. The result is in the order of `Schema.recorded_names`."""
        return tuple(values[index] if redact is None else redact(values[index]) for index, redact in self._recorded)

    def redact_rows(self, rows: Sequence[PredictedRow]) -> Sequence[PredictedRow]:
        """Redact the inputs of predictions."""
        return [row._replace(inputs=self.redact_inputs(row.inputs)) for row in rows]

    def redact_request(self, record: RequestRecord) -> RequestRecord:
        """Redact the inputs of a request's predictions."""
        return record._replace(predictions=tuple(self.redact_rows(record.predictions)))

    def redact_exception(self, error: Exception) -> Exception:
        """Redact an exception."""
        return redact_exception(error)


def _redact_fn(feature: Feature, key: bytes) -> RedactFn | None:
    """Return the function that redacts a feature's values; `None` for a feature that is recorded as it is."""
    if feature.privacy not in ("hash", "bucket"):
        return None
    redact = _hash_fn(feature.name, key) if feature.privacy == "hash" else _bucket_fn(feature)
    if not feature.is_time:
        return redact
    to_seconds = seconds_fn(feature.time_column)  # equal times have equal hashes
    return lambda value: redact(to_seconds(value))


def _hash_fn(name: str, key: bytes) -> RedactFn:
    # The name is part of the input, so that equal values of two features have different hashes. Its length separates
    # name and value unambiguously.
    keyed = hmac.new(key, f"{len(name)}:{name}:".encode(errors="surrogatepass"), "sha256")

    def redact(value: Value) -> Value:
        if value is None:
            return None
        mac = keyed.copy()
        mac.update(_canonical_bytes(value))
        return mac.hexdigest()[:HASH_DIGITS]

    return redact


def _canonical_bytes(value: float | bool | str) -> bytes:  # noqa: FBT001  a value, not a flag
    """Return the bytes to hash: the same for equal numbers, whether they were sent as an integer or a float."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return (str(int(value)) if float(value).is_integer() else repr(value)).encode()


def _bucket_fn(feature: Feature) -> RedactFn:
    """Return a function that finds the bin of a value as `modeltrace.monitoring.binning` does; a test compares both."""
    names, edges = frozenset(feature.reference.shares), feature.reference.edges
    kind = feature.level_kind or "boolean"

    def redact(value: Value) -> Value:
        if value is None:
            return None
        if edges is not None:
            return OTHER if isinstance(value, str) else numeric_bin_name(bisect_left(edges, float(value)))
        name = level_name(value, kind)
        return name if name in names else OTHER

    return redact


def redact_exception(error: Exception) -> Exception:
    """Return an exception with the same type name and stack trace, but without the message.

    Messages of an estimator may contain input values; the project's own messages never do and are kept. The chain of
    causes is redacted in the same way.
    """
    if isinstance(error, _RedactedError):
        return error
    if isinstance(error, ModeltraceError) and not isinstance(error, InferenceError) and _raised_by_modeltrace(error):
        return error
    redacted = last = _placeholder(error)
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        last.__cause__ = following = _placeholder(cause)
        last, cause = following, cause.__cause__ or cause.__context__
    return redacted


class _RedactedError(Exception):
    """Base class of placeholders of redacted exceptions. Each placeholder class has the original class's name."""


def _placeholder(error: BaseException) -> Exception:
    stack = error.__traceback__
    if isinstance(error, InferenceError):
        message = str(error) if _raised_by_modeltrace(error) else f"the model failed; its message is {REDACTED_MESSAGE}"
        return InferenceError(message).with_traceback(stack)
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    placeholder: Exception = type(kind.__name__, (_RedactedError,), names)(REDACTED_MESSAGE)
    return placeholder.with_traceback(stack)


def _raised_by_modeltrace(error: BaseException) -> bool:
    """Return whether the project's code raised the exception; an estimator may raise the same types."""
    stack: TracebackType | None = error.__traceback__
    while stack is not None and stack.tb_next is not None:
        stack = stack.tb_next
    return stack is None or str(stack.tb_frame.f_globals.get("__name__", "")).startswith("modeltrace.")
