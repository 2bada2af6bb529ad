"""Query parameters of the API and the pages: unknown names are errors, and errors name their parameter."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from modeltrace_hub.queries.filter_line import FilterLineError


class UnknownParameterError(ValueError):
    """There is no parameter of a name. The message has the valid names."""

    def __init__(self, name: str, valid: Iterable[str]) -> None:
        super().__init__(f"there is no such parameter; the parameters are {', '.join(valid)}")
        self.name = name


class Parameters(BaseModel):
    """Query parameters. Empty ones count as absent, unknown ones are an error.

    `pattern_names` describes the names of the parameters that are not fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    pattern_names: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:  # noqa: ANN401  the input before validation
        if not isinstance(values, dict):
            return values
        present = {key: value for key, value in values.items() if value != ""}
        for name in present:
            if name not in cls.model_fields and not cls._allows(name):
                raise UnknownParameterError(name, [*cls.model_fields, *cls.pattern_names])
        return present

    @classmethod
    def _allows(cls, name: str) -> bool:  # noqa: ARG003  for subclasses
        """Whether there is a parameter of this name that is not a field."""
        return False


def describe_invalid_parameter(error: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of an invalid parameter ("" if none is named), and the message to show.

    Args:
        error: an item of `ValidationError.errors()`.
    """
    location = [str(part) for part in error["loc"] if part not in {"query", "path"}]
    message = error["msg"].removeprefix("Value error, ")
    parameter = location[-1] if location else ""
    match error.get("ctx", {}).get("error"):
        case FilterLineError():
            parameter = "filter"
        case UnknownParameterError(name=name):
            parameter = name
    parameter = parameter[:80]
    return parameter, f"{parameter}: {message}" if parameter else message
