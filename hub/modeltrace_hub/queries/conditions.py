"""Convert the conditions of filters to SQL. They are fixed SQL texts; values are always bound as parameters."""

import re
from collections.abc import Iterable
from typing import Any, Final

from modeltrace_hub.decode.values import dump_json
from modeltrace_hub.queries.filter_fields import NAME, NUMERIC_OPERATORS, BoundCondition
from modeltrace_hub.queries.filter_line import EXISTS
from modeltrace_hub.queries.reader import Reader, json_pointer

Conditions = tuple[list[str], dict[str, Any]]

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


def sql_conditions(reader: Reader, conditions: Iterable[BoundCondition], prefix: str = "c") -> Conditions:
    """Return the SQL conditions, and their parameters, whose names end with the prefix and a number.

    An attribute of a record precedes the attribute of its resource with the same key. Searching a text is much faster
    than parsing it, so only attributes that contain the key as text are parsed.
    """
    texts: list[str] = []
    values: dict[str, Any] = {}
    for n, condition in ((f"{prefix}{number}", condition) for number, condition in enumerate(conditions)):
        if condition.operator != EXISTS:
            values[f"value_{n}"] = condition.value
        if condition.field is not None:
            sql = condition.field.sql
            if NAME in sql:
                sql = sql.replace(NAME, f"$name_{n}")
                values[f"name_{n}"] = condition.attribute
            compare = _compare_list if condition.field.is_list else _compare
            text = compare(sql, condition.operator, n)
            if condition.field.may_be_empty and condition.operator in {EXISTS, "!="}:
                text = f"({text} AND {condition.field.sql} <> '')"
        else:
            text, parameters = _compare_attribute(reader, condition, n)
            values |= parameters
        texts.append(condition.within.format(condition=text))
    return texts, values


def _compare(expression: str, operator: str, n: str) -> str:
    """Return the comparison of an expression with the parameter `value_n`. NULL meets no condition."""
    match operator:
        case "exists":
            return f"{expression} IS NOT NULL"
        case "~":
            return f"contains(lower({expression}), lower($value_{n}))"
        case _:
            return f"{expression} {operator} $value_{n}"


def _compare_list(expression: str, operator: str, n: str) -> str:
    """Return the comparison of the items of a list with the parameter `value_n`. NULL meets no condition."""
    match operator:
        case "exists":
            return f"len({expression}) > 0"
        case "~":
            return f"list_contains([contains(lower(item), lower($value_{n})) FOR item IN {expression}], true)"
        case "!=":
            return f"NOT list_contains({expression}, $value_{n})"
        case _:
            return f"list_contains({expression}, $value_{n})"


def _compare_attribute(reader: Reader, condition: BoundCondition, n: str) -> tuple[str, dict[str, Any]]:
    """Return the condition on an attribute of the record or its resource, and its parameters without the value."""
    key, pointer = condition.attribute, json_pointer(condition.attribute)
    if condition.nested is not None:
        key, pointer = condition.nested, pointer + json_pointer(condition.nested)
    values: dict[str, Any] = {f"key_{n}": pointer, f"key_text_{n}": dump_json(key)}
    own = _compare_json("attributes", condition.operator, n)
    has_key = f"contains(attributes::VARCHAR, $key_text_{n})"
    if resources := _find_resources(reader, condition, pointer, n):
        values[f"resources_{n}"] = resources
        inherited = f"list_contains($resources_{n}, resource_id)"
        is_own = f"{has_key} AND {_extract('attributes', n)} IS NOT NULL"
        return f"CASE WHEN {is_own} THEN {own} ELSE {inherited} END", values
    if condition.operator == "=" and (text := _stored_text(str(condition.value))):
        values[f"value_text_{n}"] = text
        has_key = f"{has_key} AND contains(attributes::VARCHAR, $value_text_{n})"
    return f"({has_key} AND {own})", values


def _find_resources(reader: Reader, condition: BoundCondition, pointer: str, n: str) -> list[str]:
    """Return the IDs of the resources that meet a condition."""
    values: dict[str, Any] = {f"key_{n}": pointer}
    if condition.operator != EXISTS:
        values[f"value_{n}"] = condition.value
    text = _compare_json("resource_attributes", condition.operator, n)
    return [row["resource_id"] for row in reader.fetch_all("find_resources", [text], **values)]


def _compare_json(column: str, operator: str, n: str) -> str:
    """Return the comparison of an attribute in a column. The operators of order compare it as a number."""
    text = _extract(column, n)
    return _compare(f"TRY_CAST({text} AS DOUBLE)" if operator in NUMERIC_OPERATORS else text, operator, n)


def _extract(column: str, n: str) -> str:
    return f"json_extract_string({column}, $key_{n})"


def _stored_text(value: str) -> str:
    """Return a text that the JSON of any attribute with this value contains.

    A number with a fraction or an exponent, a list and an object can be written in several ways: the text is then "".
    """
    if value[:1] in {"{", "["}:
        return ""
    try:
        float(value)
    except ValueError:
        return dump_json(value)[1:-1]
    return value if _INTEGER.fullmatch(value) else ""
