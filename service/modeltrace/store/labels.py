"""True labels: the first one of a prediction stays."""

from collections.abc import Sequence
from typing import Final, Literal

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from modeltrace.store.rows import StoredLabel, from_json, label_key, to_json
from modeltrace.store.schema import labels

LabelOutcome = Literal["new", "same", "conflict"]

# IDs of one question.
MAX_IDS_PER_QUERY: Final = 1000


def insert_labels(connection: Connection, items: Sequence[StoredLabel]) -> list[LabelOutcome]:
    """Add labels; what became of each, in order. One that is not the first of its prediction changes nothing."""
    if not items:
        return []
    first = {item.prediction_id: item for item in reversed(items)}
    # In one order everywhere: two that add the same labels must not wait for each other.
    rows = [{**first[one]._asdict(), "label": to_json(first[one].label)} for one in sorted(first)]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    adding = dialect.insert(labels).on_conflict_do_nothing().returning(labels.c.prediction_id)
    new = set(connection.execute(adding, rows).scalars())
    there = _stored_labels(connection, sorted(first))

    outcomes: list[LabelOutcome] = []
    for item in items:
        if label_key(from_json(there.get(item.prediction_id))) != label_key(from_json(to_json(item.label))):
            outcomes.append("conflict")
        else:
            outcomes.append("new" if item.prediction_id in new else "same")
        new.discard(item.prediction_id)
    return outcomes


def _stored_labels(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(ids), MAX_IDS_PER_QUERY):
        chosen = labels.c.prediction_id.in_(ids[start : start + MAX_IDS_PER_QUERY])
        rows = connection.execute(select(labels.c.prediction_id, labels.c.label).where(chosen))
        found |= dict(map(tuple, rows))
    return found
