"""What the store's tests write: rows, and requests of which rows are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.store.rows import Row
from service.telemetry.record import Answered, ModelInfo

TIME: Final = 1_700_000_000_000_000_000
MODEL: Final = ModelInfo("breast-cancer", "1.0.0", "a" * 64, ("radius", "texture", "name"), "b" * 64)


@dataclass(frozen=True)
class Told:
    """A request that was answered."""

    answered: Sequence[Answered]
    trace_id: bytes = b"0123456789abcdef"
    span_id: bytes = b"01234567"
    trace_flags: int = 1
    model: ModelInfo | None = MODEL
    shadow_of: Sequence[str | None] | None = None


def answered(
    prediction_id: str,
    *,
    label: Any = "benign",
    value: float | None = None,
    confidence: float | None = 0.9,
    inputs: Sequence[Any] = (1.5, 2, "x"),
    time: int = TIME,
) -> Answered:
    """One answered row."""
    return Answered(0, prediction_id, label, confidence, value, tuple(inputs), time)


def told(*ids: str) -> Told:
    """A request with so many answered rows."""
    return Told([answered(one) for one in ids])


def row(
    prediction_id: str, *, time: int = TIME, trace_id: str | None = None, inputs: str | None = '{"radius":1.5}'
) -> Row:
    """One row."""
    return Row(
        prediction_id, time, trace_id, None, 0, *(True, MODEL.name, MODEL.version, MODEL.hash), "0.1.0", inputs,
        '"benign"', None, 0.9,
    )  # fmt: skip


def rows(number: int, prefix: str = "p") -> list[Row]:
    """So many, a nanosecond apart, their IDs in the same order."""
    return [row(f"{prefix}{one:05}", time=TIME + one) for one in range(number)]
