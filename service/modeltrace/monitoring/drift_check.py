"""Check a window of traffic for drift. The window is given as counts in the bins of a bundle.

Prometheus' rules and the hub's SQL compute the same statistics from metrics.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modeltrace.bin_names import MISSING, UNSEEN
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.schema import OutputReference, Reference
from modeltrace.monitoring import drift
from modeltrace.monitoring.dependence import bin_variance, estimate_independent_share

CriticalValues = Mapping[str, float]  # by statistic, of one feature or of the model's outputs


class DriftResult(NamedTuple):
    """One statistic of a window."""

    statistic: str
    value: float  # for `missing` and `new_categories`, negative if the share decreased
    threshold: float
    n: int  # rows from which the statistic was computed
    independent: float  # the number of independent rows that `n` rows are worth
    state: drift.DriftState


class WindowCounts(NamedTuple):
    """The counts of one feature, or of the model's outputs."""

    counts: Sequence[int]  # in the order of the reference's bins
    rejected: int = 0  # rows that were rejected because the value was missing
    rows_repeat: bool = False  # whether too many rows repeat, so that they are not independent
    difference: float = 0.0  # half the squared differences between consecutive requests of a process
    pairs: int = 0  # the number of differences; 0 if unknown
    processes: float = 1.0  # to how many processes the requests are distributed


def check_drift(
    reference: Reference, window: WindowCounts, criticals: CriticalValues, *, has_reference: bool = True
) -> list[DriftResult]:
    """Compute every statistic that has a critical value, in the order of `criticals`.

    `has_reference` is false for outputs if their reference contains only rows that the model was fitted on.
    """
    results = []
    share = window_independent_share(reference, window)
    for statistic, critical in criticals.items():
        compared = compare(statistic, critical, reference, window.counts, window.rejected, independent_share=share)
        value, limit, n, training = map(float, compared)
        state = drift.drift_state(
            value, limit, n * share, training, rows_repeat=window.rows_repeat, has_reference=has_reference
        )
        results.append(DriftResult(statistic, value, limit, int(n), n * share, state))
    return results


def window_independent_share(reference: Reference, window: WindowCounts) -> float:
    """Return how many independent rows one row of a window is worth."""
    variance = bin_variance(reference, window.counts)
    return estimate_independent_share(window.difference, window.pairs, variance, window.processes)


def compare(
    statistic: str,
    critical: float,
    reference: Reference,
    counts: ArrayLike,
    rejected: int = 0,
    *,
    independent_share: float = 1.0,
) -> tuple[Any, Any, Any, float]:
    """Compare one or several windows with the training data.

    Args:
        statistic: the name of the statistic.
        critical: its critical value.
        reference: the training data.
        counts: the counts of each window in the bins of the reference, shape (…, k).
        rejected: the rows of each window that were rejected because the value was missing.
        independent_share: how many independent rows one row is worth.

    Returns:
        The value and the threshold of each window (NaN without rows), its number of rows, each of shape (…), and the
        number of rows of the training data.
    """
    window, shares, rows = np.asarray(counts), np.array([*reference.shares.values()]), float(reference.n)
    if statistic in (drift.KS, drift.LOCATION, drift.SPREAD):
        n_bins = len(reference.number_shares)
        window, shares, rows = window[..., :n_bins], shares[:n_bins], float(shares[:n_bins].sum() * rows)
    tested = np.array([_share_statistic(reference, name) == statistic for name in reference.shares])
    if statistic == drift.MISSING_VALUES:
        window = window + rejected * tested
    n = window.sum(axis=-1)
    independent = n * independent_share
    with np.errstate(divide="ignore", invalid="ignore"):
        if tested.any():
            change = window[..., tested] / n[..., np.newaxis] - shares[tested]
            return *_largest_change(statistic, critical, change, independent, rows, shares[tested]), n, rows
        limit = drift.threshold(statistic, critical, independent, rows)
        return _distance(statistic, window, shares * rows), np.where(n > 0, limit, np.nan), n, rows


def check_confidence(
    low: int,
    n: int,
    critical: float,
    held_out: HeldOut | None,
    *,
    rows_repeat: bool = False,
    independent_share: float = 1.0,
) -> DriftResult:
    """Check whether the share of predictions with low confidence, `low` of `n`, is larger than for held-out rows.

    `n` counts predictions that have a confidence. Without a share of held-out rows, there is no threshold.
    `independent_share` is how many independent predictions one prediction is worth.
    """
    share = None if held_out is None else held_out.low_confidence_share
    value, limit, rows, independent = (low / n if n else math.nan), math.nan, 0, n * independent_share
    if held_out is not None and share is not None and independent:
        rows = held_out.rows
        limit = float(drift.low_confidence_threshold(critical, independent, rows, share))
    state = drift.drift_state(value, limit, independent, rows, rows_repeat=rows_repeat, has_reference=share is not None)
    return DriftResult(drift.LOW_CONFIDENCE, value, limit, n, independent, state)


def _share_statistic(reference: Reference, bin_name: str) -> str | None:
    """Return the statistic that tests the share of a bin; `None` for a bin of numbers."""
    if bin_name == MISSING and not isinstance(reference, OutputReference):
        return drift.MISSING_VALUES
    if reference.edges is not None:
        return None
    if bin_name == UNSEEN and not isinstance(reference, OutputReference):
        return drift.NEW_CATEGORIES
    return drift.SHARE_CHANGE


def _distance(statistic: str, counts: NDArray[np.int64], training: drift.Floats) -> Any:  # noqa: ANN401  a number, or one per window
    """Return a statistic of all bins; NaN without rows."""
    match statistic:
        case drift.PSI:
            value = drift.psi(counts, training)
        case drift.JENSEN_SHANNON:
            value = drift.jensen_shannon(counts, training)
        case drift.KS:
            return drift.ks(counts, training)
        case _:
            return drift.score_change(counts, drift.bin_scores(statistic, training))
    return np.where(counts.sum(axis=-1) > 0, value, np.nan)


def _largest_change(
    statistic: str, critical: float, change: drift.Floats, n: drift.Floats, rows: float, shares: drift.Floats
) -> tuple[Any, Any]:
    """Return the change of a share that exceeds its own threshold most, and that threshold.

    The change of a single share has a sign. Of several shares, one increases if another one decreases.
    """
    limits = drift.share_threshold(statistic, critical, n[..., np.newaxis], rows, shares, change)
    largest = np.nan_to_num(np.abs(change) / limits).argmax(axis=-1)[..., np.newaxis]
    value, limit = (np.take_along_axis(array, largest, axis=-1)[..., 0] for array in (change, limits))
    return np.abs(value) if statistic == drift.SHARE_CHANGE else value, np.where(n > 0, limit, np.nan)
