"""Format values in units of UCUM (The Unified Code for Units of Measure), as OpenTelemetry metrics have them."""

from typing import Final

from modeltrace_hub.web import format as fmt

# Units of time in nanoseconds.
_TIMES: Final = {
    "ns": 1.0,
    "us": 1e3,
    "ms": 1e6,
    "s": 1e9,
    "min": 60e9,
    "h": 3600e9,
    "d": 86400e9,
}
# Amounts of data in bytes.
_BYTES: Final = {
    "By": 1.0,
    "kBy": 1e3,
    "MBy": 1e6,
    "GBy": 1e9,
    "KiBy": 2.0**10,
    "MiBy": 2.0**20,
    "GiBy": 2.0**30,
    "TiBy": 2.0**40,
}
# The names of units whose code is not their name.
_NAMES: Final = {
    "ns": "nanoseconds",
    "us": "microseconds",
    "ms": "milliseconds",
    "s": "seconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "By": "bytes",
    "bit": "bits",
}
# The symbols of units whose code is not their symbol.
_SYMBOLS: Final = {"Cel": "°C", "[degF]": "°F", "deg": "°", "Ohm": "Ω", "By": "B", "us": "µs", "m2": "m²", "m3": "m³"}


def format_value(value: float | None, unit: str) -> str:
    """Format a value with its unit: `1.50 ms`, `2.00 KiB`, `3 requests`, `12.5 %`, `1.20 MiB/s`."""
    if value is None:
        return "\N{EN DASH}"
    numerator, slash, denominator = unit.partition("/")
    rest = f"/{_name(denominator)}" if slash else ""
    if numerator in _TIMES and not slash and value:
        return fmt.duration(value * _TIMES[numerator])
    if numerator in _BYTES and value:
        return fmt.byte_size(value * _BYTES[numerator]) + rest
    name = _name(numerator)
    if name and numerator.startswith("{") and value != 1:
        name = fmt.plural_word(name)
    separator = "" if name.startswith("°") else "\u202f"
    return f"{fmt.number(value)}{separator if name else ''}{name}{rest}"


def unit_name(unit: str) -> str:
    """Return the name of a unit: `{request}/s` is "requests/s"; "" for a number without a unit."""
    numerator, slash, denominator = unit.partition("/")
    name = _NAMES.get(numerator) or _name(numerator)
    if numerator.startswith("{"):
        name = fmt.plural_word(name)
    return f"{name or '1'}/{_name(denominator)}" if slash else name


def rate_unit(unit: str) -> str:
    """Return the unit of a rate per second. A time per second is a number without a unit."""
    if unit == "s":
        return "1"
    return "/s" if unit in {"", "1"} else f"{unit}/s"


def _name(code: str) -> str:
    """Return the symbol or word of one unit; annotations in braces are words."""
    if code in {"", "1"}:
        return ""
    return _SYMBOLS.get(code, code.replace("{", "").replace("}", "").strip("1") if "{" in code else code)
