"""Count predictions by the value of a tag or a feature, and by predicted and true label."""

from typing import Any

from sqlalchemy import ColumnElement, Select, Text, case, func, literal, null, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from modeltrace.evaluation.queries import MODEL_COLUMNS
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection, label_join


class FeatureValue(FunctionElement[str]):
    """SQL expression: the recorded value of a feature as JSON text; NULL if the prediction has no value of it.

    The name must not contain a quotation mark or a backslash, which SQLite does not find.
    """

    type = Text()
    inherit_cache = True

    def __init__(self, name: str) -> None:
        super().__init__(predictions.c.inputs, literal(name))


@compiles(FeatureValue, "sqlite")
def _extract_in_sqlite(element: FeatureValue, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  of SQLAlchemy
    inputs, name = (compiler.process(clause, **options) for clause in element.clauses)
    return f"nullif({inputs} -> ('$.\"' || {name} || '\"'), 'null')"


@compiles(FeatureValue, "postgresql")
def _extract_in_postgresql(element: FeatureValue, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  see above
    inputs, name = (compiler.process(clause, **options) for clause in element.clauses)
    # PostgreSQL decodes all texts of the object, and cannot decode U+0000.
    return f"nullif(CAST(replace({inputs}, '\\u0000', '\\u0020')::json -> {name} AS TEXT), 'null')"


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
