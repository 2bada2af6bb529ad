"""What telemetry and the prediction store may say of inputs: the schema's rules, applied in one place.

    raw row ─► counted into bins ─► Privacy ─► spans, log records, lines, audit records, rows of the store

The model gets every value as it was sent. What is counted is counted before; what is told is told after.

| rule | told instead of a value |
|---|---|
| `plain` | the value |
| `hash` | 16 hexadecimal digits of an HMAC-SHA-256 (RFC 2104) of feature and value: equal ones stay equal |
| `bucket` | the name of the bin that it falls into |
| `drop` | nothing: beside a prediction the feature is not even mentioned |

A missing value is told as missing by all but `drop`.
"""

import hmac
from bisect import bisect_left
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final

from modeltrace.errors import InferenceError, ModeltraceError
from modeltrace.inference.levels import level_name
from modeltrace.inference.schema import OTHER, Feature, Schema, Value
from modeltrace.telemetry.records.prediction import PredictedRow, RequestRecord

HASH_DIGITS: Final = 16
REDACTED_MESSAGE: Final = "withheld, for the bundle has private features"

Tell = Callable[[Value], Value]


class Redactor:
    """The rules of one schema, with a key that only the service has."""

    def __init__(self, schema: Schema, key: bytes) -> None:
        self._private = schema.has_private_features
        self._told = [
            (place, _teller(feature, key)) for place, feature in enumerate(schema.features) if feature.privacy != "drop"
        ]

    def redact_inputs(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """What may be told of a row of `RowValidator`'s, in the order of `Schema.told`."""
        if not self._private:
            return values
        return tuple(values[place] if tell is None else tell(values[place]) for place, tell in self._told)

    def redact_rows(self, answered: Sequence[PredictedRow]) -> Sequence[PredictedRow]:
        """The same of answered rows."""
        return [row._replace(inputs=self.redact_inputs(row.inputs)) for row in answered] if self._private else answered

    def redact_request(self, record: RequestRecord) -> RequestRecord:
        """The same of a request."""
        return record._replace(predictions=tuple(self.redact_rows(record.predictions))) if self._private else record

    def redact_exception(self, error: Exception) -> Exception:
        """The same of an exception: see `withhold`."""
        return redact_exception(error) if self._private else error


def _teller(feature: Feature, key: bytes) -> Tell | None:
    """What is told of a value; `None` for the value itself."""
    if feature.privacy == "hash":
        return _hashing(feature.name, key)
    if feature.privacy == "bucket":
        return _placing(feature)
    return None


def _hashing(name: str, key: bytes) -> Tell:
    # With the name in it, equal values of two features do not look equal. Its length keeps the two apart.
    keyed = hmac.new(key, f"{len(name)}:{name}:".encode(errors="surrogatepass"), "sha256")

    def tell(value: Value) -> Value:
        if value is None:
            return None
        one = keyed.copy()
        one.update(_canonical(value))
        return one.hexdigest()[:HASH_DIGITS]

    return tell


def _canonical(value: float | bool | str) -> bytes:  # noqa: FBT001  a value among others
    """What is hashed: the same for numbers that are equal, however they were written."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return (str(int(value)) if float(value).is_integer() else repr(value)).encode()


def _placing(feature: Feature) -> Tell:
    """As `modeltrace.monitoring.bins` places values; a test compares the two."""
    names, edges = frozenset(feature.reference.shares), feature.reference.edges
    kind = feature.level_kind or "boolean"

    def tell(value: Value) -> Value:
        if value is None:
            return None
        if edges is not None:
            return OTHER if isinstance(value, str) else f"{bisect_left(edges, float(value)):02d}"
        name = level_name(value, kind)
        return name if name in names else OTHER

    return tell


def redact_exception(error: Exception) -> Exception:
    """An exception of the same name and stack, without its words: those of an estimator repeat values.

    Our own words stay, which never do. What it was caused by is treated likewise.
    """
    if isinstance(error, _RedactedError):
        return error
    if isinstance(error, ModeltraceError) and not isinstance(error, InferenceError) and _ours(error):
        return error
    told = last = _placeholder(error)
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        last.__cause__ = following = _placeholder(cause)
        last, cause = following, cause.__cause__ or cause.__context__
    return told


class _RedactedError(Exception):
    """Stands for one whose message must not be told; its class has the name of the other's."""


def _placeholder(error: BaseException) -> Exception:
    stack = error.__traceback__
    if isinstance(error, InferenceError):
        return InferenceError(
            str(error) if _ours(error) else f"the model failed; what it said is {REDACTED_MESSAGE}"
        ).with_traceback(stack)
    kind = type(error)
    named = type(kind.__name__, (_RedactedError,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
    made: Exception = named(REDACTED_MESSAGE)
    return made.with_traceback(stack)


def _ours(error: BaseException) -> bool:
    """Whether it was raised by code of ours: an estimator may raise one of our kinds, too."""
    stack: TracebackType | None = error.__traceback__
    while stack is not None and stack.tb_next is not None:
        stack = stack.tb_next
    return stack is None or str(stack.tb_frame.f_globals.get("__name__", "")).startswith("modeltrace.")
