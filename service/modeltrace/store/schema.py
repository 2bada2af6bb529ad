"""The tables of the prediction store, the same in SQLite and in PostgreSQL.

Values are JSON as text, in the bytes in which they were written: PostgreSQL's own JSON knows neither -0.0 nor U+0000,
and would give back numbers that are equal but not the same. Times are nanoseconds since the Unix epoch. `labels` has no
foreign key, for a label may arrive before the row of its prediction.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, Text

# Changes with the tables: an older store is brought up to it (`modeltrace.store.migration`), a later one refused.
SCHEMA_VERSION: Final = 3

metadata: Final = MetaData()

schema_version: Final = Table("modeltrace_store", metadata, Column("version", Integer, nullable=False))

predictions: Final = Table(
    "predictions",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("trace_id", Text),  # hexadecimal; NULL with telemetry off
    Column("span_id", Text),
    Column("row", Integer, nullable=False),  # its place in the request
    Column("sampled", Boolean, nullable=False),  # by the head sampler: whether its trace was sent at all
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("model_hash", Text, nullable=False),
    Column("code_version", Text, nullable=False),  # of the package modeltrace
    Column("inputs", Text),  # a JSON object by feature; NULL once erased
    Column("label", Text),  # JSON; NULL of a regressor
    Column("value", Double),  # NULL of a classifier
    Column("confidence", Double),
    Column("erased", BigInteger),  # when the inputs were
    Column("schema_hash", Text),  # of the feature schema; NULL of rows that a store of version 1 had
    Column("shadow_of", Text),  # the prediction that was answered, where this one was only recorded
    Column("synthetic", Boolean),  # whether it was asked by generated traffic; NULL of rows of a store of version 2
    Index("predictions_time", "time", "prediction_id"),
    Index("predictions_trace_id", "trace_id"),
)
# Most rows are shadows of nothing, and cost it nothing.
Index(
    "predictions_shadow_of",
    predictions.c.shadow_of,
    sqlite_where=predictions.c.shadow_of.is_not(None),
    postgresql_where=predictions.c.shadow_of.is_not(None),
)

labels: Final = Table(
    "labels",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    Column("label", Text, nullable=False),  # JSON
    Column("received", BigInteger, nullable=False),
    Column("prediction_time", BigInteger, nullable=False),  # the prediction's, which its ID says: to the millisecond
    Index("labels_prediction_time", "prediction_time"),
)
