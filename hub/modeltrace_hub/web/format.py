"""Format numbers, durations and times for the pages, with their units."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from zlib import crc32

import orjson
from markupsafe import Markup

from modeltrace_hub.queries.attribute_values import finite_number

# The number of `.hue-N` classes in hub/modeltrace_hub/web/static/style.css. None is close to red, the colour of errors.
HUE_COUNT: Final = 8

_DURATIONS: Final = ((60 * 10**9, "min"), (10**9, "s"), (10**6, "ms"), (10**3, "µs"), (1, "ns"))
_AGES: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_BYTES: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
_SECONDS: Final = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_DIGITS: Final = 3
_HALF_DAY_NS: Final = 12 * 3600 * 10**9
# Named outputs that are shown on one line.
_MAX_OUTPUTS: Final = 3
_MAX_WRITTEN_OUT: Final = 1e18
# A number with a fraction or an exponent, as JSON has it.
_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_OUTPUT_DIGITS: Final = 6
_VIOLATION_TEXTS: Final = {
    "type": "wrong type",
    "range": "out of range",
    "category": "unknown category",
    "length": "text too long",
    "unknown": "unknown feature",
}


def duration(ns: float | None) -> str:
    """Format nanoseconds: `1.23 ms`, `12.3 ms`, `2.05 s`; a dash for None."""
    if ns is None:
        return "\N{EN DASH}"
    value, unit = _in_largest_unit(ns, _DURATIONS)
    return f"{number(value)}\u202f{unit}"


def _in_largest_unit(value: float, units: Sequence[tuple[int, str]]) -> tuple[float, str]:
    """Convert a value to the largest unit of which it has at least one, or else to the smallest unit."""
    size, unit = next((pair for pair in units if abs(value) >= pair[0]), units[-1])
    return value / size, unit


def span_duration(span: Mapping[str, Any]) -> str:
    """Format the duration of a span, or the reason why it is unknown."""
    if span["duration_ns"] is not None:
        return duration(span["duration_ns"])
    if span["end_ns"] == 0:
        return "unfinished"
    return "no start time" if span["start_ns"] == 0 else "ends before it starts"


def bar_percent(ns: float | None) -> float:
    """Return a duration as percentage of a bar, on a fixed logarithmic scale from 0.1 ms to 10 s."""
    if ns is None:
        return 0.0
    return round(100 * min(math.log10(max(ns, 1e5) / 1e5) / 5, 1.0), 1)


def number(value: float) -> str:
    """Format a number with three significant digits, or an integer with all digits and thousands separators.

    A number below 1 has as many digits as needed to be shown below 1: a confidence of 0.9998 is not shown as 1.00.
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= _MAX_WRITTEN_OUT:
        return f"{value:.{_DIGITS - 1}e}"
    if float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 10**_DIGITS:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.{_DIGITS - 1}e}"
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(value))))
    while abs(value) < 1 <= abs(float(f"{value:.{decimals}f}")):
        decimals += 1
    return f"{value:.{decimals}f}"


def count(value: int | None) -> str:
    """Format a count with thousands separators; a dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:,}"


def short_value(text: str) -> str:
    """Shorten a decimal number to six significant digits; return integers and any other text unchanged."""
    if not _DECIMAL.fullmatch(text):
        return text
    value = float(text)
    large = 10**_OUTPUT_DIGITS <= abs(value) < _MAX_WRITTEN_OUT
    short = f"{value:.0f}" if large else f"{value:.{_OUTPUT_DIGITS}g}"
    return short if len(short) < len(text) else text


def prediction_error(value: str | None, true_label: str | None) -> str | None:
    """Return the error of a predicted number, value minus true label, with its sign; None without two numbers."""
    if not (value and true_label and _DECIMAL.fullmatch(value) and _DECIMAL.fullmatch(true_label)):
        return None
    error = float(value) - float(true_label)
    return f"{'+' if error > 0 else ''}{short_value(repr(error))}"


def confidence(value: float | None) -> str:
    """Format a probability with four decimals. Only the exact values 0 and 1 are shown as 0 and 1: `>0.9999`."""
    if value is None:
        return "\N{EN DASH}"
    if not 0 < value < 1:
        return number(value)
    if value > 0.9999:
        return ">0.9999"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def points(change: float | None) -> str:
    """Format a change of a share in percentage points with two decimals: `+0.58 points`."""
    if change is None or not math.isfinite(change):
        return "\N{EN DASH}"
    hundreds = 100 * change
    if 0 < abs(hundreds) < 0.01:
        return f"{'+' if hundreds > 0 else '-'}<0.01 points"
    return f"{hundreds:+.2f} points" if hundreds else "0 points"


def p_value(value: float) -> str:
    """Format a p-value: `0.0123`, `<0.0001`."""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}".rstrip("0").rstrip(".")


def metric_value(value: float | None, unit: str) -> str:
    """Format a metric's value in its unit (UCUM): times as durations, `{prediction}` as "predictions"."""
    if value is None:
        return "n/a"
    if unit in _SECONDS:
        return duration(value * _SECONDS[unit])
    if unit == "By":
        return byte_size(value)
    word = unit.strip("{}") if unit not in {"", "1"} else ""
    if word and unit.startswith("{") and value != 1:
        word = plural_word(word)
    return f"{number(value)} {word}".rstrip()


