"""Times and durations as features: ISO 8601 text in requests, seconds in distributions, NumPy values for the model.

A time is text such as `2024-01-31T12:00:00Z`. It has an offset if and only if the column of the training data has a
time zone. A duration is text such as `P1DT2H3M4.5S`, with days of 24 hours; weeks, months and years are not accepted.
Texts have a resolution of a microsecond.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

TimeKind = Literal["datetime", "timedelta"]
TimeUnit = Literal["s", "ms", "us", "ns"]

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  naive values are compared with it
_UTC_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Nanoseconds since 1970 fit into 64 bits in these years, in every time zone.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
_MAX_DURATION: Final = timedelta(days=106_000)
# Microseconds of the first and the last time, and of the shortest and the longest duration, that every request can
# send: the first and the last day of the years above depend on the time zone.
_TIME_LIMITS: Final = (
    (datetime(_FIRST_YEAR, 1, 2) - _EPOCH) // _MICROSECOND,  # noqa: DTZ001  as above
    (datetime(_LAST_YEAR, 12, 31) - _EPOCH) // _MICROSECOND,  # noqa: DTZ001  as above
)
_DURATION_LIMITS: Final = (-_MAX_DURATION // _MICROSECOND, _MAX_DURATION // _MICROSECOND)
_DURATION: Final = re.compile(
    r"(?P<sign>[-+]?)P(?:(?P<days>\d{1,9})D)?(?:T(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?"
    r"(?:(?P<seconds>\d{1,12})(?:[.,](?P<fraction>\d{1,9}))?S)?)?",
    re.ASCII,
)


class TimeColumn(NamedTuple):
    """How a column of times or durations is represented.

    Attributes:
        kind: a point in time, or a duration.
        unit: the unit of the NumPy values of the training column.
        timezone: the time zone of the training column; `None` if its times have none, and for durations.
    """

    kind: TimeKind
    unit: TimeUnit
    timezone: str | None

    @property
    def expected(self) -> str:
        """What a request has to send, for messages."""
        if self.kind == "timedelta":
            return "an ISO 8601 duration, e.g. P1DT2H30M"
        return f"an ISO 8601 time with{'' if self.timezone else 'out'} an offset, e.g. 2024-01-31T12:00:00" + (
            "Z" if self.timezone else ""
        )

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest value that every request can send, in microseconds."""
        return _DURATION_LIMITS if self.kind == "timedelta" else _TIME_LIMITS

    @property
    def limits_text(self) -> str:
        """The limits, for messages."""
        if self.kind == "timedelta":
            return f"durations of up to {_MAX_DURATION.days:,} days"
        return f"times of the years {_FIRST_YEAR} to {_LAST_YEAR}"

    def to_microseconds(self, text: str) -> int:
        """Return the microseconds of a duration, or from 1970-01-01 (UTC if the column has a time zone) to a time.

        Raises:
            ValueError: the text is neither, or is out of the range of 64-bit nanoseconds.
        """
        if self.kind == "timedelta":
            return parse_duration(text)
        time = datetime.fromisoformat(text)
        if (time.tzinfo is None) != (self.timezone is None) or not _FIRST_YEAR <= time.year <= _LAST_YEAR:
            raise ValueError(text)
        return (time - (_EPOCH if self.timezone is None else _UTC_EPOCH)) // _MICROSECOND

    def to_seconds(self, text: str) -> float:
        """Return the seconds of a text; see `to_microseconds`."""
        return self.to_microseconds(text) / 1e6

    def to_text(self, microseconds: int) -> str:
        """Return the text of a time or duration."""
        duration = timedelta(microseconds=microseconds)
        if self.kind == "timedelta":
            return format_duration(duration)
        if self.timezone is None:
            return (_EPOCH + duration).isoformat()
        return (_UTC_EPOCH + duration).isoformat().replace("+00:00", "Z")


def format_duration(duration: timedelta) -> str:
    """Return the ISO 8601 text of a duration: days, hours, minutes and seconds."""
    sign = "-" if duration < timedelta(0) else ""
    total = abs(duration)
    minutes, seconds = divmod(total.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{total.microseconds:06}".rstrip("0") if total.microseconds else ""
    return f"{sign}P{total.days}DT{hours}H{minutes}M{seconds}{fraction}S"


def to_time_text(value: Any) -> Any:  # noqa: ANN401  any cell
    """Return the text of a time or duration that a table contains, and any other value unchanged."""
    if isinstance(value, datetime):
        return value.isoformat()
    return format_duration(value) if isinstance(value, timedelta) else value


def seconds_fn(column: TimeColumn) -> Callable[[Any], Any]:
    """Return a function that converts a text to seconds; anything else stays unchanged."""

    def convert(value: Any) -> Any:  # noqa: ANN401  any value of a row
        try:
            return column.to_seconds(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return convert


def parse_duration(text: str) -> int:
    """Return the microseconds of an ISO 8601 duration.

    Raises:
        ValueError: the text is not a duration, or the duration is longer than 106,000 days.
    """
    match = _DURATION.fullmatch(text)
    if match is None or text.endswith(("P", "T")):
        raise ValueError(text)
    parts = {name: int(value or 0) for name, value in match.groupdict().items() if name not in ("sign", "fraction")}
    fraction = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    try:
        duration = timedelta(**parts, microseconds=fraction)
    except OverflowError:
        raise ValueError(text) from None
    if duration > _MAX_DURATION:
        raise ValueError(text)
    microseconds = duration // _MICROSECOND
    return -microseconds if match["sign"] == "-" else microseconds
