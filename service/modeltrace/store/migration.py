"""From an older version of the tables to this one, in place and in one transaction.

A service of the version before goes on writing meanwhile: it names the columns that it fills, and those that it does
not know may be NULL. So many replicas can be brought up one after the other.
"""

from typing import Final

from sqlalchemy import Connection, select, text, update

from modeltrace.store.schema import SCHEMA_VERSION, schema_version

# What leads from each version to the next, in SQL that both databases understand.
MIGRATIONS: Final = {
    1: (
        "ALTER TABLE predictions ADD COLUMN schema_hash TEXT",
        "ALTER TABLE predictions ADD COLUMN shadow_of TEXT",
        "CREATE INDEX predictions_shadow_of ON predictions (shadow_of) WHERE shadow_of IS NOT NULL",
    ),
    2: ("ALTER TABLE predictions ADD COLUMN synthetic BOOLEAN",),
}


def migrate(connection: Connection) -> None:
    """Take every step that is missing; none when somebody else has just taken them."""
    found = connection.execute(select(schema_version.c.version)).scalar_one()
    for version in range(found, SCHEMA_VERSION):
        for step in MIGRATIONS[version]:
            connection.execute(text(step))
    connection.execute(update(schema_version).values(version=SCHEMA_VERSION))
