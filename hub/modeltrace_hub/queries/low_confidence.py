"""The share of predictions with low confidence, compared with the share of held-out rows."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from modeltrace_hub.queries import model_metric_names as names
from modeltrace_hub.queries.drift_states import MIN_ROWS, MIN_TRAINING_ROWS, NO_HELD_OUT_REFERENCE, ROWS_REPEAT
from modeltrace_hub.queries.reader import Record

# Larger critical values are ignored; compute_drift.sql has the same bound.
_MAX_CRITICAL_VALUE: Final = 1e6
# Larger numbers of held-out rows are ignored; compute_drift.sql has the same bound.
_MAX_ROWS: Final = 1e15
# Rows added to the share of the held-out rows, and to the count of the window.
_REFERENCE_CORRECTION: Final = 1.5
_WINDOW_CORRECTION: Final = 1.0


def low_confidence(
    rows: Iterable[Record], gauges: Sequence[Record], n: float, *, rows_repeat: bool, independent_share: float = 1.0
) -> Record:
    """Return the share of predictions with low confidence, its limit and its state.

    Args:
        rows: the rows of sum_model_counters.sql that count predictions below the confidence threshold.
        gauges: the gauges of the model; values are finite.
        n: the number of predictions that have a confidence.
        rows_repeat: whether the rows of the window are not independent.
        independent_share: how many independent predictions one prediction is worth.
    """
    by_name = {gauge["name"]: gauge["value"] for gauge in gauges if not gauge["attributes"].get("ml.drift.statistic")}
    threshold = by_name.get(names.CONFIDENCE_THRESHOLD)
    count = sum(row["added"] for row in rows) if threshold is not None else None
    share = count / n if count is not None and n else None
    held_out, reference = by_name.get(names.HELD_OUT_ROWS, 0.0), by_name.get(names.LOW_CONFIDENCE_REFERENCE)
    if reference is None or not (0 <= reference <= 1 and 1 <= held_out <= _MAX_ROWS):
        reference = None
    min_effect, critical = (_statistic_gauge(gauges, name) for name in (names.MIN_EFFECT, names.CRITICAL_VALUE))
    limit, independent = None, n * independent_share
    if reference is not None and min_effect is not None and critical is not None and independent:
        limit = low_confidence_limit(min_effect, critical, independent, held_out, reference)
    state = None
    if share is not None and min_effect is not None and critical is not None:
        state = NO_HELD_OUT_REFERENCE
        if reference is not None:
            state = _state(share, limit, independent, held_out, rows_repeat=rows_repeat)
    return {
        "threshold": threshold,
        "low_count": count,
        "low_share": share,
        "reference_share": reference,
        "limit": limit,
        "state": state,
    }


def low_confidence_limit(min_effect: float, critical: float, n: float, held_out: float, reference: float) -> float:
    """Return the share above which n predictions count as drift; the share of the held-out rows was `reference`.

    It is the threshold of an increase of a share in drift_statistics.sql, added to `reference`.
    """
    known = (reference * held_out + _REFERENCE_CORRECTION) / (held_out + _REFERENCE_CORRECTION)
    angle = math.asin(math.sqrt(known)) + critical / 2 * math.sqrt(1 / n + 1 / held_out)
    by_chance = math.sin(min(angle, math.pi / 2)) ** 2 + _WINDOW_CORRECTION / n - reference
    return reference + max(min_effect, by_chance)


def _state(share: float, limit: float | None, n: float, held_out: float, *, rows_repeat: bool) -> str:
    if limit is None or n < MIN_ROWS:
        return "not enough data"
    if rows_repeat:
        return ROWS_REPEAT
    if share > limit:
        return "drift"
    return "reference too small" if held_out < MIN_TRAINING_ROWS else "ok"


def _statistic_gauge(gauges: Iterable[Record], name: str) -> float | None:
    """Return the value of a drift gauge for the low-confidence statistic; None if it is missing or out of range."""
    for gauge in gauges:
        attributes = gauge["attributes"]
        is_model_wide = "ml.feature.name" not in attributes
        if (
            gauge["name"] == name
            and attributes.get("ml.drift.statistic") == names.LOW_CONFIDENCE_STATISTIC
            and is_model_wide
            and 0 <= gauge["value"] <= (1 if name == names.MIN_EFFECT else _MAX_CRITICAL_VALUE)
        ):
            value: float = gauge["value"]
            return value
    return None
