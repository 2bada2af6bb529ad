"""Group the metric points of a trace by metric for its page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from modeltrace_hub.queries.reader import Record

# A metric with more points than this is folded on the page.
MAX_UNFOLDED: Final = 4


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """The points of one metric. `shared_attributes` are the attributes that all points have, if the group is folded."""

    points: Sequence[Record]
    folded: bool
    shared_attributes: dict[str, Any]


def group_by_metric(points: Iterable[Record]) -> list[MetricGroup]:
    """Group points, which must be ordered by metric."""
    groups = []
    for _, group in groupby(points, key=lambda point: str(point["name"])):
        members = list(group)
        folded = len(members) > MAX_UNFOLDED
        first, *others = (point["attributes"].items() for point in members)
        shared = (
            {key: value for key, value in first if all((key, value) in items for items in others)} if folded else {}
        )
        groups.append(MetricGroup(members, folded, shared))
    return groups
