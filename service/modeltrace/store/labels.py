"""True labels: the first one of a prediction stays."""

from collections.abc import Sequence
from typing import Final, Literal

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from modeltrace.store.rows import Label, identity, read, write
from modeltrace.store.schema import labels

Outcome = Literal["new", "same", "conflict"]

# IDs of one question.
CHUNK: Final = 1000


def add(connection: Connection, items: Sequence[Label]) -> list[Outcome]:
    """Add labels; what became of each, in order. One that is not the first of its prediction changes nothing."""
    if not items:
        return []
    first = {item.prediction_id: item for item in reversed(items)}
    # In one order everywhere: two that add the same labels must not wait for each other.
    rows = [{**first[one]._asdict(), "label": write(first[one].label)} for one in sorted(first)]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    adding = dialect.insert(labels).on_conflict_do_nothing().returning(labels.c.prediction_id)
    new = set(connection.execute(adding, rows).scalars())
    there = _there(connection, sorted(first))

    outcomes: list[Outcome] = []
    for item in items:
        if identity(read(there.get(item.prediction_id))) != identity(read(write(item.label))):
            outcomes.append("conflict")
        else:
            outcomes.append("new" if item.prediction_id in new else "same")
        new.discard(item.prediction_id)
    return outcomes


def _there(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(ids), CHUNK):
        chosen = labels.c.prediction_id.in_(ids[start : start + CHUNK])
        rows = connection.execute(select(labels.c.prediction_id, labels.c.label).where(chosen))
        found |= dict(map(tuple, rows))
    return found
