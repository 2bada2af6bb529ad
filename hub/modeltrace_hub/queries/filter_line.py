r"""Parse a filter line such as `service = shop duration > 100ms http.route ~ predict error exists`.

A line is a list of conditions: a field, an operator and a value. All conditions must hold; `and` may stand between
them. A field or value with spaces, quotes or operators is written in double quotes. In quotes, `\"` and `\\` stand for
the second character, and `\n`, `\r` and `\t` for a line break and a tab.
"""

import re
from dataclasses import dataclass
from typing import Final

EXISTS: Final = "exists"
# The longer operators are first, so that `>=` is not read as `>`.
OPERATORS: Final = ("!=", ">=", "<=", "=", ">", "<", "~", EXISTS)
MAX_LINE_LENGTH: Final = 4000
MAX_CONDITIONS: Final = 16

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_SPACE: Final = re.compile(r"\s*")
_AND: Final = re.compile(r"and\s+(?!(?:!=|>=|<=|[=><~]|exists\b))", re.IGNORECASE)
_FIELD: Final = re.compile(rf'{_QUOTED}|[^\s"=!<>~]+', re.DOTALL)
_OPERATOR: Final = re.compile(r"!=|>=|<=|[=><~]|exists(?=\s|$)", re.IGNORECASE)
# Operators alone are not a value, so that the error of `a >> 1` names the second operator.
_VALUE: Final = re.compile(rf'{_QUOTED}(?=\s|$)|(?![!=<>~]+(?:\s|$))[^\s"]\S*', re.DOTALL)
_ESCAPES: Final = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPED: Final = {character: f"\\{letter}" for letter, character in _ESCAPES.items()}


class FilterLineError(ValueError):
    """A filter line is invalid. The message begins with the position of the error."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"character {position}: {problem}")
        self.position = position


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `value` is "" for the operator `exists`. Positions count characters from 1."""

    field: str
    operator: str
    value: str = ""
    position: int = 1
    value_position: int = 1


def parse_line(line: str) -> list[Condition]:
    """Return the conditions of a filter line.

    Raises:
        FilterLineError: the line is invalid, too long or has too many conditions.
    """
    if len(line) > MAX_LINE_LENGTH:
        raise FilterLineError(MAX_LINE_LENGTH + 1, f"a filter has at most {MAX_LINE_LENGTH} characters")
    conditions: list[Condition] = []
    position = _skip_space(line, 0)
    while position < len(line):
        if conditions and (word := _AND.match(line, position)):
            position = word.end()
        condition, position = _parse_condition(line, position)
        conditions.append(condition)
        if len(conditions) > MAX_CONDITIONS:
            raise FilterLineError(condition.position, f"a filter has at most {MAX_CONDITIONS} conditions")
        position = _skip_space(line, position)
    return conditions


def format_condition(field: str, operator: str, value: str = "") -> str:
    """Return the text of one condition, which `parse_line` reads as the same field, operator and value."""
    name = field if _FIELD.fullmatch(field) and field[0] != '"' and field.lower() != "and" else _quote(field)
    if operator == EXISTS:
        return f"{name} {EXISTS}"
    plain = _VALUE.fullmatch(value) and value[0] != '"'
    return f"{name} {operator} {value if plain else _quote(value)}"


def _parse_condition(line: str, start: int) -> tuple[Condition, int]:
    """Return the condition that begins at a position, and the position after it."""
    field = _FIELD.match(line, start)
    if field is None:
        raise _unexpected(line, start, "the name of a field")
    end = _skip_space(line, field.end())
    operator = _OPERATOR.match(line, end)
    if operator is None:
        raise _unexpected(line, end, f"one of {' '.join(OPERATORS)} after {field[0][:80]}")
    name, symbol = _unquote(field[0]), operator[0].lower()
    if symbol == EXISTS:
        return Condition(name, symbol, "", start + 1, operator.start() + 1), operator.end()
    end = _skip_space(line, operator.end())
    value = _VALUE.match(line, end)
    if value is None:
        raise _unexpected(line, end, f"a value after {symbol}")
    return Condition(name, symbol, _unquote(value[0]), start + 1, end + 1), value.end()


def _unexpected(line: str, position: int, expected: str) -> FilterLineError:
    """Return the error that something else was expected at a position."""
    if position >= len(line):
        return FilterLineError(position + 1, f"the filter ends here; it needs {expected}")
    if line[position] == '"':
        return FilterLineError(position + 1, f"the quotation mark has no end that a space follows; expected {expected}")
    found = line[position : position + 20].split(maxsplit=1)[0]
    return FilterLineError(position + 1, f"expected {expected}, not {found!r}")


def _skip_space(line: str, position: int) -> int:
    match = _SPACE.match(line, position)
    return match.end() if match else position


def _quote(text: str) -> str:
    return '"' + "".join(_ESCAPED.get(character, character) for character in text) + '"'


def _unquote(text: str) -> str:
    """Return the text without its quotation marks. Another escaped character stands for itself and the backslash."""
    if text[0] != '"':
        return text
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text[1:-1], flags=re.DOTALL)
