"""Check a window of traffic for drift. The window is given as counts in the bins of a bundle.

Prometheus' rules and the hub's SQL compute the same statistics from metrics.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from modeltrace.inference.schema import MISSING, OTHER, Reference
from modeltrace.monitoring import drift

CriticalValues = Mapping[str, float]  # by statistic, of one feature or of the model's outputs


class DriftResult(NamedTuple):
    """One statistic of a window."""

    statistic: str
    value: float
    threshold: float
    n: int  # rows from which the statistic was computed
    state: drift.DriftState


class WindowCounts(NamedTuple):
    """The counts of one feature, or of the model's outputs."""

    counts: Sequence[int]  # in the order of the reference's bins
    total: float = 0.0  # the sum of the numbers
    rejected: int = 0  # rows that were rejected because the value was missing
    rows_repeat: bool = False  # whether too many rows repeat, so that they are not independent


def check_drift(reference: Reference, window: WindowCounts, criticals: CriticalValues) -> list[DriftResult]:
    """Compute every statistic that has a critical value, in the order of `criticals`."""
    return [_result(*values, window.rows_repeat) for values in _statistics(reference, window, criticals)]


def check_confidence(low: int, n: int, critical: float, *, rows_repeat: bool = False) -> DriftResult:
    """Check whether `low` of `n` predictions below the confidence threshold are too many."""
    value, limit = (low / n, drift.low_confidence_threshold(critical, n)) if n else (np.nan, np.nan)
    return _result(drift.LOW_CONFIDENCE, value, limit, n, rows_repeat)


def _result(statistic: str, value: float, limit: float, n: int, rows_repeat: bool) -> DriftResult:  # noqa: FBT001  passed on
    value, limit = float(value), float(limit)
    return DriftResult(statistic, value, limit, n, drift.drift_state(value, limit, n, rows_repeat=rows_repeat))


def _statistics(
    reference: Reference, window: WindowCounts, criticals: CriticalValues
) -> Iterator[tuple[str, float, float, int]]:
    """Yield statistic, value, threshold and number of rows; NaN for a value or threshold without rows."""
    counts, rows = np.asarray(window.counts), reference.n
    shares = np.array(list(reference.shares.values()))
    training = shares * rows
    bin_index = {name: index for index, name in enumerate(reference.shares)}
    is_number = np.array([name not in (MISSING, OTHER) for name in bin_index])
    n = int(counts.sum())
    n_numbers, training_numbers = int(counts[is_number].sum()), float(training[is_number].sum())
    for statistic, critical in criticals.items():
        match statistic:
            case drift.PSI:
                yield statistic, drift.psi(counts, training), _threshold(statistic, critical, n, rows), n
            case drift.JENSEN_SHANNON:
                yield statistic, drift.jensen_shannon(counts, training), _threshold(statistic, critical, n, rows), n
            case drift.KS:
                limit = _threshold(statistic, critical, n_numbers, training_numbers)
                yield statistic, drift.ks(counts[is_number], training[is_number]), limit, n_numbers
            case drift.MEAN_CHANGE:
                mean = reference.mean or 0.0
                scale = drift.mean_scale(mean, reference.deviation)
                value = abs(window.total / n_numbers - mean) / scale if n_numbers else np.nan
                yield statistic, value, _threshold(statistic, critical, n_numbers, training_numbers), n_numbers
            case drift.NEW_CATEGORIES | drift.MISSING_VALUES:
                name, rejected = (OTHER, 0) if statistic == drift.NEW_CATEGORIES else (MISSING, window.rejected)
                count, share, total = counts[bin_index[name]] + rejected, shares[bin_index[name]], n + rejected
                value, limit = np.nan, np.nan
                if total:
                    value = count / total - share
                    limit = drift.increase_threshold(statistic, critical, total, rows, share)
                yield statistic, value, limit, total


def _threshold(statistic: str, critical: float, n: int, training: float) -> float:
    return float(drift.threshold(statistic, critical, n, training)) if n else np.nan
