"""Concept drift: does a model err more often than it used to?

The Drift Detection Method (Gama, Medas, Castillo, Rodrigues: Learning with Drift Detection, SBIA 2004), in the form
that river's `drift.binary.DDM` gives it. Over labelled predictions in their order, 1 for an error:

    p = errors / n          s = sqrt(p (1 - p) / n)          p_min, s_min: where p + s was lowest so far
    warning: p + s > p_min + 2 s_min          drift: p + s > p_min + 3 s_min

Nothing is said of the first `warm_start` predictions, and after a drift everything begins anew.

With its own limits (30 predictions, 2 and 3 deviations) it finds drift in most streams that have none, above all where
errors are rare: after 30 right answers the first wrong one is a drift. OURS waits for 30 errors, which is when their
number is about normally distributed, and for 3 and 4 deviations (docs/evaluation.md has the shares).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

STABLE: Final = 0
WARNING: Final = 1
DRIFT: Final = 2
# Predictions of the first look behind a start; each further look is twice as long, so that many alarms cost little more
# than none.
FIRST_BLOCK: Final = 1024


class DriftLimits(NamedTuple):
    """When something is said, as river names it and has it by default; nothing is before there were `min_errors`."""

    warm_start: int = 30
    warning_threshold: float = 2.0
    drift_threshold: float = 3.0
    min_errors: int = 0


DEFAULT_LIMITS: Final = DriftLimits(warning_threshold=3.0, drift_threshold=4.0, min_errors=30)


@dataclass(frozen=True)
class DriftResult:
    """What was found.

    `levels` has STABLE, WARNING or DRIFT after each prediction; `error_rates` the rate of errors since the last start.
    """

    levels: NDArray[np.int8]
    error_rates: NDArray[np.float64]

    @property
    def drift_indices(self) -> list[int]:
        """Where a drift was found."""
        return [int(place) for place in np.flatnonzero(self.levels == DRIFT)]

    @property
    def level(self) -> int:
        """DRIFT if there was one anywhere; else what is said after the last prediction."""
        if not len(self.levels):
            return STABLE
        return DRIFT if self.drift_indices else int(self.levels[-1])

    @property
    def error_rate(self) -> float | None:
        """The rate of errors since the last start; `None` without predictions."""
        return float(self.error_rates[-1]) if len(self.error_rates) else None


def detect_drift(errors: NDArray[np.integer], limits: DriftLimits = DEFAULT_LIMITS) -> DriftResult:
    """Look for drift in errors (1) and right answers (0), in order; shape (n,)."""
    levels = np.zeros(len(errors), dtype=np.int8)
    rates = np.zeros(len(errors))
    start, length = 0, FIRST_BLOCK
    while start < len(errors):
        found, rate = _scan(errors[start : start + length], limits)
        drifts = np.flatnonzero(found == DRIFT)
        end = len(found) if not len(drifts) else int(drifts[0]) + 1
        whole = len(drifts) > 0 or start + length >= len(errors)
        if not whole:
            length *= 2
            continue
        levels[start : start + end], rates[start : start + end] = found[:end], rate[:end]
        start, length = start + end, FIRST_BLOCK
    return DriftResult(levels, rates)


def _scan(errors: NDArray[np.integer], limits: DriftLimits) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Levels and rates from a start on, as if nothing began anew."""
    n = np.arange(1, len(errors) + 1)
    number = np.cumsum(errors)
    rates = number / n
    deviations = np.sqrt(rates * (1 - rates) / n)
    bounds = rates + deviations

    levels = np.zeros(len(errors), dtype=np.int8)
    seen = slice(max(limits.warm_start, int(np.searchsorted(number, limits.min_errors))), None)
    if not len(bounds[seen]):
        return levels, rates
    lowest = np.minimum.accumulate(bounds[seen])
    # Of several that are equally low, the latest counts.
    place = np.maximum.accumulate(np.where(bounds[seen] <= lowest, np.arange(len(lowest)), 0))
    p_min, s_min = rates[seen][place], deviations[seen][place]
    levels[seen][bounds[seen] > p_min + limits.warning_threshold * s_min] = WARNING
    levels[seen][bounds[seen] > p_min + limits.drift_threshold * s_min] = DRIFT
    return levels, rates
