"""Search the newest items first, window by window, until there are enough of them."""

from collections.abc import Iterator
from typing import Final, Protocol

from modeltrace_hub.queries.reader import Record

_MINUTE_NS: Final = 60 * 10**9
# Ages at which the windows begin, before the newest item. Each window ends where the previous one begins.
WINDOW_AGES_NS: Final = tuple(minutes * _MINUTE_NS for minutes in (10, 12 * 60))


class Fetch(Protocol):
    """Fetch at most `limit` items of a window, newest first. The start is exclusive, the end inclusive."""

    def __call__(self, since_ns: int, until_ns: int, limit: int) -> list[Record]:
        """Return the items."""


def collect_newest(fetch: Fetch, newest_ns: int, since_ns: int, limit: int) -> list[Record]:
    """Return at most `limit` items, newest first.

    Args:
        fetch: reads one window.
        newest_ns: the time of the newest item.
        since_ns: all items are later than this.
        limit: the maximum number of items.
    """
    items: list[Record] = []
    until_ns = newest_ns
    for start_ns in _window_starts(newest_ns, since_ns):
        items += fetch(start_ns, until_ns, limit - len(items))
        if len(items) >= limit:
            break
        until_ns = start_ns
    return items


def _window_starts(newest_ns: int, since_ns: int) -> Iterator[int]:
    """Yield the start of each window. The last one is `since_ns`."""
    for age in WINDOW_AGES_NS:
        if newest_ns - age <= since_ns:
            break
        yield newest_ns - age
    yield since_ns
