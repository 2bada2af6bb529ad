"""Aggregate queries on the prediction store. They return a few rows for millions of predictions.

Each query computes expressions in a subquery and groups by the columns of the subquery. This is necessary because
SQLAlchemy binds a literal to a new parameter at each use: PostgreSQL would not recognize that the expressions in SELECT
and GROUP BY are the same.
"""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Select,
    Subquery,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from modeltrace.evaluation.calibration import BIN_EDGES
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection, label_join
from modeltrace.store.text_order import ByteOrder

# The hash distinguishes models that were packed under the same name and version.
MODEL_COLUMNS: Final = (predictions.c.model_name, predictions.c.model_version, predictions.c.model_hash)
PREDICTION_COLUMNS: Final = (predictions.c.time, predictions.c.prediction_id)
PREDICTION_ORDER: Final = (predictions.c.time, ByteOrder(predictions.c.prediction_id))
# The columns of predictions that metrics need, except those of the groups of a feature.
METRIC_COLUMNS: Final = (
    "prediction_id", "time", "trace_id", "model_name", "model_version", "model_hash", "label", "value", "confidence",
    "shadow_of", "synthetic", "tags", "probabilities", "outputs", "interval_low", "interval_high", "interval_level",
)  # fmt: skip
# Quantiles of the label delay and of the absolute error, in percent.
PERCENTS: Final = (50, 95)
# Maximum absolute value of a number. Larger numbers overflow when they are squared and summed.
MAX_MAGNITUDE: Final = 1e150
# The maximum length of a JSON number; a database cannot convert a longer one.
MAX_DIGITS: Final = 300
# `relative_error` rounds to this number of levels, so that each is one character.
ERROR_LEVELS: Final = 63
_LEVEL_CHARACTERS: Final = "".join(chr(ord("0") + level) for level in range(ERROR_LEVELS + 1))


def outcome_counts(selection: Selection) -> Select[Any]:
    """Count predictions by model, predicted label, true label and confidence bin.

    Columns: name, version, hash, label and true label as JSON, whether there is a true label, bin, number of rows, and
    the sums of the confidence c, of c² and of (1 - c)². The predictions of a regressor, or of a model with several
    outputs, have only two groups: with and without a true label.
    """
    confidence = predictions.c.confidence
    inner = (
        select(
            *MODEL_COLUMNS,
            predictions.c.label,
            case((predictions.c.label.is_not(None), labels.c.label), else_=null()).label("true_label"),
            labels.c.prediction_id.is_not(None).label("labelled"),
            case(
                (confidence.is_(None), null()),
                *((confidence <= edge, index) for index, edge in enumerate(BIN_EDGES)),
                else_=len(BIN_EDGES),
            ).label("bin"),
            confidence,
        )
        .select_from(predictions.outerjoin(labels, label_join()))
        .where(*selection.conditions())
        .subquery()
    )
    keys = (*inner.c[:6], inner.c.bin)
    c = inner.c.confidence
    return select(*keys, func.count(), func.sum(c), func.sum(square(c)), func.sum(square(1 - c))).group_by(*keys)


def label_delays(selection: Selection) -> Select[Any]:
    """Select the label delay of one model at each of PERCENTS.

    A quantile is the smallest delay that at least this percentage of labels does not exceed (numpy's `inverted_cdf`).
    Clock differences can cause a negative delay, which counts as 0.

    Columns: number of labels, rank, and delay in nanoseconds.

    Args:
        selection: predictions of one model. Ranks within several models would sort the names of the models, too.
    """
    delay = labels.c.received - predictions.c.time
    inner = select_labelled(selection, case((delay > 0, delay), else_=0).label("delay")).subquery()
    ranked = rank_values(inner.c.delay)
    return select(ranked).where(
        or_(*(ranked.c.rank == quantile_rank(ranked.c.number, percent) for percent in PERCENTS))
    )


def quantile_rank(number: Any, percent: int) -> Any:  # noqa: ANN401  an integer, or a column of integers
    """Return the rank of a quantile among `number` sorted values, from 1."""
    return (number * percent + 99) // 100


def rank_values(value: ColumnElement[Any]) -> Subquery:
    """Select the number of values, the rank of each value, and the value."""
    return select(
        func.count().over().label("number"), func.row_number().over(order_by=value).label("rank"), value
    ).subquery()


def is_wrong(equivalent_pairs: Collection[tuple[str, str]]) -> ColumnElement[str]:
    """Return 1 if the label of a classifier is wrong, else 0.

    Args:
        equivalent_pairs: predicted and true labels that are equal but differ in their JSON.
    """
    pair = tuple_(predictions.c.label, labels.c.label)
    equivalent = [pair.in_(list(equivalent_pairs))] if equivalent_pairs else []
    return _error_character(or_(predictions.c.label == labels.c.label, *equivalent))


