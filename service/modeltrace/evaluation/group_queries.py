"""Count predictions by the value of a tag or a feature, and by predicted and true label."""

from typing import Any

from sqlalchemy import ColumnElement, Select, Text, case, func, literal, null, select

from modeltrace.evaluation.queries import MODEL_COLUMNS
from modeltrace.store.json_values import JsonValue
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection, label_join


class FeatureValue(JsonValue):
    """SQL expression: the recorded value of a feature as JSON text; NULL if the prediction has no value of it.

    The name must not contain a quotation mark or a backslash, which SQLite does not find.
    """

    type = Text()
    inherit_cache = True
    sqlite = "nullif({column} -> ('$.\"' || {place} || '\"'), 'null')"
    # PostgreSQL decodes all texts of the object, and cannot decode U+0000.
    postgresql = r"nullif(CAST(replace({column}, '\u0000', '\u0020')::json -> {place} AS TEXT), 'null')"

    def __init__(self, name: str) -> None:
        super().__init__(predictions.c.inputs, literal(name))


def group_counts(selection: Selection, group: ColumnElement[str]) -> Select[Any]:
    """Count predictions of classifiers by model, group, predicted label and true label.

    Columns: name, version, hash, group, label and true label as JSON (NULL without a true label), and number of rows.
    """
    inner = (
        select(
            *MODEL_COLUMNS,
            group.label("group_value"),
            predictions.c.label,
            case((labels.c.prediction_id.is_(None), null()), else_=labels.c.label).label("true_label"),
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
