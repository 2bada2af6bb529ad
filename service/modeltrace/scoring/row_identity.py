"""The external ID and the tags of a row, read from columns of its table."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modeltrace.errors import MalformedRequestError
from modeltrace.inference.external_ids import parse_external_id
from modeltrace.inference.tags import parse_tags
from modeltrace.scoring.scorer import RowError
from modeltrace.tables.values import MISSING_TEXTS, to_json_value
from modeltrace.telemetry.records.prediction import Tags

INVALID_ID: Final = "invalid_id"
INVALID_TAG: Final = "invalid_tag"
_BOOLEAN_TEXTS: Final = {True: "true", False: "false"}


class RowIdentity:
    """Reads external ID and tags of rows.

    A missing value is no ID, and no tag. Numbers, dates and booleans become text, as JSON writes them; a float without
    a fraction is an integer, since a column of integers with missing values contains floats.
    """

    def __init__(self, id_column: str | None, tags: Sequence[str]) -> None:
        self._id_column = id_column
        self._tags = sorted(tags)

    def read(self, values: Mapping[str, Any]) -> tuple[str | None, Tags] | RowError:
        """Return the external ID and the tags of a row, or why one of them is invalid."""
        external_id = None
        if self._id_column is not None and (text := _to_text(values.get(self._id_column))) is not None:
            try:
                external_id = parse_external_id(text, self._id_column)
            except MalformedRequestError as error:
                return RowError(self._id_column, INVALID_ID, str(error))
        tags: list[tuple[str, str]] = []
        for name in self._tags:
            if (text := _to_text(values.get(name))) is None:
                continue
            try:
                tags += parse_tags({name: text}, self._tags)
            except MalformedRequestError as error:
                return RowError(name, INVALID_TAG, str(error))
        return external_id, tuple(tags)


def _to_text(value: Any) -> object:  # noqa: ANN401  any cell
    """Return a value as text; `None` if it is missing. A list or a mapping stays what it is, so that it is rejected."""
    value = to_json_value(value)
    if isinstance(value, bool):
        return _BOOLEAN_TEXTS[value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return None if value in ("", None) or (isinstance(value, str) and value in MISSING_TEXTS) else value
