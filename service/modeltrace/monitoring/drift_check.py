"""A window of traffic, as counts in the bins of a bundle, judged by `modeltrace.monitoring.drift`.

What Prometheus' rules and the hub's SQL do, for who has the counts at hand.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from modeltrace.inference.schema import MISSING, OTHER, Reference
from modeltrace.monitoring import drift

CriticalValues = Mapping[str, float]  # of one feature, or of the answers, by statistic


class DriftResult(NamedTuple):
    """One statistic of a window."""

    statistic: str
    value: float
    threshold: float
    n: int  # rows that it was computed from
    state: drift.DriftState


class WindowCounts(NamedTuple):
    """What was counted of one feature, or of the answers."""

    counts: Sequence[int]  # in the order of the reference's bins
    total: float = 0.0  # the sum of the numbers
    rejected: int = 0  # rows that were refused because it was missing
    rows_repeat: bool = False  # whether the rows are known to repeat, so that they are not independent


def check_drift(reference: Reference, window: WindowCounts, criticals: CriticalValues) -> list[DriftResult]:
    """Every statistic that has a critical value, in its order."""
    found = list(_findings(reference, window, criticals))
    return [
        one._replace(state=drift.drift_state(one.value, one.threshold, one.n, rows_repeat=window.rows_repeat))
        for one in found
    ]


def _findings(reference: Reference, window: WindowCounts, criticals: CriticalValues) -> Iterator[DriftResult]:
    counts, rows = np.asarray(window.counts), reference.n
    shares = np.array(list(reference.shares.values()))
    training = shares * rows
    place = {name: index for index, name in enumerate(reference.shares)}
    numbers = np.array([name not in (MISSING, OTHER) for name in place])
    n, refused = int(counts.sum()), window.rejected
    n_numbers, rows_numbers = int(counts[numbers].sum()), float(training[numbers].sum())
    for statistic, critical in criticals.items():
        match statistic:
            case drift.PSI:
                yield _compared(statistic, drift.psi(counts, training), critical, n, rows)
            case drift.JENSEN_SHANNON:
                yield _compared(statistic, drift.jensen_shannon(counts, training), critical, n, rows)
            case drift.KS:
                value = drift.ks(counts[numbers], training[numbers])
                yield _compared(statistic, value, critical, n_numbers, rows_numbers)
            case drift.MEAN_CHANGE:
                mean = reference.mean or 0.0
                scale = drift.mean_scale(mean, reference.deviation)
                value = abs(window.total / n_numbers - mean) / scale if n_numbers else np.nan
                yield _compared(statistic, value, critical, n_numbers, rows_numbers)
            case drift.NEW_CATEGORIES:
                yield _risen(statistic, int(counts[place[OTHER]]), n, shares[place[OTHER]], rows, critical)
            case drift.MISSING_VALUES:
                missing = int(counts[place[MISSING]]) + refused
                yield _risen(statistic, missing, n + refused, shares[place[MISSING]], rows, critical)


def check_confidence(low: int, n: int, critical: float, *, rows_repeat: bool = False) -> DriftResult:
    """Whether `low` of `n` answers below the confidence threshold are too many."""
    value, limit = (low / n, drift.low_confidence_threshold(critical, n)) if n else (np.nan, np.nan)
    return DriftResult(
        drift.LOW_CONFIDENCE, float(value), float(limit), n, drift.drift_state(value, limit, n, rows_repeat=rows_repeat)
    )


def _compared(statistic: str, value: float, critical: float, n: int, rows: float) -> DriftResult:
    limit = float(drift.threshold(statistic, critical, n, rows)) if n else np.nan
    return DriftResult(statistic, float(value), limit, n, drift.drift_state(float(value), limit, n))


def _risen(statistic: str, count: int, n: int, share: float, rows: int, critical: float) -> DriftResult:
    value, limit = np.nan, np.nan
    if n:
        value, limit = count / n - share, drift.increase_threshold(statistic, critical, n, rows, share)
    return DriftResult(statistic, float(value), float(limit), n, drift.drift_state(float(value), float(limit), n))
