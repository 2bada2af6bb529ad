"""Explain that telemetry has not arrived because services keep it on their disks."""

import time
from collections.abc import Collection
from typing import Final

from modeltrace_hub.queries.reader import Reader

# Services export the number at least once in this time.
MAX_AGE_NS: Final = 300 * 10**9
# Of more services and signals, only so many are named.
MAX_ITEMS: Final = 6
_ITEMS: Final = {"traces": "spans", "logs": "log records", "metrics": "metric points"}


def describe_spooled_items(
    reader: Reader, signals: Collection[str] = tuple(_ITEMS), services: Collection[str] | None = None
) -> str:
    """Return which services keep telemetry on disk and how much, as a sentence; "" if none does.

    Args:
        reader: runs the query.
        signals: the signals to describe.
        services: the services to describe; None for all.
    """
    now_ns = time.time_ns()
    items = [
        f"{row['items']:,.0f} {_ITEMS[row['signal']]} of {(row['service_name'] or '(no name)')[:80]}"
        for row in reader.fetch_all("sum_spooled_items", since_ns=now_ns - MAX_AGE_NS, until_ns=now_ns)
        if row["signal"] in _ITEMS
        and row["signal"] in signals
        and (services is None or row["service_name"] in services)
    ]
    if not items:
        return ""
    more = " and more" if len(items) > MAX_ITEMS else ""
    return (
        f"{', '.join(items[:MAX_ITEMS])}{more} wait on disk: this hub is slower than the service, or was away. They "
        "are sent as soon as the hub accepts them."
    )
