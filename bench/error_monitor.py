"""What the service reports about a stream of labelled errors, simulated for every label.

Labels arrive at a constant rate. The service compares the errors of the last week with the baseline, and runs the
change detector from the beginning of the week before the present one. Both are computed with the functions of the
product.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modeltrace.evaluation.baseline_comparison import (
    MIN_LABELS,
    MIN_SHARE,
    WORSE,
    compare_absolute_errors,
    share_threshold,
)
from modeltrace.evaluation.concept_drift import detect_drift
from modeltrace.evaluation.queries import ERROR_LEVELS
from modeltrace.telemetry.metrics.model_catalog import Baseline

WINDOW_DAYS: Final = 7  # the default of MODELTRACE_EVALUATION_WINDOW_HOURS

Errors = NDArray[np.float64]  # of a classifier: 1 or 0; of a regressor: absolute errors. Shape (labels,)
States = NDArray[np.bool_]  # whether something is reported after each label, shape (labels,)


class Thresholds:
    """The thresholds of the error rate by number of labels, computed once for each baseline."""

    def __init__(self) -> None:
        self._tables: dict[Baseline, list[float]] = {}

    def table(self, baseline: Baseline, labels: int) -> NDArray[np.float64]:
        """Return the thresholds for 0, 1, …, `labels` labels; infinite where there are not enough."""
        table = self._tables.setdefault(baseline, [math.inf] * MIN_LABELS)
        table += (
            max(MIN_SHARE, share_threshold(baseline.error, baseline.rows, count))
            for count in range(len(table), labels + 1)
        )
        return np.array(table[: labels + 1])


def is_worse(errors: Errors, baseline: Baseline, per_day: int, thresholds: Thresholds) -> States:
    """Return whether the error rate of the last week is worse than the baseline, after each label."""
    window = WINDOW_DAYS * per_day
    total = np.concatenate([[0.0], errors.cumsum()])
    counts = np.minimum(np.arange(1, len(errors) + 1), window)
    rates = (total[1:] - total[1 + np.arange(len(errors)) - counts]) / counts
    states: States = rates - baseline.error > thresholds.table(baseline, int(counts[-1]))[counts]
    return states


def is_worse_regressor(errors: Errors, baseline: Baseline, per_day: int, interval: int = 1) -> States:
    """Return whether the absolute errors of the last week are worse than the baseline, after each label.

    The state is computed after every `interval` labels and stays the same until the next computation.
    """
    window = WINDOW_DAYS * per_day
    states = np.zeros(len(errors), dtype=np.bool_)
    for end in range(MIN_LABELS, len(errors) + 1, interval):
        recent = errors[max(0, end - window) : end]
        comparison = compare_absolute_errors(float(recent.mean()), float(recent.std()), len(recent), baseline)
        states[end - 1 : end - 1 + interval] = comparison.state == WORSE
    return states


def is_drifting(errors: Errors, per_day: int) -> States:
    """Return whether the level of concept drift of a classifier is 1, after each label."""
    return _drift_levels(len(errors), per_day, lambda start, end: detect_drift(errors[start:end]).drift_indices)


def is_drifting_regressor(errors: Errors, per_day: int) -> States:
    """Return whether the level of concept drift of a regressor without a tolerance is 1, after each label.

    The errors are scaled by the median of the last week of each period.
    """

    def indices(start: int, end: int) -> list[int]:
        median = float(np.median(errors[max(start, end - WINDOW_DAYS * per_day) : end]))
        scaled = errors[start:end] / (errors[start:end] + median)
        return detect_drift(np.round(ERROR_LEVELS * scaled) / ERROR_LEVELS).drift_indices

    return _drift_levels(len(errors), per_day, indices)


def _drift_levels(labels: int, per_day: int, drift_indices: Callable[[int, int], list[int]]) -> States:
    """Return the level after each label. The detector starts at the beginning of the week before the present one."""
    week = WINDOW_DAYS * per_day
    levels = np.zeros(labels, dtype=np.bool_)
    for present in range(0, labels, week):
        start, end = max(0, present - week), min(labels, present + week)
        if indices := drift_indices(start, end):
            levels[max(present, start + indices[0]) : end] = True
    return levels


def new_alerts(states: States, per_day: int) -> int:
    """Count the alerts of a level that are new: the level was 0 a day before, as in the rule ConceptDrift."""
    firing = states & ~np.concatenate([np.zeros(per_day, dtype=np.bool_), states[:-per_day]])
    return onsets(firing)


def onsets(states: States) -> int:
    """Count how often a state begins."""
    return int(np.count_nonzero(states & ~np.concatenate([[False], states[:-1]])))
