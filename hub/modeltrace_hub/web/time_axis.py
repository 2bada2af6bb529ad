"""The time axis of a chart: steps of equal length, and labels at round times."""

from dataclasses import dataclass
from typing import Final

from modeltrace_hub.web import format as fmt

MAX_LABELS: Final = 8
LAST_LABEL_PERCENT: Final = 95
DAY_NS: Final = 86400 * 10**9


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Steps of equal length."""

    since_ns: int
    step_ns: int
    steps: int

    def percent(self, time_ns: float) -> float:
        """Return the position of a time."""
        return round(100 * (time_ns - self.since_ns) / (self.steps * self.step_ns), 3)

    def labels(self, maximum: int = MAX_LABELS) -> list[tuple[float, str]]:
        """Return labels at round steps, with the date if the axis is longer than a day, and seconds if needed."""
        step_ns = -(-self.steps // maximum) * self.step_ns
        until_ns = self.since_ns + self.steps * self.step_ns
        is_long = until_ns - self.since_ns > DAY_NS
        digits = slice(5, 16) if is_long else slice(11, 19 if step_ns % (60 * 10**9) else 16)
        first = -(-self.since_ns // step_ns) * step_ns
        labels = [(self.percent(time), fmt.utc_time(time)[digits]) for time in range(first, until_ns, step_ns)]
        # A label begins at its time, so the last one may have no room.
        return [label for label in labels if label[0] <= LAST_LABEL_PERCENT]