def percent(part: float | None) -> str:
    """Format a share: `12.3 %`, `0.4 %`. Only the exact values 0 and 1 are shown as 0 % and 100 %."""
    if part is None or not math.isfinite(part):
        return "\N{EN DASH}"
    hundreds = 100 * part
    rounded = f"{hundreds:.1f}" if abs(hundreds) >= 0.05 or part == 0 else f"{hundreds:.1g}"
    if rounded == "100.0" and part < 1:
        rounded = "99.9"
    return f"{rounded.removesuffix('.0')}\u202f%"


def byte_size(count: float) -> str:
    """Format a number of bytes."""
    value, unit = _in_largest_unit(count, _BYTES)
    return f"{number(value)}\u202f{unit}"


def age(ns: int, now_ns: int) -> str:
    """Format the time since `ns`."""
    seconds = (now_ns - ns) / 1e9
    if seconds < 0:
        return f"in {period(-seconds)}"
    return "now" if seconds < 1 else f"{period(seconds)} ago"


def period(seconds: float) -> str:
    """Format seconds in the largest unit: `7 d`."""
    value, unit = _in_largest_unit(seconds, _AGES)
    return f"{int(value)}\u202f{unit}"


def utc_time(ns: int) -> str:
    """Format a time with microseconds, in UTC."""
    whole, rest = divmod(ns, 10**9)
    try:
        timestamp = datetime.fromtimestamp(whole, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"
    return f"{timestamp:%Y-%m-%d %H:%M:%S}.{rest // 1000:06d} UTC"


def iso_time(ns: int) -> str:
    """Format a time for `<time datetime>`."""
    return utc_time(ns).replace(" UTC", "Z").replace(" ", "T", 1)


def clock_time(ns: int, now_ns: int) -> str:
    """Format the time of day in UTC; with the date if it is over 12 hours from now."""
    return utc_time(ns)[11:19] if abs(now_ns - ns) < _HALF_DAY_NS else utc_time(ns)[:19]


def time_of_day(ns: int) -> str:
    """Format the time of day with milliseconds, in UTC."""
    return utc_time(ns)[11:23]


def unix_seconds(ns: int) -> str:
    """Format a time as the pages' addresses have it: unix seconds with nanoseconds."""
    return f"{max(ns, 0) // 10**9}.{max(ns, 0) % 10**9:09d}"


def clock_text(ns: int) -> str:
    """Format the time of day as short as its precision allows: `12:05:00`, `12:05:00.250`."""
    text = time_of_day(ns)
    return text.removesuffix(".000")


def attribute_text(item: Any) -> str:  # noqa: ANN401  attributes are any JSON
    """Format an attribute: text unchanged, anything else as JSON."""
    return item if isinstance(item, str) else orjson.dumps(item).decode()


def outputs_text(outputs: Any) -> str:  # noqa: ANN401  attributes are any JSON
    """Format named outputs on one line: the first ones, and the number of the others."""
    if not isinstance(outputs, dict):
        return ""
    shown = [
        f"{name} {attribute_text(value) if finite_number(value) is None else number(value)}"
        for name, value in islice(outputs.items(), _MAX_OUTPUTS)
    ]
    more = [f"{len(outputs) - _MAX_OUTPUTS:,} more"] if len(outputs) > _MAX_OUTPUTS else []
    return " · ".join(shown + more)


def line_breaks(key: str) -> Markup:
    """Allow line breaks in a name after dots and underscores."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])", key))


def assign_hues(services: Iterable[str]) -> dict[str, int]:
    """Assign a hue to each service. The name determines it, except if two services of a page have the same hue."""
    assigned: dict[str, int] = {}
    for service in sorted(set(services)):
        preferred = crc32(service.encode()) % HUE_COUNT
        candidates = (hue % HUE_COUNT for hue in range(preferred, preferred + HUE_COUNT))
        assigned[service] = next((hue for hue in candidates if hue not in assigned.values()), preferred)
    return assigned


def violation_text(reason: str | None) -> str:
    """Describe the reason of a schema violation; return an unknown reason unchanged."""
    return _VIOLATION_TEXTS.get(reason, reason) if reason is not None else "\N{EN DASH}"


def plural(count: int, word: str) -> str:
    """Format a count: `1 span`, `2,000 spans`, `2 properties`."""
    return f"{count:,}\u202f{word if count == 1 else plural_word(word)}"


def plural_word(word: str) -> str:
    """Return the plural of a word: `spans`, `properties`, `processes`."""
    if word.endswith("y") and word[-2:-1] not in {"a", "e", "o"}:
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"
