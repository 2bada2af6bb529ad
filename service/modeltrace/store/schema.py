"""The tables of the prediction store, identical in SQLite and PostgreSQL.

Values are JSON text, stored byte by byte: PostgreSQL's JSON types support neither -0.0 nor U+0000, and may return
numbers in another notation. Times are nanoseconds since the Unix epoch. `labels` has no foreign key, because a label
may arrive before the row of its prediction.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, Text

# Increases with each change of the tables. Older stores are migrated (`modeltrace.store.migration`), newer ones are
# rejected.
SCHEMA_VERSION: Final = 9

# Key of the PostgreSQL advisory lock for creating and changing tables; an arbitrary number.
SCHEMA_LOCK_KEY: Final = 0x6D6F64656C

metadata: Final = MetaData()

schema_version: Final = Table("modeltrace_store", metadata, Column("version", Integer, nullable=False))

predictions: Final = Table(
    "predictions",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("trace_id", Text),  # hexadecimal; NULL if telemetry was off
    Column("span_id", Text),
    Column("row", Integer, nullable=False),  # index in the request, from 0
    Column("sampled", Boolean, nullable=False),  # decision of the head sampler: whether the trace was exported
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("model_hash", Text, nullable=False),
    Column("code_version", Text, nullable=False),  # version of the package modeltrace
    Column("inputs", Text),  # a JSON object by feature name; NULL once erased
    Column("label", Text),  # JSON; NULL for a model that predicts no label
    Column("value", Double),  # of a regressor; NULL for another model
    Column("confidence", Double),
    Column("erased", BigInteger),  # time at which the inputs were erased
    Column("schema_hash", Text),  # hash of the feature schema; NULL for rows of version 1
    Column("shadow_of", Text),  # for a shadow's prediction: the ID of the primary model's prediction
    Column("synthetic", Boolean),  # whether the traffic generator sent the request; NULL for rows of versions 1 and 2
    Column("external_id", Text),  # the client's own ID; NULL without one, and once erased
    Column("tags", Text),  # a JSON object of texts; NULL without tags, and once erased
    # a JSON array of pairs of class and probability, in the order of the model's classes; NULL if not recorded
    Column("probabilities", Text),
    Column("api_key_name", Text),  # of the client; NULL without a named API key
    Column("outputs", Text),  # a JSON object of the named outputs; NULL without them
    # The bounds of the prediction interval, and the probability with which it encloses the label; NULL if not recorded
    Column("interval_low", Double),
    Column("interval_high", Double),
    Column("interval_level", Double),
    Index("predictions_time", "time", "prediction_id"),
    Index("predictions_trace_id", "trace_id"),
)


def _add_partial_index(column: Column[str]) -> None:
    """Add an index of the rows that have a value in a column."""
    has_value = column.is_not(None)
    Index(f"predictions_{column.name}", column, sqlite_where=has_value, postgresql_where=has_value)


_add_partial_index(predictions.c.shadow_of)
_add_partial_index(predictions.c.external_id)

labels: Final = Table(
    "labels",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    Column("label", Text, nullable=False),  # JSON
    Column("received", BigInteger, nullable=False),
    Column("prediction_time", BigInteger, nullable=False),  # from the prediction ID, to the millisecond
    Column("api_key_name", Text),  # of the client that sent the label; NULL without a named API key
    Index("labels_prediction_time", "prediction_time"),
)
