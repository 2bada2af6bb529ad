"""Whether two answers to one row are the same."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from modeltrace.inference.model import ModelOutput

# What rounding may do to confidences and values: in double precision, a batch of another size adds up in another
# order; in single precision, ONNX Runtime also does on another processor. Relative for what is larger than 1.
TOLERANCE: Final = {"float64": 1e-9, "float32": 1e-6}

Outcome = Literal["equal", "differs", "refused", "failed", "impossible"]


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """What became of one recorded prediction.

    `difference` is that of values, or of confidences in one label, now less recorded; `None` where there is none.
    `note` says why there is no answer now: the row is `refused` by the schema, the model `failed`, or replaying it is
    `impossible`.
    """

    row: int
    prediction_id: str
    outcome: Outcome
    recorded: ModelOutput
    replayed: ModelOutput | None = None
    difference: float | None = None
    reason: str | None = None

    @property
    def label_changed(self) -> bool:
        """Whether another class is answered now."""
        return self.replayed is not None and not _same(self.recorded.label, self.replayed.label)


def compare(
    row: int, prediction_id: str, recorded: ModelOutput, replayed: ModelOutput, tolerance: float
) -> ReplayedRow:
    """Compare two answers: labels exactly, confidences and values within the tolerance."""
    before, after = _number(recorded), _number(replayed)
    same_label = _same(recorded.label, replayed.label)
    difference = None if before is None or after is None or not same_label else after - before
    close = before == after or (
        before is not None and after is not None and math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance)
    )
    same_kind = (recorded.value is None) == (replayed.value is None)
    equal = same_kind and close and same_label
    return ReplayedRow(row, prediction_id, "equal" if equal else "differs", recorded, replayed, difference)


def _number(answer: ModelOutput) -> float | None:
    return answer.confidence if answer.value is None else answer.value


def _same(one: object, two: object) -> bool:
    """Whether two labels are one: 1 and 1.0 are, 1 and true are not."""
    return one == two and isinstance(one, bool) == isinstance(two, bool)
