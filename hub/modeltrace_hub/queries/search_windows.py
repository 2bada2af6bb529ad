"""Search the newest items first, window by window, until there are enough of them."""

from collections.abc import Iterator
from typing import Final, Protocol

from modeltrace_hub.queries.reader import Record

# The condition on the records from the position of a cursor on, which is at `$cursor_ns` and `$cursor_received_ns`.
NOT_NEWER_THAN_CURSOR: Final = "(effective_ns < $cursor_ns OR received_ns <= $cursor_received_ns)"
_MINUTE_NS: Final = 60 * 10**9
# The start of each window, as an age before the newest item. Each window ends where the previous one begins.
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


def cut_page(records: list[Record], limit: int, skip: int) -> tuple[list[Record], str | None]:
    """Return the records of a page and the cursor of the next page; None if there is no next page.

    Args:
        records: the records from the position of the cursor on, by `effective_ns` and `received_ns`, newest first: at
            least `limit + skip + 1`, if there are so many.
        limit: the number of records of a page.
        skip: the number of records that the previous page has shown.
    """
    if len(records) <= limit + skip:
        return records[skip:], None
    records = records[: limit + skip]
    last = _times(records[-1])
    return records[skip:], f"{last[0]}-{last[1]}-{sum(_times(record) == last for record in records)}"


def _times(record: Record) -> tuple[int, int]:
    return record["effective_ns"], record["received_ns"]


def _window_starts(newest_ns: int, since_ns: int) -> Iterator[int]:
    """Yield the start of each window. The last one is `since_ns`."""
    for age in WINDOW_AGES_NS:
        if newest_ns - age <= since_ns:
            break
        yield newest_ns - age
    yield since_ns
