"""Compare the recorded and the replayed prediction of one row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from modeltrace.inference.model import Label, ModelOutput
from modeltrace.store.rows import label_key

# The tolerance for rounding errors of confidences and values: absolute below 1, relative above. Rounding depends on the
# order of summation. This order depends on the batch size and, for ONNX Runtime in single precision, on the processor.
TOLERANCE: Final = {"float64": 1e-9, "float32": 1e-6}

Outcome = Literal["equal", "different", "rejected", "failed", "not_replayable"]


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """The result of replaying one stored prediction.

    `difference` is the replayed minus the recorded value. For a classifier it is the difference of the confidences. It
    is `None` if the labels differ or a number is missing. `reason` says why there is no replayed output: the schema
    `rejected` the row, the model `failed`, or the row is `not_replayable`.
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
        """Whether the replayed label differs from the recorded one."""
        return self.replayed is not None and label_key(self.recorded.label) != label_key(self.replayed.label)


def compare(
    row: int, prediction_id: str, recorded: ModelOutput, replayed: ModelOutput, tolerance: float
) -> ReplayedRow:
    """Compare two outputs: labels exactly, confidences, values and named numbers within the tolerance."""
    before, after = _number(recorded), _number(replayed)
    same_label = label_key(recorded.label) == label_key(replayed.label)
    difference = None if before is None or after is None or not same_label else after - before
    close = before == after or (
        before is not None and after is not None and math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance)
    )
    same_task = (recorded.value is None) == (replayed.value is None)
    same_outputs = _same_outputs(recorded.outputs, replayed.outputs, tolerance)
    outcome: Outcome = "equal" if same_task and close and same_label and same_outputs else "different"
    return ReplayedRow(row, prediction_id, outcome, recorded, replayed, difference)


def _same_outputs(recorded: Sequence[Label] | None, replayed: Sequence[Label] | None, tolerance: float) -> bool:
    if recorded is None or replayed is None or len(recorded) != len(replayed):
        return recorded is replayed
    return all(
        math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance)
        if isinstance(before, float) and isinstance(after, float)
        else label_key(before) == label_key(after)
        for before, after in zip(recorded, replayed, strict=True)
    )


def _number(output: ModelOutput) -> float | None:
    return output.confidence if output.value is None else output.value
