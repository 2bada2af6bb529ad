"""The metric points of a trace as its page lists them: many of one metric together, and what they share said once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from modeltrace_hub.queries.queries import Record

# More points of one metric than this are folded.
MOST_OPEN: Final = 4


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one metric: `shared` is what the attributes of all of them say, when they are folded."""

    points: Sequence[Record]
    folded: bool
    shared: dict[str, Any]

    def own(self, point: Record) -> dict[str, Any]:
        """What the attributes of one point say beside that."""
        return {key: value for key, value in point["attributes"].items() if key not in self.shared}


def by_metric(points: Iterable[Record]) -> list[Points]:
    """Points that are ordered by metric, metric by metric."""
    found = []
    for _, same in groupby(points, key=lambda point: str(point["name"])):
        several = list(same)
        folded = len(several) > MOST_OPEN
        first, *others = (point["attributes"].items() for point in several)
        shared = {key: value for key, value in first if all((key, value) in one for one in others)} if folded else {}
        found.append(Points(several, folded, shared))
    return found