def exceeds(tolerance: float) -> ColumnElement[str]:
    """Return 1 if the absolute error of a regressor is larger than the tolerance, else 0."""
    return _error_character(absolute_error() <= tolerance)


def relative_error(median: float) -> ColumnElement[str]:
    """Return a character for |error| / (|error| + median), which is from 0 to 1 for any distribution of the errors."""
    error = absolute_error()
    level = _floor(ERROR_LEVELS * error / (error + median) + 0.5) if median else ERROR_LEVELS
    return func.substr(_LEVEL_CHARACTERS, case((error == 0, 1), else_=level + 1), 1)


def _floor(number: ColumnElement[float]) -> ColumnElement[int]:
    """Return the integer part of a number that is not negative. A cast truncates in SQLite and rounds in others."""
    integer = cast(number, Integer)
    return case((integer > number, integer - 1), else_=integer)


def _error_character(correct: ColumnElement[bool]) -> ColumnElement[str]:
    return case((correct, literal("0", Text)), else_=literal("1", Text))


def error_sequence(
    selection: Selection, error: ColumnElement[str], *, classifier: bool, aggregates_in_order: bool
) -> Select[Any]:
    """Select one text with a character per labelled prediction, in order.

    Args:
        selection: predictions of one version of a model.
        error: the character of a prediction.
        classifier: whether the model is a classifier.
        aggregates_in_order: whether the aggregate function needs its own ORDER BY (PostgreSQL) or uses the order of the
            subquery (SQLite).
    """
    inner = _labelled_in_order(selection, error.label("error"), *PREDICTION_COLUMNS, classifier=classifier).subquery()
    separator: ColumnElement[str] = literal_column("''")
    if aggregates_in_order:
        ordered = aggregate_order_by(separator, inner.c.time, ByteOrder(inner.c.prediction_id))
        return select(func.string_agg(inner.c.error, ordered))
    return select(func.group_concat(inner.c.error, separator))


def nth_labelled(selection: Selection, index: int, *, classifier: bool) -> Select[Any]:
    """Select time, prediction ID and trace ID of the prediction at an index of `error_sequence`."""
    return (
        _labelled_in_order(selection, *PREDICTION_COLUMNS, predictions.c.trace_id, classifier=classifier)
        .offset(index)
        .limit(1)
    )


def _labelled_in_order(selection: Selection, *columns: ColumnElement[Any], classifier: bool) -> Select[Any]:
    """Select the labelled predictions of a classifier or a regressor, by time."""
    if classifier:
        of_task: ColumnElement[bool] = predictions.c.value.is_(None)
    else:
        of_task = and_(fits(predictions.c.value), fits(label_as_number()))
    return select_labelled(selection, *columns).where(of_task).order_by(*PREDICTION_ORDER)


def labelled_models(selection: Selection) -> Select[Any]:
    """Select name, version and hash of each model with true labels, and whether it is a classifier, in order.

    Clusterers and models with several outputs are left out.
    """
    classifier = predictions.c.value.is_(None).label("classifier")
    statement = select_labelled(selection, *MODEL_COLUMNS, classifier).where(comparable_label().is_not(None))
    return statement.distinct().order_by(*MODEL_COLUMNS, classifier)


def comparable_label() -> ColumnElement[str]:
    """Return a true label that the output can equal; NULL for that of a clusterer or of several outputs, an object."""
    return case((func.substr(labels.c.label, 1, 1) == "{", null()), else_=labels.c.label)


def select_labelled(selection: Selection, *columns: ColumnElement[Any]) -> Select[Any]:
    """Select columns of the predictions with a true label."""
    return select(*columns).select_from(predictions.join(labels, label_join())).where(*selection.conditions())


def absolute_error() -> ColumnElement[float]:
    """Return the absolute error of a regressor."""
    return func.abs(predictions.c.value - label_as_number())


def label_as_number() -> ColumnElement[float]:
    """Convert a true label to a number; NULL if it is not a number or has too many digits."""
    return json_as_number(labels.c.label)


def json_as_number(text: ColumnElement[str]) -> ColumnElement[float]:
    """Convert JSON to a number; NULL if it is not a number or has too many digits."""
    numeric = func.substr(text, 1, 1).in_(list("-0123456789"))
    return case((and_(numeric, func.length(text) <= MAX_DIGITS), cast(text, Double)), else_=null())


def square(number: ColumnElement[float]) -> ColumnElement[float]:
    """Square a number; 0 for a tiny one, because PostgreSQL raises an error on underflow."""
    return case((func.abs(number) < 1 / MAX_MAGNITUDE, 0.0), else_=number * number)


def fits(number: ColumnElement[float]) -> ColumnElement[bool]:
    """Whether the square of a number can be summed."""
    return func.abs(number) <= MAX_MAGNITUDE
