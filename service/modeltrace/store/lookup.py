"""Find predictions by prediction ID or trace ID."""

import re
from typing import Final

from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")


class NotFoundError(ModeltraceError):
    """The prediction store has no matching prediction."""


def find_predictions(store: Store, identifier: str) -> list[StoredPrediction]:
    """Return the prediction with that ID, or all predictions of that trace.

    Raises:
        NotFoundError: no prediction matches.
        StoreError: the store cannot be read.
    """
    if TRACE_ID.fullmatch(identifier):
        predictions = [row for page in store.read(Selection(trace_id=identifier.lower())) for row in page]
    else:
        prediction = store.find(identifier)
        predictions = [] if prediction is None else [prediction]
    if not predictions:
        raise NotFoundError(
            f"no prediction or trace {identifier} in {store.location.description}. It may be older than "
            "MODELTRACE_STORE_RETENTION_DAYS, or in another store: MODELTRACE_STORE"
        )
    return predictions
