"""Find the values of a tag or a feature, which divide predictions into groups."""

from typing import Final, NamedTuple

from sqlalchemy import ColumnElement

from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.group_queries import FeatureValue, distinct_groups
from modeltrace.store.rows import from_json
from modeltrace.store.selection import Selection, TagValue
from modeltrace.store.store import Store
from modeltrace.tag_names import TAG_NAME

# Each group is a row of a result, or needs its own queries. A tag with more values is not a group, but an ID.
MAX_GROUPS: Final = 100


class GroupError(ModeltraceError):
    """Predictions cannot be divided by a tag or a feature."""


class Groups(NamedTuple):
    """A tag or a feature, and its values in a selection; those of a feature are JSON."""

    column: ColumnElement[str]  # NULL for predictions without a value
    values: tuple[str, ...]
    is_tag: bool

    def to_text(self, value: str | None) -> str | None:
        """Return the name of a group; `None` for predictions without a value."""
        decoded = None if self.is_tag else from_json(value)
        return decoded if isinstance(decoded, str) else value


def find_groups(store: Store, selection: Selection, name: str) -> Groups | None:
    """Return the tag of this name, or the feature if no selected prediction has the tag; `None` without both.

    Raises:
        GroupError: there are more than `MAX_GROUPS` values.
        StoreError: the store cannot be read.
    """
    candidates: list[tuple[ColumnElement[str], bool]] = []
    if TAG_NAME.fullmatch(name):
        candidates.append((TagValue(name), True))
    if not set(name) & {'"', "\\"}:
        candidates.append((FeatureValue(name), False))
    for column, is_tag in candidates:
        values = store.fetch_all(distinct_groups(selection, column, MAX_GROUPS + 1))
        if len(values) > MAX_GROUPS:
            raise GroupError(
                f"the {'tag' if is_tag else 'feature'} {name} has more than {MAX_GROUPS} values in this selection, "
                "which cannot be evaluated separately: select fewer with --since, --until or --tag"
            )
        if values:
            return Groups(column, tuple(sorted(value for (value,) in values)), is_tag)
    return None
