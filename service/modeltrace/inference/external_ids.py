"""External IDs: IDs of the client's own for its predictions, such as an order number.

A request contains them as `id` (one row) or `ids` (one per row of a batch). They are stored with the predictions, so
that a label or a search can name a prediction by them.
"""

import re
from typing import Final

from modeltrace.errors import MalformedRequestError

MAX_EXTERNAL_ID_LENGTH: Final = 128
# Visible ASCII characters: such an ID needs no escapes in a URL path, a log line or a command.
PATTERN: Final = rf"^[!-~]{{1,{MAX_EXTERNAL_ID_LENGTH}}}$"
_VALID: Final = re.compile(PATTERN)
_EXPECTED: Final = f"a string of 1 to {MAX_EXTERNAL_ID_LENGTH} visible ASCII characters, without spaces"


def parse_external_id(value: object, name: str = "id") -> str:
    """Return a valid external ID. `name` is the key of the body that has it, for the message.

    Raises:
        MalformedRequestError: the value is not a valid external ID. The message does not repeat it.
    """
    if not isinstance(value, str) or not _VALID.fullmatch(value):
        raise MalformedRequestError(f'"{name}" must be {_EXPECTED}')
    return value


def parse_external_ids(values: object, number: int) -> tuple[str | None, ...]:
    """Return the external IDs of `number` rows; `None` for a row without one.

    Raises:
        MalformedRequestError: the value is not a list with one external ID or null per row.
    """
    if not isinstance(values, list) or len(values) != number:
        raise MalformedRequestError(f'"ids" must be an array with one ID or null for each of the {number} rows')
    return tuple(
        None if value is None else parse_external_id(value, f"ids[{index}]") for index, value in enumerate(values)
    )
