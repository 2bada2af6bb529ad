"""Group alerts about the same model, feature or service: drift is an alert for each statistic and window."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from modeltrace_hub.alerts.rules import Condition

T = TypeVar("T")

# Labels by which the alerts of a group differ.
_DETAILS: Final = frozenset({"ml_drift_statistic", "window"})
_PENDING: Final = "pending"
_ENDED: Final = "ended"


@dataclass(frozen=True, slots=True)
class AlertGroup(Generic[T]):
    """The alerts of a rule about the same subject.

    Attributes:
        worst: the one that exceeds its threshold most; one that fires comes before one that is pending.
        others: the number of the others.
    """

    worst: T
    others: int


def group_alerts(alerts: Iterable[T], describe: Callable[[T], tuple[Condition, str]]) -> list[AlertGroup[T]]:
    """Return the groups in the order of their first alerts. Alerts that have ended are groups of their own.

    Args:
        alerts: the alerts.
        describe: returns the condition and the state of an alert.
    """
    groups: dict[tuple[object, ...], list[T]] = {}
    for alert in alerts:
        condition, state = describe(alert)
        subject = tuple(label for label in condition.labels if label[0] not in _DETAILS)
        groups.setdefault((condition.rule, subject, state == _ENDED), []).append(alert)

    def rank(alert: T) -> tuple[bool, float]:
        condition, state = describe(alert)
        return state != _PENDING, _excess(condition)

    return [AlertGroup(max(group, key=rank), len(group) - 1) for group in groups.values()]


def _excess(condition: Condition) -> float:
    if condition.threshold is None:
        return 0.0
    return condition.value / condition.threshold if condition.threshold > 0 else math.inf


def more_text(group: AlertGroup[T]) -> str:
    """Return a text with the number of statistics and windows besides the worst one; empty for none."""
    return f" And {group.others} more of its statistics and windows." if group.others else ""
