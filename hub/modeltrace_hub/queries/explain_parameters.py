"""Query parameters that compare two sets of traces or predictions.

A filter without a prefix applies to both sets. A filter with the prefix `select.` defines the selection. A filter with
the prefix `against.` defines the set with which the selection is compared; without one, this is the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from modeltrace_hub.queries.filter_fields import ATTRIBUTE_PREFIX
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.model_parameters import PredictionFilter
from modeltrace_hub.queries.parameters import Parameters, UnknownParameterError

SELECT_PREFIX: Final = "select."
AGAINST_PREFIX: Final = "against."
# Parameters of lists. They do not define a set.
_LIST_PARAMETERS: Final = {"limit", "cursor", "violation"}

Pairs = Sequence[tuple[str, str]]
# The sets that are compared if the parameters define none.
_DEFAULT_SETS: Final[Mapping[str, Mapping[str, Sequence[tuple[str, str]]]]] = {
    "traces": {SELECT_PREFIX: [("error", "true")]},
    "predictions": {SELECT_PREFIX: [("outcome", "incorrect")], AGAINST_PREFIX: [("outcome", "correct")]},
}

SetFilter = TraceFilter | PredictionFilter
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The filters of both sets, of the selection, and of the other set; None selects the rest."""

    population: SetFilter
    selection: SetFilter
    against: SetFilter | None


class ExplainFilter(Parameters):
    """What is compared, and how much of it. The other parameters are filters."""

    of: Literal["traces", "predictions"] = Field("traces", description="What the two sets consist of.")
    rows: int = Field(20, ge=1, le=200, description="The maximum number of properties in each list.")
    sample: int = Field(4_000, ge=100, le=20_000, description="The maximum number of items of each set.")


# The parameters of a comparison in OpenAPI. Those of its sets are objects, because their names have a prefix.
COMPARISON_PARAMETERS: Final = [
    *(
        {"name": name, "in": "query", "description": schema["description"], "schema": schema}
        for name, schema in ExplainFilter.model_json_schema()["properties"].items()
    ),
    *(
        {"name": f"{prefix}NAME", "in": "query", "description": f"A filter {purpose}.", "schema": {"type": "string"}}
        for prefix, purpose in (
            ("", "of all items"),
            (SELECT_PREFIX, "of the selection"),
            (AGAINST_PREFIX, "of the set that the selection is compared with; by default the rest"),
        )
    ),
]


def parse_comparison(pairs: Pairs) -> tuple[ExplainFilter, Comparison]:
    """Return the parameters of a call. Without filters of a set, failures are compared with the rest.

    Raises:
        RequestValidationError: a parameter is invalid.
    """
    parts = split_comparison(pairs)
    options = _validate(ExplainFilter, [pair for pair in parts[""] if pair[0] in ExplainFilter.model_fields])
    parts[""] = [pair for pair in parts[""] if pair[0] not in ExplainFilter.model_fields]
    if not parts[SELECT_PREFIX] and not parts[AGAINST_PREFIX]:
        parts |= _DEFAULT_SETS[options.of]
    if not parts[SELECT_PREFIX]:
        raise _invalid(
            "", f"{SELECT_PREFIX}…: {AGAINST_PREFIX}… needs a selection, for example {SELECT_PREFIX}error=true"
        )
    type_: type[TraceFilter | PredictionFilter] = TraceFilter if options.of == "traces" else PredictionFilter
    sets = {prefix: _validate(type_, items, prefix) for prefix, items in parts.items()}
    against = sets[AGAINST_PREFIX] if parts[AGAINST_PREFIX] else None
    return options, Comparison(sets[""], sets[SELECT_PREFIX], against)


def split_comparison(pairs: Pairs) -> dict[str, Pairs]:
    """Return the parameters that have a value by prefix, without the prefix. The key "" has those without a prefix."""
    parts: dict[str, list[tuple[str, str]]] = {"": [], SELECT_PREFIX: [], AGAINST_PREFIX: []}
    for name, value in pairs:
        prefix = next((prefix for prefix in (SELECT_PREFIX, AGAINST_PREFIX) if name.startswith(prefix)), "")
        if value:
            parts[prefix].append((name.removeprefix(prefix), value))
    return {**parts}


def _validate(type_: type[_Model], pairs: Pairs, prefix: str = "") -> _Model:
    """Return validated parameters.

    Raises:
        RequestValidationError: a parameter is invalid. The message has its name with the prefix.
    """
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in _LIST_PARAMETERS:
            raise _invalid(prefix + name, "a comparison has no such parameter")
        if name.startswith(ATTRIBUTE_PREFIX):
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    try:
        return type_.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"]:
            raise RequestValidationError([{**first, "loc": ("query", f"{prefix}{first['loc'][0]}")}]) from None
        text = first["msg"].removeprefix("Value error, ")
        if isinstance(unknown := first.get("ctx", {}).get("error"), UnknownParameterError):
            raise _invalid(f"{prefix}{unknown.name}", text) from None
        raise _invalid("", f"{prefix}…: {text}" if prefix else text) from None


def _invalid(name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("query", name) if name else (), "msg": message}])
