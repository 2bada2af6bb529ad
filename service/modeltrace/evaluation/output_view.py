"""Evaluate one named output of a model as if it were the model's only output.

`OutputView` runs each query with common table expressions in place of the tables `predictions` and `labels`. In them,
`label` or `value` is the named output, and the true label is that of this output. Queries therefore need not know that
a model can have several outputs. Columns that no single output has (confidence, probabilities, …) are NULL. Erased
predictions, which have no outputs any more, are left out.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import CTE, Column, ColumnElement, MetaData, Select, func, null, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.sql.schema import SchemaConst
from sqlalchemy.sql.visitors import iterate

from modeltrace.evaluation.queries import MODEL_COLUMNS, json_as_number, select_labelled
from modeltrace.store.json_values import JsonMember, has_json_path
from modeltrace.store.rows import from_json
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection
from modeltrace.store.store import QueryRunner
from modeltrace.store.store_url import StoreLocation
from modeltrace.telemetry.metrics.model_catalog import ModelKey
from modeltrace.true_labels import OUTPUT_KINDS, OutputKind

# Columns of `predictions` that describe all outputs together.
_OF_ALL_OUTPUTS: Final = (
    "label", "value", "confidence", "probabilities", "outputs", "interval_low", "interval_high", "interval_level",
)  # fmt: skip


class NamedOutput(NamedTuple):
    """A named output with true labels: its classes, or its values."""

    name: str
    kind: OutputKind


def labelled_outputs(store: QueryRunner, selection: Selection) -> dict[ModelKey, list[NamedOutput]]:
    """Return the outputs of each model with several outputs and true labels, in order.

    Outputs whose names a database cannot find in JSON are left out.

    Raises:
        StoreError: the store cannot be read.
    """
    # Every label names all outputs.
    statement = (
        select_labelled(selection, *MODEL_COLUMNS, func.min(labels.c.label))
        .where(predictions.c.label.is_(None), predictions.c.value.is_(None))
        .group_by(*MODEL_COLUMNS)
    )
    found = {}
    for name, version, model_hash, text in store.fetch_all(statement):
        if isinstance(label := from_json(text), dict):
            found[name, version, model_hash] = [
                NamedOutput(output, kind)
                for kind in OUTPUT_KINDS
                for output in cast("dict[str, object]", label.get(kind, {}))
                if has_json_path(output)
            ]
    return found


class OutputView:
    """A store in which a named output is the only output of each model, and predictions have labels of this output."""

    def __init__(self, store: QueryRunner, output: NamedOutput) -> None:
        self._store, self._output = store, output
        # SQLite considers a table expression that selects from a table of its own name circular, unless it is
        # qualified. Other databases do not.
        metadata = MetaData(schema=None if store.location.file is None else "main")
        self._predictions, self._labels = (
            table.to_metadata(metadata, schema=metadata.schema or SchemaConst.RETAIN_SCHEMA)
            for table in (predictions, labels)
        )

    @property
    def location(self) -> StoreLocation:
        """The location of the store."""
        return self._store.location

    def fetch_all(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        """Run a query with a small result, and return all rows."""
        used = {
            column.name for column in iterate(statement) if isinstance(column, Column) and column.table is predictions
        }
        return self._store.fetch_all(statement.add_cte(self._predictions_of_output(used), self._labels_of_output()))

    def _predictions_of_output(self, names: set[str]) -> CTE:
        """Select only columns that the query uses: a store may lack others."""
        columns = self._predictions.c
        label = JsonMember(columns.outputs, self._output.name)
        outputs: dict[str, ColumnElement[Any]] = {
            name: sql_cast(null(), columns[name].type) for name in _OF_ALL_OUTPUTS
        }
        if self._output.kind == "classes":
            outputs["label"] = label
        else:
            outputs["value"] = json_as_number(label)
        # The primary key is always there, because an expression needs a column.
        selected = sorted({*names, "prediction_id"})
        statement = select(*(outputs.get(name, columns[name]).label(name) for name in selected))
        return statement.where(columns.outputs.is_not(None)).cte(predictions.name)

    def _labels_of_output(self) -> CTE:
        columns = self._labels.c
        label = JsonMember(JsonMember(columns.label, self._output.kind), self._output.name)
        others = (columns.prediction_id, columns.received, columns.prediction_time, columns.api_key_name)
        return select(*others, label.label("label")).where(label.is_not(None)).cte(labels.name)
