"""The levels of a category: of which JSON type they are, and what their bins are called.

The levels of a column of text are texts. Those of a pandas `category` may be integers, booleans or floats as well; a
client sends them as the JSON type that they have.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

LevelKind = Literal["text", "integer", "boolean", "number"]
Level = bool | int | float | str

_KINDS: dict[type, LevelKind] = {str: "text", int: "integer", bool: "boolean", float: "number"}


def infer_level_kind(levels: Iterable[object]) -> LevelKind | None:
    """The one kind that all levels are of, text where there is none; `None` for several kinds, or another."""
    kinds = {_KINDS.get(type(level)) for level in levels}
    return kinds.pop() if len(kinds) == 1 else None if kinds else "text"


def level_name(level: Level, kind: LevelKind) -> str:
    """What the bin of a level is called: 3 and 3.0 are one level."""
    if kind == "number":
        return repr(float(level))
    if isinstance(level, str):
        return level
    if kind == "integer":
        return str(int(level))
    return "true" if level else "false"


def coerce_level(value: object, kind: LevelKind) -> object:
    """A value of a file as the JSON type of the levels, where it is one; otherwise as it is."""
    match kind:
        case "text":
            return str(value)
        case "boolean":
            return bool(value) if value in (0, 1) else value
        case "integer":
            return int(value) if isinstance(value, float) and value.is_integer() else value
        case _:
            return value


def unseen_level(levels: Sequence[Level], kind: LevelKind) -> Level | None:
    """A level that training did not have; `None` where there is no other."""
    match kind:
        case "text":
            return "a text that training never had"
        case "boolean":
            return next((level for level in (False, True) if level not in levels), None)
        case "integer":
            return int(max(levels)) + 1 if levels else 0
        case _:
            return math.floor(float(max(levels))) + 1.0 if levels else 0.0
