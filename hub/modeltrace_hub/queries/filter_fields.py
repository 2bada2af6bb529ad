"""The fields of the filter lines: which values and operators each has, and its SQL expression.

A name that is no field of the list is an attribute of the record or of its resource; `attr.NAME` always is.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from modeltrace_hub.durations import parse_duration_ns
from modeltrace_hub.queries.filter_line import EXISTS, Condition, FilterLineError, parse_line

ATTRIBUTE_PREFIX: Final = "attr."
# The names of the severities, in their order. Each has four numbers: TRACE 1 to 4, …, FATAL 21 to 24.
SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

# How similar a name must be to the name of a field, from 0 to 1, to be taken for a misspelling.
_MIN_SIMILARITY: Final = 0.8

NUMERIC_OPERATORS: Final = (">=", "<=", ">", "<")
TEXT_OPERATORS: Final = ("=", "!=", "~", EXISTS)
ORDER_OPERATORS: Final = ("=", "!=", *NUMERIC_OPERATORS, EXISTS)
FLAG_OPERATORS: Final = ("=", "!=", EXISTS)
CONDITION: Final = "{condition}"
# In the SQL of a field with a prefix, this stands for the parameter with the rest of the field's name.
NAME: Final = "{name}"


def parse_required_duration(value: object) -> int:
    """Return the nanoseconds of a duration such as `300ms`, `1.5s`, `2h`.

    Raises:
        ValueError: the value is not a duration.
    """
    ns = parse_duration_ns(str(value))
    if ns is None:
        raise ValueError("a duration is a number and a unit (ns us ms s m h d), such as 300ms or 1.5s")
    return ns


def parse_number(text: str) -> float:
    """Return a finite number.

    Raises:
        ValueError: the text is not a finite number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a number is needed, such as 500 or 0.75")
    return number


def parse_severity(text: str) -> int:
    """Return the position of a severity in `SEVERITIES`, from 1.

    Raises:
        ValueError: there is no such severity.
    """
    try:
        return SEVERITIES.index(text.strip().upper()) + 1
    except ValueError:
        raise ValueError(f"a severity is one of {', '.join(SEVERITIES)}") from None


def parse_flag(text: str) -> bool:
    """Return a boolean.

    Raises:
        ValueError: the text is neither `true` nor `false`.
    """
    if text.lower() not in {"true", "false"}:
        raise ValueError("the value is true or false")
    return text.lower() == "true"


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field of a list.

    `sql` is the SQL expression of the value: NULL if the record does not have the field, or also "" with
    `may_be_empty`. If `is_list` is true, the value is a list of texts, and a condition is about its items. `within` is
    the SQL into which the condition on this expression is inserted. `of_trace` is true if the expression reads a row of
    the table `traces`, and `of_label` if it reads the label record of a prediction.
    """

    description: str
    sql: str
    parse: Callable[[str], object] = str
    operators: tuple[str, ...] = TEXT_OPERATORS
    within: str = CONDITION
    of_trace: bool = False
    of_label: bool = False
    may_be_empty: bool = False
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class AttributePrefix:
    """Names that begin with a prefix are attributes.

    The rest of the name is added to the key of the attribute. If `nested` is true, it names a value inside the
    attribute `key`.
    """

    description: str
    key: str
    nested: bool = False
    within: str = CONDITION


@dataclass(frozen=True, slots=True)
class FieldSet:
    """The fields of one list by name, the prefixes of attributes, and the fields whose names have a prefix."""

    fields: Mapping[str, FilterField]
    prefixes: Mapping[str, AttributePrefix]
    prefixed: Mapping[str, FilterField] = field(default_factory=dict)

    def find(self, name: str) -> tuple[FilterField | None, str]:
        """Return a field, and the rest of its name if it has a prefix; None for the name of an attribute."""
        for prefix, prefixed in self.prefixed.items():
            if (rest := name.removeprefix(prefix)) not in {"", name}:
                return prefixed, rest
        return self.fields.get(name), ""

    def suggest(self, name: str) -> str | None:
        """Return the field whose name is close to the name of an attribute; None if there is none."""
        if name in self.fields or "." in name:
            return None
        return next(iter(difflib.get_close_matches(name[:80].lower(), self.fields, 1, _MIN_SIMILARITY)), None)


@dataclass(frozen=True, slots=True)
class BoundCondition:
    """A condition with a converted value, on a field or an attribute.

    `field` is None for an attribute. `attribute` is the key of the attribute, and `nested` the name of a value inside
    it. For a field with a prefix, `attribute` is the rest of the name.
    """

    name: str
    operator: str
    value: object
    field: FilterField | None = None
    attribute: str = ""
    nested: str | None = None
    within: str = CONDITION


def bind_line(line: str, fields: FieldSet) -> list[BoundCondition]:
    """Return the conditions of the filter line of a list.

    Raises:
        FilterLineError: the line is invalid, or an operator or value does not suit its field.
    """
    return [_bind_condition(condition, fields) for condition in parse_line(line)]


def suggest_fields(line: str, fields: FieldSet) -> list[tuple[str, str]]:
    """Return the attributes of a filter line whose names are close to that of a field, each with the field."""
    try:
        conditions = parse_line(line)
    except FilterLineError:
        return []
    names = dict.fromkeys(condition.field for condition in conditions)
    return [(name, field) for name in names if (field := fields.suggest(name))]


def bind_field(fields: FieldSet, name: str, operator: str, value: object) -> BoundCondition:
    """Return a condition on a field whose value is already converted."""
    bound = fields.fields[name]
    return BoundCondition(name, operator, value, bound, within=bound.within)


def bind_attribute(fields: FieldSet, name: str, operator: str, value: object) -> BoundCondition:
    """Return a condition on an attribute whose value is already converted."""
    for start, prefix in fields.prefixes.items():
        rest = name.removeprefix(start)
        if rest and rest != name:
            key, nested = (prefix.key, rest) if prefix.nested else (prefix.key + rest, None)
            return BoundCondition(name, operator, value, attribute=key, nested=nested, within=prefix.within)
    return BoundCondition(name, operator, value, attribute=name.removeprefix(ATTRIBUTE_PREFIX) or name)


def _bind_condition(condition: Condition, fields: FieldSet) -> BoundCondition:
    name, operator = condition.field, condition.operator
    field, rest = fields.find(name)
    if field is None:  # an attribute; the operators of order compare it as a number
        try:
            value = _convert(condition, parse_number if operator in NUMERIC_OPERATORS else str)
        except FilterLineError:
            if (suggestion := fields.suggest(name)) is None:
                raise
            problem = (
                f"there is no field {name[:80]}; is {suggestion} meant? An attribute needs a number after {operator}"
            )
            raise FilterLineError(condition.position, problem) from None
        return bind_attribute(fields, name, operator, value)
    if operator not in field.operators:
        allowed = " ".join(field.operators)
        raise FilterLineError(condition.position, f"{name} has the operators {allowed}, but not {operator}")
    if field.parse is parse_flag:
        flag = operator == EXISTS or _convert(condition, parse_flag) == (operator == "=")
        return bind_field(fields, name, "=", flag)
    converted = None if operator == EXISTS else _convert(condition, field.parse)
    return BoundCondition(name, operator, converted, field, rest, within=field.within)


def _convert(condition: Condition, parse: Callable[[str], object]) -> object:
    try:
        return parse(condition.value)
    except ValueError as error:
        value = condition.value[:80]
        raise FilterLineError(condition.value_position, f"{condition.field} {value!r}: {error}") from None
