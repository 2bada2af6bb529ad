"""Count predictions by the value of a tag or a feature, and by predicted and true label."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, case, cast, func, literal, null, select

from modeltrace.evaluation.queries import MODEL_COLUMNS, comparable_label, json_as_number
from modeltrace.store.json_values import JsonMember
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection, label_join


def feature_value(name: str) -> ColumnElement[str]:
    """Return the recorded value of a feature as JSON text; NULL if the prediction has no value of it."""
    return JsonMember(predictions.c.inputs, name)


def bin_of_feature(name: str, edges: Sequence[float]) -> ColumnElement[str]:
    """Return the index of the bin of a numeric feature as text; NULL without a number.

    Bin `i` contains `edges[i-1] < x <= edges[i]`.
    """
    number = json_as_number(feature_value(name))
    return cast(case((number.is_(None), null()), else_=_search_bin(number, edges, 0)), Text)


def _search_bin(number: ColumnElement[float], edges: Sequence[float], first: int) -> ColumnElement[int]:
    """Return the bin by binary search, because each comparison decodes the inputs."""
    if not edges:
        return literal(first)
    middle = len(edges) // 2
    low, high = _search_bin(number, edges[:middle], first), _search_bin(number, edges[middle + 1 :], first + middle + 1)
    return case((number <= edges[middle], low), else_=high)


def group_counts(selection: Selection, group: ColumnElement[str]) -> Select[Any]:
    """Count predictions of classifiers by model, group, predicted label and true label.

    Columns: name, version, hash, group, label and true label as JSON (NULL without a true label), and number of rows.
    """
    inner = (
        select(
            *MODEL_COLUMNS,
            group.label("group_value"),
            predictions.c.label,
            case((labels.c.prediction_id.is_(None), null()), else_=comparable_label()).label("true_label"),
        )
        .select_from(predictions.outerjoin(labels, label_join()))
        .where(*selection.conditions(), predictions.c.value.is_(None))
        .subquery()
    )
    return select(*inner.c, func.count()).group_by(*inner.c)


def distinct_groups(selection: Selection, group: ColumnElement[str], limit: int) -> Select[Any]:
    """Select the values of a group, each once, and at most `limit`."""
    values = select(group.label("group_value")).where(*selection.conditions()).subquery()
    return select(values.c.group_value).where(values.c.group_value.is_not(None)).distinct().limit(limit)
