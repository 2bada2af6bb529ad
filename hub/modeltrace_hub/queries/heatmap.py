"""Count traces by time and duration: the cells of a heatmap, whose rows are logarithmic."""

from dataclasses import dataclass
from typing import Final

from modeltrace_hub.durations import MAX_NS
from modeltrace_hub.queries.explain_sets import set_conditions
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.reader import Reader

# Without a start, the heatmap covers at most this time up to the newest trace.
COVERED_NS: Final = 3600 * 10**9
MAX_STEPS: Final = 60
MAX_ROWS: Final = 30
# The lower bounds of the rows of one decade, as multiples of its power of ten: of all rows, or of rows in pairs.
FINE: Final = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
COARSE: Final = (1.0, 2.0, 5.0)
_COARSE_ROW: Final = (0, 0, 1, 1, 2, 2)

_MS: Final = 10**6
_UNITS: Final = (
    *(unit * count for unit in (_MS, 10 * _MS, 100 * _MS) for count in (1, 2, 5)),
    *(count * 10**9 for count in (1, 2, 5, 10, 15, 30)),
    *(count * 60 * 10**9 for count in (1, 2, 5, 10, 15, 30)),
    *(count * 3600 * 10**9 for count in (1, 2, 3, 6, 12, 24)),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """The traces of one step of time and one row."""

    step: int
    row: int
    trace_count: int
    error_count: int


@dataclass(frozen=True, slots=True)
class Heatmap:
    """The cells that are not empty.

    Step `n` has the traces that start from `since_ns + n * step_ns` until before the next step; there are `steps`. Row
    `n` has the durations from `bounds[n]` until before `bounds[n + 1]`, in nanoseconds.
    """

    since_ns: int
    step_ns: int
    steps: int
    bounds: list[int]
    cells: list[Cell]

    @property
    def until_ns(self) -> int:
        """The end, exclusive."""
        return self.since_ns + self.steps * self.step_ns

    @property
    def trace_count(self) -> int:
        """The number of all traces."""
        return sum(cell.trace_count for cell in self.cells)


def read_heatmap(reader: Reader, filters: TraceFilter) -> Heatmap | None:
    """Count the matching traces that have a duration; None if there are none.

    Without a start, they are those of the hour up to the newest matching trace.
    """
    conditions, values = set_conditions(reader, filters, "both")
    times = reader.fetch_one("get_trace_times", conditions, **values)
    if times["last_ns"] is None:
        return None
    first_ns, last_ns = times["first_ns"], times["last_ns"]
    if filters.since is None:
        first_ns = max(first_ns, last_ns - COVERED_NS)
    step_ns = time_step(last_ns - first_ns)
    since_ns = first_ns // step_ns * step_ns
    steps = (last_ns - since_ns) // step_ns + 1
    counts = reader.fetch_all(
        "count_traces_by_duration",
        conditions,
        **values,
        since_ns=since_ns,
        step_ns=step_ns,
        until_ns=min(since_ns + steps * step_ns, MAX_NS),
    )
    rows = [count["row"] for count in counts]
    multiples = FINE if max(rows) - min(rows) < MAX_ROWS else COARSE
    cells: dict[tuple[int, int], list[int]] = {}
    for count in counts:
        row = count["row"]
        if multiples is COARSE:
            row = row // len(FINE) * len(COARSE) + _COARSE_ROW[row % len(FINE)]
        cell = cells.setdefault((count["step"], row), [0, 0])
        cell[0] += count["trace_count"]
        cell[1] += count["error_count"]
    lowest, highest = min(row for _, row in cells), max(row for _, row in cells)
    bounds = [_lower_bound(row, multiples) for row in range(lowest, highest + 2)]
    return Heatmap(
        since_ns,
        step_ns,
        steps,
        bounds,
        [Cell(step, row - lowest, *pair) for (step, row), pair in sorted(cells.items())],
    )


def time_step(length_ns: int) -> int:
    """Return a round length of the steps that divide a range of time into at most `MAX_STEPS`."""
    day = _UNITS[-1]
    # A range that does not start at a multiple of the step needs one step more.
    step = next((unit for unit in _UNITS if length_ns // unit + 2 <= MAX_STEPS), None)
    return step or -(-length_ns // ((MAX_STEPS - 2) * day)) * day


def _lower_bound(row: int, multiples: tuple[float, ...]) -> int:
    decade, index = divmod(row, len(multiples))
    return -int(-multiples[index] * 10**decade // 1)
