"""Misbehaviour on request: which rows and requests are spoilt, and how.

Every share is exact: after any number of turns, the number spoilt differs from its share by less than one. A run with
the same seed spoils the same ones.
"""

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from modeltrace.errors import SettingsError
from modeltrace.inference.schema import Feature

Row = dict[str, object]

# A slow client sends its body in this many pieces, over this many seconds.
SLOW_BODY_CHUNKS = 20
SLOW_BODY_SECONDS = 2.0

UNKNOWN_FEATURE = "no_such_feature"
NUMERIC_TYPES = ("number", "integer")

_SHIFT = re.compile(r"(?P<feature>.+?)(?P<sign>\+=|=)(?P<number>[^=]+?)(?P<unit>sd)?")


def make_rng(seed: int | None) -> random.Random:
    """The one source of chance in a run; without a seed it is another one every time."""
    return random.Random(seed)  # noqa: S311  repeatable, not secret


class EvenSelector:
    """Says yes in a given share of its turns, evenly spread (Bresenham's line), starting at `phase`."""

    def __init__(self, share: float, phase: float) -> None:
        self._share = share
        self._phase = phase
        self._calls = 0

    def select(self) -> bool:
        """Take one turn."""
        before = math.floor(self._calls * self._share + self._phase)
        self._calls += 1
        return math.floor(self._calls * self._share + self._phase) > before


@dataclass(frozen=True, slots=True)
class Shift:
    """Moves one numeric feature of every row: drift, as the service sees it.

    `deviations` are standard deviations of the training data, which `resolved` makes an offset of.
    """

    feature: str
    factor: float = 1.0
    offset: float = 0.0
    std_devs: float = 0.0

    def resolve(self, features: Sequence[Feature]) -> "Shift":
        """Return the shift in the feature's own unit.

        Raises:
            SettingsError: the model has no numeric feature of that name, or does not tell its deviation.
        """
        numeric = {feature.name: feature for feature in features if feature.type in NUMERIC_TYPES}
        if self.feature not in numeric:
            raise SettingsError(
                f"--shift {self.feature}: the model has no numeric feature of that name; it has {', '.join(numeric)}"
            )
        if not self.std_devs:
            return self
        deviation = numeric[self.feature].reference.deviation
        if not deviation:
            raise SettingsError(
                f"--shift {self.feature}: the model does not tell the feature's standard deviation, or it is 0; write "
                "FEATURE+=X with a number in its own unit"
            )
        return replace(self, offset=self.offset + self.std_devs * deviation, std_devs=0.0)

    def apply(self, row: Row) -> None:
        """Move the value in place; a missing one stays missing, an integer stays one."""
        value = row.get(self.feature)
        if isinstance(value, int | float) and not isinstance(value, bool):
            moved = value * self.factor + self.offset
            row[self.feature] = round(moved) if isinstance(value, int) else moved


def parse_shift(text: str) -> Shift:
    """Read `FEATURE=FACTOR`, `FEATURE+=X` or `FEATURE+=Xsd`, which is in standard deviations of the training data.

    Raises:
        SettingsError: it is none of them.
    """
    match = _SHIFT.fullmatch(text)
    try:
        number = float(match["number"]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number) or (match["unit"] and match["sign"] == "="):
        raise SettingsError(
            f"--shift {text}: write FEATURE=FACTOR, FEATURE+=X or FEATURE+=Xsd (standard deviations), e.g. "
            "mean_radius=1.5 or mean_radius+=1sd"
        )
    if match["sign"] == "=":
        return Shift(match["feature"], factor=number)
    if match["unit"]:
        return Shift(match["feature"], std_devs=number)
    return Shift(match["feature"], offset=number)


@dataclass(frozen=True, slots=True)
class FaultConfig:
    """How much of each kind is asked for; all shares lie in 0..1. Shifts begin after `shift_after` seconds."""

    missing: float = 0.0
    wrong_type: float = 0.0
    errors: float = 0.0
    slow: float = 0.0
    shifts: tuple[Shift, ...] = ()
    shift_after: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestFault:
    """How one request is spoilt: an error, whether that is a body that is not JSON, and whether it is sent slowly."""

    error: bool
    malformed: bool
    slow: bool


class FaultInjector:
    """Spoils rows and requests as asked."""

    def __init__(
        self,
        config: FaultConfig,
        features: Sequence[Feature],
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count the time until shifts.

        Raises:
            SettingsError: the model does not have a feature that is to be shifted.
        """
        self._features = features
        self._shifts = tuple(shift.resolve(features) for shift in config.shifts)
        self._clock = clock
        self._shift_at = clock() + config.shift_after
        self._rng = rng
        self._missing = EvenSelector(config.missing, rng.random())
        self._wrong_type = EvenSelector(config.wrong_type, rng.random())
        self._errors = EvenSelector(config.errors, rng.random())
        self._slow = EvenSelector(config.slow, rng.random())

    def inject_into_row(self, row: Row) -> bool:
        """Change the row in place; whether the service may refuse it for that."""
        shifts = self._shifts if self._shifts and self._clock() >= self._shift_at else ()
        for shift in shifts:
            shift.apply(row)
        missing, wrong_type = self._missing.select(), self._wrong_type.select()
        if not missing and not wrong_type:
            return bool(shifts)
        # Two places where there are two, so that one fault does not hide the other.
        places = self._rng.sample(self._features, k=min(2, len(self._features)))
        if missing:
            row[places[0].name] = None
        if wrong_type:
            row[places[-1].name] = value_of_wrong_type(places[-1])
        return True

    def inject_into_request(self, rows: Sequence[Row]) -> RequestFault:
        """Decide how the request with these rows is spoilt; an unknown feature goes into the first row."""
        error, slow = self._errors.select(), self._slow.select()
        malformed = error and self._rng.random() < 0.5
        if error and not malformed:
            rows[0][UNKNOWN_FEATURE] = 1
        return RequestFault(error=error, malformed=malformed, slow=slow)


def value_of_wrong_type(feature: Feature) -> object:
    """A value whose type the feature cannot have."""
    return "not a number" if feature.type in NUMERIC_TYPES else 0.5
