"""Insert true labels; the first label of a prediction is final."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from modeltrace.store import partitions
from modeltrace.store.rows import StoredLabel, from_json, label_key, to_json
from modeltrace.store.schema import labels

LabelOutcome = Literal["new", "same", "conflict"]


def insert_labels(connection: Connection, items: Sequence[StoredLabel]) -> list[LabelOutcome]:
    """Insert labels.

    Returns:
        An outcome per label, in order: `new` if it was inserted, `same` if the prediction already has an equal label,
        `conflict` if the prediction already has another label. The existing label is not changed.
    """
    if not items:
        return []
    first = {item.prediction_id: item for item in reversed(items)}
    # Insert in the same order in every process. Otherwise two transactions with the same labels could deadlock.
    rows = [{**first[key]._asdict(), "label": to_json(first[key].label)} for key in sorted(first)]
    first_day = partitions.first_day(connection)
    if first_day is not None:
        days = {item.prediction_time // partitions.DAY_NS for item in items}
        partitions.create_missing(connection, {day for day in days if day >= first_day})
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(labels).on_conflict_do_nothing().returning(labels.c.prediction_id)
    inserted = set(connection.execute(statement, rows).scalars())
    existing = select(labels.c.prediction_id, labels.c.label).where(labels.c.prediction_id.in_(list(first)))
    if first_day is not None:  # search only the partitions of these times
        existing = existing.where(labels.c.prediction_time.in_({item.prediction_time for item in items}))
    stored: dict[str, str] = dict(map(tuple, connection.execute(existing)))

    outcomes: list[LabelOutcome] = []
    for item in items:
        if label_key(from_json(stored.get(item.prediction_id))) != label_key(from_json(to_json(item.label))):
            outcomes.append("conflict")
        else:
            outcomes.append("new" if item.prediction_id in inserted else "same")
        inserted.discard(item.prediction_id)
    return outcomes
