"""Find the values of a tag or a feature, which divide predictions into groups."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement

from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.group_queries import bin_of_feature, distinct_groups, feature_value
from modeltrace.evaluation.numeric_bins import NumericBins
from modeltrace.store.json_values import has_json_path
from modeltrace.store.rows import from_json
from modeltrace.store.selection import Selection, TagValue
from modeltrace.store.store import Store
from modeltrace.tag_names import TAG_NAME

# Each group is a row of a result, or needs its own queries. A tag with more values is not a group, but an ID.
MAX_GROUPS: Final = 100


class GroupError(ModeltraceError):
    """Predictions cannot be divided by a tag or a feature."""


class Groups(NamedTuple):
    """A tag or a feature, and its values in a selection, in order.

    The values of a feature are JSON, or the indices of the bins of a numeric feature.
    """

    column: ColumnElement[str]  # NULL for predictions without a value
    values: tuple[str, ...]
    is_tag: bool
    bin_names: tuple[str, ...] = ()

    def to_text(self, value: str | None) -> str | None:
        """Return the name of a group; `None` for predictions without a value."""
        if self.bin_names and value is not None:
            return self.bin_names[int(value)]
        decoded = None if self.is_tag else from_json(value)
        return decoded if isinstance(decoded, str) else value


def find_groups(
    store: Store, selection: Selection, name: str, bins: Mapping[str, NumericBins] = MappingProxyType({})
) -> Groups | None:
    """Return the tag of this name, or the feature if no selected prediction has the tag; `None` without both.

    Args:
        store: the store with the predictions.
        selection: the predictions to divide.
        name: the name of the tag or the feature.
        bins: the bins of numeric features, which are their groups. Without bins, each number is a group.

    Raises:
        GroupError: there are more than `MAX_GROUPS` values.
        StoreError: the store cannot be read.
    """
    feature_bins = bins.get(name)
    if feature_bins is not None and feature_bins.to_number is not None:
        feature_bins = None  # the database does not convert texts of times
    candidates: list[tuple[ColumnElement[str], bool]] = []
    if TAG_NAME.fullmatch(name):
        candidates.append((TagValue(name), True))
    if has_json_path(name):
        of_feature = feature_value(name) if feature_bins is None else bin_of_feature(name, feature_bins.edges)
        candidates.append((of_feature, False))
    for column, is_tag in candidates:
        values = store.fetch_all(distinct_groups(selection, column, MAX_GROUPS + 1))
        if len(values) > MAX_GROUPS:
            raise GroupError(
                f"the {'tag' if is_tag else 'feature'} {name} has more than {MAX_GROUPS} values in this selection, "
                "which cannot be evaluated separately: select fewer with --since, --until or --tag"
            )
        if values and (is_tag or feature_bins is None):
            return Groups(column, tuple(sorted(value for (value,) in values)), is_tag)
        if values and feature_bins is not None:
            indices = sorted(int(value) for (value,) in values)
            return Groups(column, tuple(map(str, indices)), is_tag, tuple(feature_bins.names))
    return None
