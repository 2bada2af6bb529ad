"""The time range of the pages: an age up to now, or from one time to another. Links carry it from page to page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from modeltrace_hub.durations import parse_duration_ns
from modeltrace_hub.queries.list_parameters import parse_time_ns
from modeltrace_hub.web.format import iso_time

PARAMETERS: Final = ("since", "until")
# The ages that the pages offer, with their labels.
CHOICES: Final = {"15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d"}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A time range as the address writes it. Without `since`, it begins with the oldest record."""

    since: str = ""
    until: str = ""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The parameters of the address."""
        return [(name, getattr(self, name)) for name in PARAMETERS if getattr(self, name)]

    @property
    def query(self) -> str:
        """The query of a link that has no other parameters: "" or `?since=1h`."""
        return f"?{urlencode(self.pairs)}" if self.pairs else ""

    @property
    def more(self) -> str:
        """The end of the query of a link that has other parameters: "" or `&since=1h`."""
        return f"&{urlencode(self.pairs)}" if self.pairs else ""

    @property
    def is_fixed(self) -> bool:
        """Whether the range does not move with the clock."""
        return bool(self.until) or bool(self.since and not _is_age(self.since))

    @property
    def fields(self) -> dict[str, str]:
        """The values of the two fields for dates and times, in UTC; "" for an age or an invalid time."""
        return {name: _field_value(getattr(self, name)) for name in PARAMETERS}


def read_time_range(parameters: Mapping[str, str]) -> TimeRange:
    """Return the time range of the parameters of a page. The parameter `window` is an older name of an age."""
    since = parameters.get("since") or parameters.get("window") or ""
    return TimeRange(since[:80], parameters.get("until", "")[:80])


def describe_window(time_range: TimeRange, default: str) -> str:
    """Return the name of a window for a heading: its age, or "this time"."""
    return "this time" if time_range.is_fixed else time_range.since or default


def _is_age(text: str) -> bool:
    try:
        return parse_duration_ns(text) is not None
    except ValueError:
        return False


def _field_value(text: str) -> str:
    if not text or _is_age(text):
        return ""
    try:
        return iso_time(parse_time_ns(text)).removesuffix("Z")[:19]
    except ValueError:
        return ""
