"""Keep, for each hour, when the models logged predictions, so that lists of models do not read all log records again.

Log records are only appended, except by retention. Each call therefore reads the records that were appended since the
last call, whatever their time is, and adds them to their hours, also to hours that have passed. After a deletion, all
records are read again.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

HOUR_NS: Final = 3600 * 10**9
# With more entries, the sums are not cached.
MAX_ENTRIES: Final = 50_000

Record = dict[str, Any]


class Fetcher(Protocol):
    """The part of a reader that is needed."""

    def fetch_all(self, query: str, /, **values: object) -> list[Record]:
        """Run a query and return all rows."""

    def fetch_one(self, query: str, /, **values: object) -> Record:
        """Run a query that returns exactly one row."""


class Source(NamedTuple):
    """A model that a service instance serves."""

    name: str | None
    version: str | None
    service_name: str
    service_instance_id: str


@dataclass(slots=True)
class Activity:
    """The hours from `since_ns` until before `until_ns`: the first and the last time of each source."""

    since_ns: int = 0
    until_ns: int = 0
    times: dict[Source, tuple[int, int]] = field(default_factory=dict)

    def add(self, source: Source, first_ns: int, last_ns: int) -> None:
        """Include the times of some records of a source."""
        known = self.times.get(source, (first_ns, last_ns))
        self.times[source] = min(known[0], first_ns), max(known[1], last_ns)


@dataclass(slots=True)
class _Hours:
    """The sums of the first `rows` records, whose row numbers are below `next_row`."""

    deletion: str | None  # identifies the last deletion by retention
    next_row: int = 0
    rows: int = 0
    implausible: int = 0  # records whose time is far ahead of their arrival, which belong to no hour
    entries: int = 0
    by_hour: defaultdict[int, Activity] = field(default_factory=lambda: defaultdict(Activity))

    @property
    def usable(self) -> bool:
        """Whether the sums are those of all records, and small enough for the cache."""
        return not self.implausible and self.entries <= MAX_ENTRIES


class PredictionActivity:
    """The sums of one store. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hours: _Hours | None = None

    def read(self, reader: Fetcher, since_ns: int, until_ns: int) -> Activity:
        """Return the sums of all whole hours in a window. The caller reads the records of the rest of the window.

        Args:
            reader: an open reader.
            since_ns: the start of the window.
            until_ns: the end of the window.

        Returns:
            The sums. Their time is empty if the window has no whole hour, or if no sums are cached.
        """
        first_hour, end_hour = -(-since_ns // HOUR_NS), until_ns // HOUR_NS
        if first_hour >= end_hour:
            return Activity()
        with self._lock:
            hours = self._update(reader)
            if not hours.usable:
                return Activity()
            activity = Activity(first_hour * HOUR_NS, end_hour * HOUR_NS)
            for source, first_ns, last_ns in _select(hours, first_hour, end_hour):
                activity.add(source, first_ns, last_ns)
        return activity

    def _update(self, reader: Fetcher) -> _Hours:
        """Return the sums of all records that the reader sees."""
        hours = self._hours
        next_row = hours.next_row if hours else 0
        state = reader.fetch_one("count_appended_logs", next_row=next_row)
        # Deletions change the number of rows, and row numbers are then assigned again.
        if hours is None or hours.deletion != state["deletion"] or state["rows"] - state["appended"] != hours.rows:
            hours = _Hours(state["deletion"])
        if hours.rows < state["rows"]:
            if hours.usable:
                _add_records(hours, reader)
            hours.next_row, hours.rows = state["next_row"], state["rows"]
        self._hours = hours
        return hours


def _add_records(hours: _Hours, reader: Fetcher) -> None:
    """Add the records whose row number is at least `hours.next_row`."""
    for row in reader.fetch_all("list_prediction_hours", next_row=hours.next_row):
        hour, count = row.pop("hour"), row.pop("record_count")
        first_ns, last_ns = row.pop("first_ns"), row.pop("last_ns")
        if hour is None:
            hours.implausible += count
            continue
        activity = hours.by_hour[hour]
        hours.entries -= len(activity.times)
        activity.add(Source(**row), first_ns, last_ns)
        hours.entries += len(activity.times)
    if not hours.usable:
        hours.by_hour.clear()


def _select(hours: _Hours, first_hour: int, end_hour: int) -> Iterator[tuple[Source, int, int]]:
    for hour, activity in hours.by_hour.items():
        if first_hour <= hour < end_hour:
            for source, (first_ns, last_ns) in activity.times.items():
                yield source, first_ns, last_ns
