"""Select predictions, and build the queries that several modules share."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, Text, func, literal, select, true

from modeltrace.store.json_values import JsonValue
from modeltrace.store.schema import labels, predictions


class TagValue(JsonValue):
    """SQL expression: the value of a tag; NULL if the prediction does not have it."""

    type = Text()
    inherit_cache = True
    sqlite = "json_extract({column}, '$.' || {place})"
    postgresql = "({column}::json ->> {place})"
    duckdb = "json_extract_string({column}, '$.' || {place})"

    def __init__(self, name: str) -> None:
        super().__init__(predictions.c.tags, literal(name))


class Selection(NamedTuple):
    """A filter of predictions; without arguments it selects all."""

    since: int | None = None  # the earliest time, in nanoseconds since the epoch
    until: int | None = None  # the first time after the selection, in nanoseconds since the epoch
    trace_id: str | None = None  # the trace ID in lower-case hexadecimal
    model_name: str | None = None
    model_version: str | None = None
    model_hash: str | None = None  # the SHA-256 of the model's file
    # whether to include predictions for generated traffic; metrics exclude them by default
    include_synthetic: bool = True
    external_id: str | None = None
    # tags that predictions must have, by name; the value "" stands for predictions without this tag
    tags: tuple[tuple[str, str], ...] = ()
    more: tuple[ColumnElement[bool], ...] = ()  # further conditions

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of a WHERE clause."""
        equal = (
            (predictions.c.trace_id, self.trace_id),
            (predictions.c.model_name, self.model_name),
            (predictions.c.model_version, self.model_version),
            (predictions.c.model_hash, self.model_hash),
            (predictions.c.external_id, self.external_id),
        )
        return [
            *([predictions.c.time >= self.since] if self.since is not None else []),
            *([predictions.c.time < self.until] if self.until is not None else []),
            *(column == value for column, value in equal if value is not None),
            *(func.coalesce(TagValue(name), "") == value for name, value in self.tags),
            *self.more,
            *([] if self.include_synthetic else [predictions.c.synthetic.is_not(true())]),
        ]

    def select_summary(self) -> Select[Any, Any, Any]:
        """Select the number of predictions, the earliest time and the latest time."""
        time = predictions.c.time
        return select(func.count(), func.min(time), func.max(time)).where(*self.conditions())


ALL: Final = Selection()


def latest_model(version: str | None) -> Select[Any, Any, Any]:
    """Select name, hash and version of the model of the latest prediction that is not a shadow's.

    With a `version`, only predictions of that version count.
    """
    conditions = [] if version is None else [predictions.c.model_version == version]
    statement = select(predictions.c.model_name, predictions.c.model_hash, predictions.c.model_version)
    return statement.where(predictions.c.shadow_of.is_(None), *conditions).order_by(predictions.c.time.desc()).limit(1)


def models() -> Select[Any, Any, Any]:
    """Select name, version and hash of each model with predictions."""
    return select(predictions.c.model_name, predictions.c.model_version, predictions.c.model_hash).distinct()


def select_by_external_id(external_ids: Sequence[str], model_name: str) -> Select[Any, Any, Any, Any]:
    """Select the predictions of a model that have these external IDs, without those of shadows.

    Columns: external ID, number of predictions, and the ID of one of them.
    """
    external_id, prediction_id = predictions.c.external_id, predictions.c.prediction_id
    return (
        select(external_id, func.count(), func.min(prediction_id))
        .where(external_id.in_(external_ids), predictions.c.model_name == model_name, predictions.c.shadow_of.is_(None))
        .group_by(external_id)
    )


def label_join() -> ColumnElement[bool]:
    """Return the join condition of `predictions` and `labels`. A shadow has the label of the primary prediction."""
    return func.coalesce(predictions.c.shadow_of, predictions.c.prediction_id) == labels.c.prediction_id


def predictions_with_labels() -> Select[Any]:
    """Select the columns that `modeltrace.store.rows.to_stored_prediction` expects."""
    joined = predictions.outerjoin(labels, label_join())
    return select(*predictions.columns, labels.c.label, labels.c.received, labels.c.api_key_name).select_from(joined)
