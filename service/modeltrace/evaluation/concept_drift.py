"""Detect concept drift: an increase of a model's errors, in the order of its predictions.

The detector is ADWIN (Bifet, Gavaldà: Learning from Time-Changing Data with Adaptive Windowing, SDM 2007) of river. It
keeps a window of recent errors, and reports a change when two parts of the window have different means. After a change
it starts again. It accepts any errors from 0 to 1. docs/evaluation.md has the false alarm rates and the delays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# The compiled part of river.drift.ADWIN. The public module imports pandas, scikit-learn and scipy.stats: 140 MB.
from river._river_rust.drift import AdaptiveWindowing

STABLE: Final = 0
DRIFT: Final = 1
# The parameters of river.drift.ADWIN, with its defaults.
PARAMETERS: Final[dict[str, Any]] = {
    "delta": 0.002, "clock": 32, "max_buckets": 5, "min_window_length": 5, "grace_period": 10,
}  # fmt: skip
_CHUNK: Final = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the mean error, and the index of the label at which it was detected."""

    index: int
    increased: bool


@dataclass(frozen=True)
class DriftResult:
    """The result of the detector.

    `mean_error` is the mean of the errors since the last change. It is `None` without labels.
    """

    labels: int
    changes: tuple[Change, ...]
    mean_error: float | None

    @property
    def drift_indices(self) -> list[int]:
        """The indices of the labels at which an increase was detected."""
        return [change.index for change in self.changes if change.increased]

    @property
    def level(self) -> int:
        """DRIFT if an increase was detected, else STABLE."""
        return DRIFT if self.drift_indices else STABLE


def detect_drift(errors: NDArray[np.float64]) -> DriftResult:
    """Run the detector over errors from 0 to 1, in order; shape (n,)."""
    window, start, mean = AdaptiveWindowing(**PARAMETERS), 0, None
    changes = []
    for index, error in enumerate(_in_chunks(errors)):
        if window.update(error):
            mean = window.get_total() / window.get_width()  # of the part after the change
            changes.append(Change(index, bool(mean > errors[start : index + 1].mean())))
            window, start = AdaptiveWindowing(**PARAMETERS), index + 1
    if start < len(errors):
        mean = float(errors[start:].mean())
    return DriftResult(len(errors), tuple(changes), mean)


def _in_chunks(errors: NDArray[np.float64]) -> Iterator[float]:
    """Yield numbers. The conversion of a chunk does not block other threads for long."""
    for start in range(0, len(errors), _CHUNK):
        yield from errors[start : start + _CHUNK].tolist()
