"""Keep the waterfall of a large trace between the requests of its page, which show a part of it each."""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.web.waterfall import Waterfall, read_waterfall

# The waterfalls of smaller traces are not cached: they are built in some tens of milliseconds.
MIN_SPANS: Final = 2000
# A waterfall that no request has used for this time is deleted by the next request of any trace.
MAX_IDLE_SECONDS: Final = 300.0

_Result = tuple[Waterfall, list[Record]]


class _Key(NamedTuple):
    """Identifies the records of a trace: a record that arrives or is deleted changes a number or a time."""

    trace_id: str
    first_received_ns: int
    last_received_ns: int
    span_count: int
    log_count: int
    with_predictions: bool


class WaterfallCache:
    """Read waterfalls, and keep the one of the large trace that was read last. Thread-safe.

    One waterfall only, because 100,000 spans take about 150 MB.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._building = threading.Lock()
        self._entry: tuple[_Key, _Result, float] | None = None

    def read(self, reader: Reader, trace: Record, counts: Record, *, with_predictions: bool) -> _Result:
        """Return `read_waterfall`. The result of a large trace is shared with other requests: do not change it.

        Args:
            reader: runs the queries.
            trace: the result of `locate_trace`.
            counts: the result of the query `count_trace_records` of the same reader.
            with_predictions: whether the log records include the prediction log records.
        """
        key = _Key(
            trace["trace_id"],
            trace["first_received_ns"],
            trace["last_received_ns"],
            counts["span_count"],
            counts["log_count"],
            with_predictions,
        )
        now = self._clock()
        if key.span_count < MIN_SPANS:
            if (entry := self._entry) is not None and now - entry[2] > MAX_IDLE_SECONDS:
                self._entry = None
            return read_waterfall(reader, trace, with_predictions=with_predictions)
        # Requests of the same trace wait for the first one instead of building the same waterfall.
        with self._building:
            entry = self._entry
            if entry is None or entry[0] != key:
                self._entry = None  # free the memory before the next waterfall is built
                result = read_waterfall(reader, trace, with_predictions=with_predictions)
            else:
                result = entry[1]
            self._entry = key, result, now
            return result
