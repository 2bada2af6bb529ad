"""Predictions by what people have at hand: a prediction ID or a trace ID."""

import re
from typing import Final

from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")


class NotFoundError(ModeltraceError):
    """The prediction store does not have it."""


def find_predictions(store: Store, identifier: str) -> list[StoredPrediction]:
    """The prediction of that ID, or those of that trace.

    Raises:
        NotFoundError: there is none; the message says where else it may be.
        StoreError: the store cannot be read.
    """
    if TRACE_ID.fullmatch(identifier):
        found = [one for chunk in store.read(Selection(trace_id=identifier.lower())) for one in chunk]
    else:
        one = store.find(identifier)
        found = [] if one is None else [one]
    if not found:
        raise NotFoundError(
            f"no prediction or trace {identifier} in {store.location.description}. It may be older than "
            "MODELTRACE_STORE_RETENTION_DAYS, or in another store: MODELTRACE_STORE"
        )
    return found
