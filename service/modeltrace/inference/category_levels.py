"""The levels of a categorical feature: their JSON type, and the names of their bins.

The levels of a text column are strings. The levels of a pandas `category` column may also be integers, booleans or
floats; a client sends them as the corresponding JSON type.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

LevelKind = Literal["text", "integer", "boolean", "number"]
Level = bool | int | float | str

_KINDS: dict[type, LevelKind] = {str: "text", int: "integer", bool: "boolean", float: "number"}


def infer_level_kind(levels: Iterable[object]) -> LevelKind | None:
    """Return the kind that all levels have, `text` for no levels, or `None` for mixed or unsupported kinds."""
    kinds = {_KINDS.get(type(level)) for level in levels}
    return kinds.pop() if len(kinds) == 1 else None if kinds else "text"


def level_name(level: Level, kind: LevelKind) -> str:
    """Return the name of a level's bin. Equal numbers, such as 3 and 3.0, have the same name."""
    if kind == "number":
        return repr(float(level))
    if isinstance(level, str):
        return level
    if kind == "integer":
        return str(int(level))
    return "true" if level else "false"


def coerce_level(value: object, kind: LevelKind) -> object:
    """Convert a value read from a file to the JSON type of the levels, or return it unchanged if it does not fit."""
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
    """Return a level that is not among `levels`, or `None` if no such level exists."""
    match kind:
        case "text":
            return "a text that the training data does not have"
        case "boolean":
            return next((level for level in (False, True) if level not in levels), None)
        case "integer":
            return int(max(levels)) + 1 if levels else 0
        case _:
            return math.floor(float(max(levels))) + 1.0 if levels else 0.0
