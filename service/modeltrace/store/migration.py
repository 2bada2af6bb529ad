"""Migrate the tables of an older version in place, in one transaction.

After a migration, services of the previous version can still write: they name the columns that they fill, and new
columns may be NULL. Replicas can therefore be upgraded one after the other.
"""

from typing import Final

from sqlalchemy import Connection, select, text, update

from modeltrace.store.schema import SCHEMA_VERSION, schema_version

# The statements that lead from each version to the next one, valid in SQLite and PostgreSQL.
MIGRATIONS: Final = {
    1: (
        "ALTER TABLE predictions ADD COLUMN schema_hash TEXT",
        "ALTER TABLE predictions ADD COLUMN shadow_of TEXT",
        "CREATE INDEX predictions_shadow_of ON predictions (shadow_of) WHERE shadow_of IS NOT NULL",
    ),
    2: ("ALTER TABLE predictions ADD COLUMN synthetic BOOLEAN",),
    3: (
        "ALTER TABLE predictions ADD COLUMN external_id TEXT",
        "CREATE INDEX predictions_external_id ON predictions (external_id) WHERE external_id IS NOT NULL",
    ),
    4: ("ALTER TABLE predictions ADD COLUMN tags TEXT",),
    5: ("ALTER TABLE predictions ADD COLUMN probabilities TEXT",),
    6: (
        "ALTER TABLE predictions ADD COLUMN api_key_name TEXT",
        "ALTER TABLE labels ADD COLUMN api_key_name TEXT",
    ),
    7: ("ALTER TABLE predictions ADD COLUMN outputs TEXT",),
    8: (
        "ALTER TABLE predictions ADD COLUMN interval_low DOUBLE PRECISION",
        "ALTER TABLE predictions ADD COLUMN interval_high DOUBLE PRECISION",
        "ALTER TABLE predictions ADD COLUMN interval_level DOUBLE PRECISION",
    ),
}


def migrate(connection: Connection) -> None:
    """Run all outstanding migrations. Do nothing if another process has already run them."""
    current = connection.execute(select(schema_version.c.version)).scalar_one()
    for version in range(current, SCHEMA_VERSION):
        for statement in MIGRATIONS[version]:
            connection.execute(text(statement))
    connection.execute(update(schema_version).values(version=SCHEMA_VERSION))
