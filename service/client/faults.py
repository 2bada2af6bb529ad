"""Misbehaviour on request: which rows and requests are spoilt, and how.

Every share is exact: after any number of turns, the number spoilt differs from its share by less than one. A run with
the same seed spoils the same ones.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import SettingsError
from service.inference.schema import Feature

Row = dict[str, object]

# A slow client sends its body in this many pieces, over this many seconds.
SLOW_PIECES = 20
SLOW_SECONDS = 2.0

UNKNOWN_FEATURE = "no_such_feature"
NUMERIC = ("number", "integer")

_SHIFT = re.compile(r"(?P<feature>.+?)(?P<sign>\+=|=)(?P<number>[^=]+)")


def seeded(seed: int | None) -> random.Random:
    """The one source of chance in a run; without a seed it is another one every time."""
    return random.Random(seed)  # noqa: S311  repeatable, not secret


class Share:
    """Says yes in a given share of its turns, evenly spread (Bresenham's line), starting at `phase`."""

    def __init__(self, share: float, phase: float) -> None:
        self._share = share
        self._phase = phase
        self._turns = 0

    def turn(self) -> bool:
        """Take one turn."""
        before = math.floor(self._turns * self._share + self._phase)
        self._turns += 1
        return math.floor(self._turns * self._share + self._phase) > before


@dataclass(frozen=True, slots=True)
class Shift:
    """Moves one numeric feature of every row: drift, as the service sees it."""

    feature: str
    factor: float = 1.0
    offset: float = 0.0

    def apply(self, row: Row) -> None:
        """Move the value in place; a missing one stays missing, an integer stays one."""
        value = row.get(self.feature)
        if isinstance(value, int | float) and not isinstance(value, bool):
            moved = value * self.factor + self.offset
            row[self.feature] = round(moved) if isinstance(value, int) else moved


def parse_shift(text: str) -> Shift:
    """Read `FEATURE=FACTOR` or `FEATURE+=X`.

    Raises:
        SettingsError: it is neither.
    """
    match = _SHIFT.fullmatch(text)
    try:
        number = float(match["number"]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number):
        raise SettingsError(f"--shift {text}: write FEATURE=FACTOR or FEATURE+=X, e.g. mean_radius=1.5")
    if match["sign"] == "=":
        return Shift(match["feature"], factor=number)
    return Shift(match["feature"], offset=number)


def check_shifts(shifts: Sequence[Shift], features: Sequence[Feature]) -> None:
    """See that the model has each feature, and that it is a number.

    Raises:
        SettingsError: one is not.
    """
    numeric = [feature.name for feature in features if feature.type in NUMERIC]
    for shift in shifts:
        if shift.feature not in numeric:
            raise SettingsError(
                f"--shift {shift.feature}: the model has no numeric feature of that name; it has {', '.join(numeric)}"
            )


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """How much of each kind is asked for; all shares lie in 0..1."""

    missing: float = 0.0
    wrong_type: float = 0.0
    errors: float = 0.0
    slow: float = 0.0
    shifts: tuple[Shift, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestFault:
    """How one request is spoilt: an error, whether that is a body that is not JSON, and whether it is sent slowly."""

    error: bool
    malformed: bool
    slow: bool


class Spoiler:
    """Spoils rows and requests as asked."""

    def __init__(self, asked: Misbehaviour, features: Sequence[Feature], rng: random.Random) -> None:
        self._features = features
        self._shifts = asked.shifts
        self._rng = rng
        self._missing = Share(asked.missing, rng.random())
        self._wrong_type = Share(asked.wrong_type, rng.random())
        self._errors = Share(asked.errors, rng.random())
        self._slow = Share(asked.slow, rng.random())

    def spoil_row(self, row: Row) -> bool:
        """Change the row in place; whether the service may refuse it for that."""
        for shift in self._shifts:
            shift.apply(row)
        missing, wrong_type = self._missing.turn(), self._wrong_type.turn()
        if not missing and not wrong_type:
            return bool(self._shifts)
        # Two places where there are two, so that one fault does not hide the other.
        places = self._rng.sample(self._features, k=min(2, len(self._features)))
        if missing:
            row[places[0].name] = None
        if wrong_type:
            row[places[-1].name] = wrong_value(places[-1])
        return True

    def spoil_request(self, rows: Sequence[Row]) -> RequestFault:
        """Decide how the request with these rows is spoilt; an unknown feature goes into the first row."""
        error, slow = self._errors.turn(), self._slow.turn()
        malformed = error and self._rng.random() < 0.5
        if error and not malformed:
            rows[0][UNKNOWN_FEATURE] = 1
        return RequestFault(error=error, malformed=malformed, slow=slow)


def wrong_value(feature: Feature) -> object:
    """A value whose type the feature cannot have."""
    return "not a number" if feature.type in NUMERIC else 0.5
