"""Find predictions by prediction ID, trace ID or external ID."""

import re
from typing import Final

from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
# What looks like a part of a trace ID.
HEX_DIGITS: Final = re.compile(r"[0-9a-fA-F]{4,40}")


class NotFoundError(ModeltraceError):
    """The prediction store has no matching prediction."""


def find_predictions(store: Store, identifier: str) -> list[StoredPrediction]:
    """Return the prediction with that ID, all predictions of that trace, or all predictions with that external ID.

    An external ID may look like a trace ID. The trace takes precedence.

    Raises:
        NotFoundError: no prediction matches.
        StoreError: the store cannot be read.
    """
    predictions: list[StoredPrediction] = []
    if TRACE_ID.fullmatch(identifier):
        predictions = [row for page in store.read(Selection(trace_id=identifier.lower())) for row in page]
    elif (prediction := store.find(identifier)) is not None:
        predictions = [prediction]
    if not predictions:
        predictions = [row for page in store.read(Selection(external_id=identifier)) for row in page]
    if not predictions:
        digits = len(identifier)
        reason = (
            f"A trace ID has 32 hexadecimal digits, and this one {digits}"
            if digits != 32 and HEX_DIGITS.fullmatch(identifier)
            else "It may be older than MODELTRACE_STORE_RETENTION_DAYS, or in another store: MODELTRACE_STORE"
        )
        raise NotFoundError(
            f"no prediction, trace or external ID {identifier} in {store.location.description}. {reason}"
        )
    return predictions
