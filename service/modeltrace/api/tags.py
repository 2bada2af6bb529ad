"""Tags of a request: the member `tags` of the body, a map from declared names to short texts.

The names are bounded because the service declares them (`MODELTRACE_TAGS`). An undeclared name is an error: if it was
ignored, a misspelled name would be noticed when its predictions are missing.
"""

from collections.abc import Sequence
from typing import Final

from modeltrace.errors import MalformedRequestError
from modeltrace.printable import has_control_characters

MAX_TAG_LENGTH: Final = 64
# For OpenAPI: the same as `has_control_characters`, for texts that JSON can contain.
TAG_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"

# Names and values, in the order of the names.
Tags = tuple[tuple[str, str], ...]


def parse_tags(value: object, declared: Sequence[str]) -> Tags:
    """Return the tags of a request.

    Args:
        value: the member of the body.
        declared: the names that are allowed.

    Raises:
        MalformedRequestError: the value is not an object, has an undeclared name, or a value is not a text of 1 to
            `MAX_TAG_LENGTH` characters without control characters. The message does not repeat it.
    """
    if not isinstance(value, dict):
        raise MalformedRequestError('"tags" must be an object of names and texts')
    if undeclared := sorted(value.keys() - set(declared)):
        names = ", ".join(declared) or "none"
        raise MalformedRequestError(
            f'"tags" has the undeclared name "{undeclared[0][:64]}"; this service declares: {names} (MODELTRACE_TAGS)'
        )
    for name, text in value.items():
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_TAG_LENGTH or has_control_characters(text):
            raise MalformedRequestError(
                f'"tags.{name}" must be a text of 1 to {MAX_TAG_LENGTH} characters, without control characters'
            )
    return tuple(sorted(value.items()))
