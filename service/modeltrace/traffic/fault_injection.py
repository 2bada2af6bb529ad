"""Inject faults into generated rows and requests.

Each share is exact: after any number of calls, the number of selected calls differs from its expected value by less
than one. Runs with the same seed inject the same faults.
"""

import itertools
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from modeltrace.errors import SettingsError
from modeltrace.inference.schema import Feature
from modeltrace.inference.time_values import TimeColumn, parse_duration

Row = dict[str, object]

# A slow request sends its body in this many chunks over this many seconds.
SLOW_BODY_CHUNKS = 20
SLOW_BODY_SECONDS = 2.0

UNKNOWN_FEATURE = "no_such_feature"
# The limit of times and durations, in microseconds: that of 64-bit nanoseconds.
MAX_MICROSECONDS = 2**63 // 1000
NUMERIC_TYPES = ("number", "integer")

_SHIFT = re.compile(r"(?P<feature>.+?)(?P<sign>\+=|=)(?P<number>[^=]+?)(?P<unit>sd)?")


def make_rng(seed: int | None) -> random.Random:
    """Return the random number generator of a run; without a seed, each run differs."""
    return random.Random(seed)  # noqa: S311  repeatable, not secret


def select_evenly(share: float, phase: float) -> Iterator[bool]:
    """Yield whether each call is selected: a share of them, at even intervals (Bresenham's line).

    `phase` in 0..1 determines the first selected call.
    """
    for call in itertools.count():
        yield math.floor((call + 1) * share + phase) > math.floor(call * share + phase)


