"""Count rows that repeat, because drift thresholds assume independent rows."""

from collections.abc import Iterable
from typing import Final

from modeltrace.telemetry.records.prediction import Value

# A row is compared with the last distinct rows: at least with this number of them, and at most with twice as many.
REMEMBERED_ROWS: Final = 4096


class RepeatedRowCounter:
    """Counts rows that equal one of the last distinct rows.

    It remembers hashes in two generations, and drops the older one when the newer one is full. Hashes never leave the
    process.
    """

    def __init__(self, max_remembered: int = REMEMBERED_ROWS) -> None:
        self.count = 0
        self._max_remembered = max_remembered
        self._older: set[int] = set()
        self._newer: set[int] = set()

    def add(self, rows: Iterable[tuple[Value, ...]]) -> None:
        """Count further rows."""
        older, newer = self._older, self._newer
        for row in rows:
            digest = hash(row)
            if digest in newer:
                self.count += 1
                continue
            self.count += digest in older
            newer.add(digest)
            if len(newer) >= self._max_remembered:
                older, newer = newer, set()
        self._older, self._newer = older, newer
