"""Evaluate consecutive hours or days of predictions separately, in UTC and by time of prediction."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

Unit: TypeAlias = Literal["hour", "day"]
NANOSECONDS: Final[dict[Unit, int]] = {"hour": 3600 * 10**9, "day": 86_400 * 10**9}
# Each period needs its own queries.
MAX_PERIODS: Final = 1000


class TooManyPeriodsError(ModeltraceError):
    """A selection covers more hours or days than can be evaluated separately."""


def evaluate_periods(
    evaluate: Callable[[Selection], list[ModelMetrics]], store: Store, selection: Selection, unit: Unit
) -> list[ModelMetrics]:
    """Return the metrics of each hour or day with predictions, in order of time; `period` has its start and end.

    The first and the last period end where the selection ends.

    Args:
        evaluate: returns the metrics of a selection.
        store: the store with the predictions.
        selection: the predictions to evaluate.
        unit: the length of a period.

    Raises:
        TooManyPeriodsError: the selection has more than `MAX_PERIODS` periods from its first to its last prediction.
        StoreError: the store cannot be read.
    """
    ((number, oldest, latest),) = store.fetch_all(selection.select_summary())
    if not number:
        return []
    length = NANOSECONDS[unit]
    first, last = oldest // length, latest // length
    if last - first >= MAX_PERIODS:
        shorter = " or --over day" if unit == "hour" else ""
        raise TooManyPeriodsError(
            f"the selection covers {last - first + 1:,} {unit}s; {MAX_PERIODS:,} can be evaluated separately: select "
            f"fewer with --since and --until{shorter}"
        )
    results = []
    for index in range(first, last + 1):
        start, end = index * length, (index + 1) * length
        since = start if selection.since is None else max(start, selection.since)
        until = end if selection.until is None else min(end, selection.until)
        metrics = evaluate(selection._replace(since=since, until=until))
        results += [replace(model_metrics, period=(since, until)) for model_metrics in metrics]
    return results
