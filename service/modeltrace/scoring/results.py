"""The table of results: one row for each row of the input, with its prediction or its error."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute

from modeltrace.errors import ModeltraceError
from modeltrace.inference.intervals import INTERVAL_COLUMNS
from modeltrace.inference.model import Label, Model, ModelOutput
from modeltrace.scoring.scorer import Outcome, RowError

ROW: Final = "row"
LABEL, CONFIDENCE, VALUE = "label", "confidence", "value"
PROBABILITY: Final = "probability_"  # followed by the name of the class
OUTPUT: Final = "output_"  # followed by the name of the named output
IDS: Final = ("prediction_id", "trace_id")
ERROR, ERROR_COLUMN, ERROR_REASON = "error", "error_column", "error_reason"
# Rejected rows that the summary contains one by one.
MAX_EXAMPLES: Final = 5
_LABEL_TYPES: Final = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


class ResultError(ModeltraceError):
    """The results cannot be put into a table."""


class Result(NamedTuple):
    """The result for a row: its number, the values of the copied columns, and the outcome."""

    number: int
    copied: tuple[Any, ...]
    outcome: Outcome


class RejectedRow(NamedTuple):
    """A row without a prediction."""

    row: int
    column: str
    reason: str
    message: str


@dataclass
class Summary:
    """Counts of a run. `rejected` counts rows by column and reason; `examples` are the first of them."""

    rows: int = 0
    predicted: int = 0
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[RejectedRow] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table of results."""
        self.rows += table.num_rows
        errors = table.filter(pa.compute.is_valid(table[ERROR]))
        self.predicted += table.num_rows - errors.num_rows
        for values in errors.select([ROW, ERROR_COLUMN, ERROR_REASON, ERROR]).to_pylist():
            row = RejectedRow(*values.values())
            self.rejected[row.column, row.reason] += 1
            if len(self.examples) < MAX_EXAMPLES:
                self.examples.append(row)


def results_schema(
    model: Model,
    copied: Mapping[str, pa.DataType],
    *,
    with_ids: bool,
    probabilities: bool = False,
    interval: bool = False,
) -> pa.Schema:
    """Return the columns of the results of a model.

    Args:
        model: the model. A classifier has `label` and `confidence`, a regressor `value`, and each named output a
            column `output_NAME`.
        copied: name and type of each column of the input that is copied.
        with_ids: whether the predictions have IDs.
        probabilities: whether there is a column for the probability of each class, `probability_CLASS`.
        interval: whether there are columns for the bounds of the prediction interval.

    Raises:
        ResultError: a copied column has the name of another column of the results, or the model has no probabilities or
            intervals.
    """
    if probabilities and not model.has_probabilities:
        raise ResultError(f"--probabilities: {model.name} {model.version} has no probabilities")
    if interval and model.interval is None:
        raise ResultError(f"--interval: {model.name} {model.version} has no prediction intervals")
    outputs: list[tuple[str, pa.DataType]] = []
    if model.task == "regressor":
        outputs.append((VALUE, pa.float64()))
    if model.classes is not None:
        outputs.append((LABEL, _label_type(model.classes)))
    if model.can_have_probabilities:
        outputs.append((CONFIDENCE, pa.float64()))
    outputs += [(f"{OUTPUT}{output.name}", _label_type(output.classes or (0.0,))) for output in model.outputs]
    if interval:
        outputs += [(name, pa.float64()) for name in INTERVAL_COLUMNS]
    if probabilities:
        outputs += [(f"{PROBABILITY}{name}", pa.float64()) for name in model.class_names]
    ids = IDS if with_ids else ()
    texts = [(name, pa.string()) for name in (*ids, ERROR, ERROR_COLUMN, ERROR_REASON)]
    own = [(ROW, pa.int64()), *outputs, *texts]
    if taken := [name for name, _ in own if name in copied]:
        raise ResultError(f"--keep {taken[0]}: the results have a column of this name; rename the column of the input")
    return pa.schema([own[0], *copied.items(), *own[1:]])


def _label_type(labels: Sequence[Label]) -> pa.DataType:
    """Return the type of a column of labels: text if they have several types."""
    kinds = {type(label) for label in labels}
    return _LABEL_TYPES.get(kinds.pop(), pa.string()) if len(kinds) == 1 else pa.string()


def to_table(results: Sequence[Result], schema: pa.Schema) -> pa.Table:
    """Convert results to a table.

    Raises:
        ResultError: a value does not have the type of its column.
    """
    outputs = [result.outcome.output or ModelOutput() for result in results]
    errors = [result.outcome.error or RowError(None, None, None) for result in results]
    labels: list[Any] = [output.label for output in outputs]
    if LABEL in schema.names and schema.field(LABEL).type == pa.string():  # the classes may have several types
        labels = [None if label is None else str(label) for label in labels]
    columns: dict[str, Sequence[Any]] = {
        ROW: [result.number for result in results],
        LABEL: labels,
        CONFIDENCE: [output.confidence for output in outputs],
        VALUE: [output.value for output in outputs],
        **{
            name: [output.interval and output.interval[index] for output in outputs]
            for index, name in enumerate(INTERVAL_COLUMNS)
        },
        "prediction_id": [result.outcome.prediction_id for result in results],
        "trace_id": [result.outcome.trace_id for result in results],
        ERROR: [error.message for error in errors],
        ERROR_COLUMN: [error.column for error in errors],
        ERROR_REASON: [error.reason for error in errors],
    }
    # The copied columns follow the row, the named outputs and then the probabilities follow the confidence.
    copied = schema.names[1 : 1 + len(results[0].copied)]
    columns |= dict(zip(copied, zip(*(result.copied for result in results), strict=True), strict=True))
    named = [name for name in schema.names if name not in columns and name.startswith(OUTPUT)]
    for index, name in enumerate(named):
        values = [None if output.outputs is None else output.outputs[index] for output in outputs]
        columns[name] = (
            [None if value is None else str(value) for value in values]
            if schema.field(name).type == pa.string()
            else values
        )
    classes = [name for name in schema.names if name not in columns]
    for index, name in enumerate(classes):
        columns[name] = [_finite(output.probabilities[index]) if output.probabilities else None for output in outputs]
    try:
        arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
    except pa.ArrowException as error:
        first, last = results[0].number, results[-1].number
        raise ResultError(f"rows {first} to {last}: a value does not have the type of its column: {error}") from None
    return pa.table(arrays, schema=schema)


def _finite(probability: float) -> float | None:
    return probability if math.isfinite(probability) else None