@dataclass(frozen=True, slots=True)
class Shift:
    """Drift of one feature of numbers, times or durations: the value is multiplied by `factor`, then `offset` is added.

    `std_devs` is an offset in standard deviations of the training data; `resolve` converts it to `offset`, and sets
    `column` for times and durations. Their offsets are in seconds, and written as a duration.
    """

    feature: str
    factor: float = 1.0
    offset: float = 0.0
    std_devs: float = 0.0
    is_duration: bool = False
    column: TimeColumn | None = None

    def resolve(self, features: Sequence[Feature]) -> "Shift":
        """Return the shift with its offset in the unit of the feature.

        Raises:
            SettingsError: the model has no feature of that name that can be shifted in this way, or its standard
                deviation is unknown.
        """
        shiftable = {feature.name: feature for feature in features if feature.type in NUMERIC_TYPES or feature.is_time}
        feature = shiftable.get(self.feature)
        if feature is None:
            raise SettingsError(
                f"--shift {self.feature}: the model has no feature of that name with numbers, times or durations; it "
                f"has {', '.join(shiftable)}"
            )
        column = feature.time_column if feature.is_time else None
        self._check_form(column)
        if not self.std_devs:
            return replace(self, column=column)
        deviation = feature.reference.deviation
        if not deviation:
            raise SettingsError(
                f"--shift {self.feature}: the feature's standard deviation is 0 or not published by the model; write "
                f"FEATURE+={'P1D, or another duration' if column else 'X with a number in the unit of the feature'}"
            )
        return replace(self, offset=self.offset + self.std_devs * deviation, std_devs=0.0, column=column)

    def _check_form(self, column: TimeColumn | None) -> None:
        if self.is_duration and column is None:
            raise SettingsError(f"--shift {self.feature}: the feature contains numbers, so write a number after +=")
        if column is not None and self.offset and not self.is_duration:
            raise SettingsError(f"--shift {self.feature}: write a duration after +=, such as P30D or -PT12H")
        if column is not None and column.kind == "datetime" and self.factor != 1:
            raise SettingsError(f"--shift {self.feature}: a time has no multiples; write FEATURE+=P30D or FEATURE+=1sd")

    def apply(self, row: Row) -> None:
        """Shift the value in place. A missing value stays missing; an integer stays an integer."""
        value = row.get(self.feature)
        if self.column is not None:
            if isinstance(value, str):
                with suppress(ValueError):  # a text that is no time is sent as it is
                    row[self.feature] = self._shift_time(self.column, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            shifted = value * self.factor + self.offset
            row[self.feature] = round(shifted) if isinstance(value, int) else shifted

    def _shift_time(self, column: TimeColumn, text: str) -> str:
        shifted = round(column.to_microseconds(text) * self.factor + self.offset * 1e6)
        return column.to_text(min(max(shifted, -MAX_MICROSECONDS), MAX_MICROSECONDS))


def parse_shift(text: str) -> Shift:
    """Parse `FEATURE=FACTOR`, `FEATURE+=X`, `FEATURE+=DURATION` or `FEATURE+=Xsd` (standard deviations).

    Raises:
        SettingsError: the text has none of these forms.
    """
    match = _SHIFT.fullmatch(text)
    if match and match["sign"] == "+=":
        with suppress(ValueError):
            duration = parse_duration(match["number"] + (match["unit"] or ""))
            return Shift(match["feature"], offset=duration / 1e6, is_duration=True)
    try:
        number = float(match["number"]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number) or (match["unit"] and match["sign"] == "="):
        raise SettingsError(
            f"--shift {text}: write FEATURE=FACTOR, FEATURE+=X or FEATURE+=Xsd (standard deviations), e.g. "
            "mean_radius=1.5 or mean_radius+=1sd; for a time or duration FEATURE+=P30D"
        )
    if match["sign"] == "=":
        return Shift(match["feature"], factor=number)
    if match["unit"]:
        return Shift(match["feature"], std_devs=number)
    return Shift(match["feature"], offset=number)


@dataclass(frozen=True, slots=True)
class FaultConfig:
    """Shares (0..1) of rows and requests with each fault. Shifts start after `shift_after` seconds."""

    missing: float = 0.0
    wrong_type: float = 0.0
    errors: float = 0.0
    slow: float = 0.0
    shifts: tuple[Shift, ...] = ()
    shift_after: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestFault:
    """Faults of one request. A request with `error` is invalid; if it is also `malformed`, its body is not JSON."""

    error: bool
    malformed: bool
    slow: bool


class FaultInjector:
    """Inject faults into rows and requests."""

    def __init__(
        self,
        config: FaultConfig,
        features: Sequence[Feature],
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock for `shift_after`.

        Raises:
            SettingsError: a shift cannot be resolved for these features.
        """
        self._features = features
        self._shifts = tuple(shift.resolve(features) for shift in config.shifts)
        self._clock = clock
        self._shift_at = clock() + config.shift_after
        self._rng = rng
        self._missing = select_evenly(config.missing, rng.random())
        self._wrong_type = select_evenly(config.wrong_type, rng.random())
        self._errors = select_evenly(config.errors, rng.random())
        self._slow = select_evenly(config.slow, rng.random())

    def inject_into_row(self, row: Row) -> bool:
        """Change the row in place. Return whether the service may reject the row because of the changes."""
        shifts = self._shifts if self._shifts and self._clock() >= self._shift_at else ()
        for shift in shifts:
            shift.apply(row)
        missing, wrong_type = next(self._missing), next(self._wrong_type)
        if not missing and not wrong_type:
            return bool(shifts)
        # Choose two different features if possible, so that one fault does not replace the other.
        targets = self._rng.sample(self._features, k=min(2, len(self._features)))
        if missing:
            row[targets[0].name] = None
        if wrong_type:
            row[targets[-1].name] = value_of_wrong_type(targets[-1])
        return True

    def inject_into_request(self, rows: Sequence[Row]) -> RequestFault:
        """Choose the faults of a request. If one is an unknown feature, add it to the first row in place."""
        error, slow = next(self._errors), next(self._slow)
        malformed = error and self._rng.random() < 0.5
        if error and not malformed:
            rows[0][UNKNOWN_FEATURE] = 1
        return RequestFault(error=error, malformed=malformed, slow=slow)


def value_of_wrong_type(feature: Feature) -> object:
    """Return a value of a type that the feature does not accept."""
    return "not a number" if feature.type in NUMERIC_TYPES else 0.5
