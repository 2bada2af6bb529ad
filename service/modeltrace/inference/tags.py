"""Tags of rows: the member `tags` of a request body, a map from declared names to short texts.

The names are bounded because the service declares them (`MODELTRACE_TAGS`). An undeclared name is an error: if it was
ignored, a misspelled name would be noticed when its predictions are missing.
"""

from collections.abc import Sequence
from typing import Final

from modeltrace.errors import MalformedRequestError
from modeltrace.printable import has_control_characters
from modeltrace.telemetry.records.prediction import Tags

MAX_TAG_LENGTH: Final = 64
# For OpenAPI: the same as `has_control_characters`, for texts that JSON can contain.
TAG_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


def parse_tags(value: object, declared: Sequence[str], member: str = "tags") -> Tags:
    """Return the tags of a request, or of a row.

    Args:
        value: the member of the body.
        declared: the names that are allowed.
        member: the name of the member, for the message.

    Raises:
        MalformedRequestError: the value is not an object, has an undeclared name, or a value is not a text of 1 to
            `MAX_TAG_LENGTH` characters without control characters. The message does not repeat it.
    """
    if not isinstance(value, dict):
        raise MalformedRequestError(f'"{member}" must be an object of names and texts')
    if undeclared := sorted(value.keys() - set(declared)):
        names = ", ".join(declared) or "none"
        raise MalformedRequestError(
            f'"{member}" has the undeclared name "{undeclared[0][:64]}"; '
            f"this service declares: {names} (MODELTRACE_TAGS)"
        )
    for name, text in value.items():
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_TAG_LENGTH or has_control_characters(text):
            raise MalformedRequestError(
                f'"{member}.{name}" must be a text of 1 to {MAX_TAG_LENGTH} characters, without control characters'
            )
    return tuple(sorted(value.items()))


def parse_row_tags(values: list[object], declared: Sequence[str], number: int) -> tuple[Tags, ...]:
    """Return the tags of each of `number` rows; empty for a row without tags.

    Raises:
        MalformedRequestError: the list does not have one object or null per row, or `parse_tags` rejects an object.
    """
    if len(values) != number:
        raise MalformedRequestError(
            f'"tags" must be an object for all rows, or an array with one object or null for each of the {number} rows'
        )
    return tuple(
        () if value is None else parse_tags(value, declared, f"tags[{index}]") for index, value in enumerate(values)
    )
