"""The named outputs of a model: the score of an outlier detector, the values of several targets, an embedding."""

from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from modeltrace.inference.category_levels import Level
from modeltrace.inference.schema import StrictModel
from modeltrace.printable import has_control_characters

# Maximum number of named outputs. Each prediction log record and each row of the prediction store contains all of them.
MAX_OUTPUTS: Final = 1024


class Output(StrictModel):
    """A named output: a number, or a label that is one of `classes`."""

    name: str = Field(min_length=1, max_length=256)
    classes: tuple[Level, ...] | None = None

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if has_control_characters(name):
            raise ValueError("an output's name holds a control character")
        return name

    @model_validator(mode="after")
    def _has_classes(self) -> Self:
        if self.classes is not None and not self.classes:
            raise ValueError(f"output {self.name}: it has no classes")
        return self
