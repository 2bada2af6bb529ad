"""How figures are written for people: always with their unit, never more digits than can be read."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zlib import crc32

import orjson
from markupsafe import Markup

# As many as hub/modeltrace_hub/web/static/style.css names; none is near red, which means an error.
HUES: Final = 8

_DURATIONS: Final = ((60 * 10**9, "min"), (10**9, "s"), (10**6, "ms"), (10**3, "µs"), (1, "ns"))
_AGES: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_BYTES: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SECONDS: Final = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_DIGITS: Final = 3
_MOST_WRITTEN_OUT: Final = 1e18
_VIOLATED: Final = {
    "type": "wrong type",
    "range": "out of range",
    "category": "unknown category",
    "length": "text too long",
    "unknown": "unknown feature",
}


def duration(ns: float | None) -> str:
    """`1.23 ms`, `12.3 ms`, `2.05 s`; a dash where there is none."""
    if ns is None:
        return "\N{EN DASH}"
    if ns == 0:
        return "0 ns"
    for size, unit in _DURATIONS:
        if abs(ns) >= size:
            return f"{number(ns / size)}\u202f{unit}"
    return f"{number(ns)}\u202fns"


def lasted(span: Mapping[str, Any]) -> str:
    """How long a span took, or why that is not known."""
    if span["duration_ns"] is not None:
        return duration(span["duration_ns"])
    if span["end_ns"] == 0:
        return "unfinished"
    return "no start time" if span["start_ns"] == 0 else "ends before it starts"


def share(ns: float | None) -> float:
    """A duration as percentage of a bar: logarithmic from 0.1 ms to 10 s, so that a bar stays when others arrive."""
    if ns is None:
        return 0.0
    return round(100 * min(math.log10(max(ns, 1e5) / 1e5) / 5, 1.0), 1)


def number(value: float) -> str:
    """Three significant digits, all digits of a whole number, thousands separated.

    What is below one stays below it, with as many digits as that takes: a confidence of 0.9998 is no certainty.
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= _MOST_WRITTEN_OUT:
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


def measure(value: float | None, unit: str) -> str:
    """A metric's value in its unit (UCUM): times are written as durations, `{prediction}` as its word."""
    if value is None:
        return "n/a"
    if unit in _SECONDS:
        return duration(value * _SECONDS[unit])
    if unit == "By":
        return size(value)
    word = unit.strip("{}") if unit not in {"", "1"} else ""
    if word and unit.startswith("{") and value != 1:
        word += "s"
    return f"{number(value)} {word}".rstrip()


def percent(part: float | None) -> str:
    """A share: `12.3 %`, `0.4 %`, never 0 or 100 but where it is."""
    if part is None or not math.isfinite(part):
        return "\N{EN DASH}"
    hundreds = 100 * part
    rounded = f"{hundreds:.1f}" if abs(hundreds) >= 0.05 or part == 0 else f"{hundreds:.1g}"
    if rounded == "100.0" and part < 1:
        rounded = "99.9"
    return f"{rounded.removesuffix('.0')}\u202f%"


def size(count: float) -> str:
    """Bytes."""
    for factor, unit in _BYTES:
        if abs(count) >= factor:
            return f"{number(count / factor)}\u202f{unit}"
    return f"{number(count)}\u202fB"


def age(ns: int, now_ns: int) -> str:
    """How long ago that was."""
    seconds = (now_ns - ns) / 1e9
    if seconds < 0:
        return f"in {_span(-seconds)}"
    return "now" if seconds < 1 else f"{_span(seconds)} ago"


def span_of(seconds: float) -> str:
    """A length of time in its largest unit: `7 d`."""
    return _span(seconds)


def _span(seconds: float) -> str:
    for factor, unit in _AGES:
        if seconds >= factor:
            return f"{int(seconds // factor)}\u202f{unit}"
    return "0\u202fs"


def exact(ns: int) -> str:
    """A time to the microsecond, in UTC."""
    whole, rest = divmod(ns, 10**9)
    try:
        moment = datetime.fromtimestamp(whole, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest // 1000:06d} UTC"


def machine(ns: int) -> str:
    """A time for `<time datetime>`."""
    return exact(ns).replace(" UTC", "Z").replace(" ", "T", 1)


def clock(ns: int) -> str:
    """The time of day, to the millisecond, in UTC."""
    return exact(ns)[11:23]


def shown(item: Any) -> str:  # noqa: ANN401  attributes are any JSON
    """An attribute's value: text as it is, everything else as JSON."""
    return item if isinstance(item, str) else orjson.dumps(item).decode()


def breakable(key: str) -> Markup:
    """A name that may be broken behind its dots and underscores."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])", key))


def hues(services: Iterable[str]) -> dict[str, int]:
    """A hue for each service: its own on every page, but where two of one page would be alike."""
    given: dict[str, int] = {}
    for service in sorted(set(services)):
        own = crc32(service.encode()) % HUES
        free = (hue % HUES for hue in range(own, own + HUES) if hue % HUES not in given.values())
        given[service] = next(free, own)
    return given


def violated(reason: str | None) -> str:
    """How a value broke the schema, in words; a reason that is not known here as it came."""
    return _VIOLATED.get(reason, reason) if reason is not None else "\N{EN DASH}"


def plural(count: int, word: str) -> str:
    """`1 span`, `2,000 spans`."""
    return f"{count:,}\u202f{word}" if count == 1 else f"{count:,}\u202f{word}s"
