"""Detect concept drift: an increase of a model's error rate.

Implements the Drift Detection Method (Gama, Medas, Castillo, Rodrigues: Learning with Drift Detection, SBIA 2004) as in
river's `drift.binary.DDM`. Over labelled predictions in order, where 1 is an error:

    p = errors / n          s = sqrt(p (1 - p) / n)          p_min, s_min: p and s where p + s was lowest so far
    warning: p + s > p_min + 2 s_min          drift: p + s > p_min + 3 s_min

The first `warm_start` predictions are always stable. After a drift the detector is reset.

The published limits (30 predictions, 2 and 3 standard deviations) cause too many false alarms: the method reports drift
in most streams without drift, especially if errors are rare. For example, the first error after 30 correct predictions
is a drift. `DEFAULT_LIMITS` require 30 errors, so that the number of errors is approximately normally distributed, and
3 and 4 standard deviations. docs/evaluation.md lists the false alarm rates.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

STABLE: Final = 0
WARNING: Final = 1
DRIFT: Final = 2
# Predictions in the first vectorized block after a reset. A block without drift is scanned again with the double size,
# so the cost stays linear even if there are many drifts.
FIRST_BLOCK: Final = 1024


class DriftLimits(NamedTuple):
    """The limits of the detector, with river's names and defaults; `min_errors` is an addition."""

    warm_start: int = 30  # predictions after a reset before anything is reported
    warning_threshold: float = 2.0  # standard deviations for a warning
    drift_threshold: float = 3.0  # standard deviations for a drift
    min_errors: int = 0  # errors after a reset before anything is reported


DEFAULT_LIMITS: Final = DriftLimits(warning_threshold=3.0, drift_threshold=4.0, min_errors=30)


@dataclass(frozen=True)
class DriftResult:
    """The state of the detector after each prediction."""

    levels: NDArray[np.int8]  # STABLE, WARNING or DRIFT; shape (n,)
    error_rates: NDArray[np.float64]  # the error rate since the last reset; shape (n,)

    @property
    def drift_indices(self) -> list[int]:
        """The indices of the predictions at which a drift was detected."""
        return [int(index) for index in np.flatnonzero(self.levels == DRIFT)]

    @property
    def level(self) -> int:
        """DRIFT if any drift was detected, else the level after the last prediction."""
        if not len(self.levels):
            return STABLE
        return DRIFT if self.drift_indices else int(self.levels[-1])

    @property
    def error_rate(self) -> float | None:
        """The error rate since the last reset; `None` without predictions."""
        return float(self.error_rates[-1]) if len(self.error_rates) else None


def detect_drift(errors: NDArray[np.integer], limits: DriftLimits = DEFAULT_LIMITS) -> DriftResult:
    """Run the detector over errors (1) and correct predictions (0) in order; shape (n,)."""
    levels = np.zeros(len(errors), dtype=np.int8)
    rates = np.zeros(len(errors))
    start, length = 0, FIRST_BLOCK
    while start < len(errors):
        block_levels, block_rates = _scan(errors[start : start + length], limits)
        drifts = np.flatnonzero(block_levels == DRIFT)
        if not len(drifts) and start + length < len(errors):
            length *= 2
            continue
        size = int(drifts[0]) + 1 if len(drifts) else len(block_levels)
        levels[start : start + size], rates[start : start + size] = block_levels[:size], block_rates[:size]
        start, length = start + size, FIRST_BLOCK
    return DriftResult(levels, rates)


def _scan(errors: NDArray[np.integer], limits: DriftLimits) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return the levels and error rates after a reset. Results after the first drift are not valid."""
    n = np.arange(1, len(errors) + 1)
    error_counts = np.cumsum(errors)
    rates = error_counts / n
    deviations = np.sqrt(rates * (1 - rates) / n)
    bounds = rates + deviations

    levels = np.zeros(len(errors), dtype=np.int8)
    active = slice(max(limits.warm_start, int(np.searchsorted(error_counts, limits.min_errors))), None)
    if not len(bounds[active]):
        return levels, rates
    lowest = np.minimum.accumulate(bounds[active])
    # If several bounds are equally low, use the latest one.
    lowest_index = np.maximum.accumulate(np.where(bounds[active] <= lowest, np.arange(len(lowest)), 0))
    p_min, s_min = rates[active][lowest_index], deviations[active][lowest_index]
    levels[active][bounds[active] > p_min + limits.warning_threshold * s_min] = WARNING
    levels[active][bounds[active] > p_min + limits.drift_threshold * s_min] = DRIFT
    return levels, rates
