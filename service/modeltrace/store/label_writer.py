"""Write true labels to the store before the service answers the request that contains them."""

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modeltrace.errors import LabelStoreUnavailableError, StoreError
from modeltrace.failure_log import FailureLog
from modeltrace.store.rows import StoredLabel

if TYPE_CHECKING:  # a service without a store does not import SQLAlchemy
    from modeltrace.store.label_insertion import LabelOutcome
    from modeltrace.store.store import Store

logger = logging.getLogger("modeltrace.store")


class LabelWriter:
    """Adds labels to a store, which is opened at the first label. Thread-safe; each call may block.

    Args:
        store_url: the value of MODELTRACE_STORE; `None` for no store.
    """

    def __init__(self, store_url: str | None) -> None:
        self._store_url = store_url
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._failures = FailureLog(logger, "no label is stored for now", "labels are stored again")
        self._closed = False

    def add(self, labels: Sequence[StoredLabel]) -> "list[LabelOutcome]":
        """Add labels in one transaction.

        Returns:
            An outcome per label, in order. Without a store every label is `new`.

        Raises:
            LabelStoreUnavailableError: no label was added.
        """
        if self._store_url is None or not labels:
            return ["new"] * len(labels)
        try:
            outcomes = self._open_store(self._store_url).add_labels(labels)
        except StoreError as error:
            self._failures.update(str(error))
            raise LabelStoreUnavailableError(
                "labels cannot be stored for now; nothing is lost if you send them again"
            ) from error
        self._failures.update()
        return outcomes

    def close(self) -> None:
        """Close the store; later calls of `add` fail."""
        with self._lock:
            self._closed = True
            if self._store:
                self._store.close()

    def _open_store(self, url: str) -> "Store":
        with self._lock:
            if self._closed:
                raise StoreError("the service is stopping")
            if self._store is None:
                # A service without a store does not import SQLAlchemy, which takes a third of a second.
                from modeltrace.store.store import open_store  # noqa: PLC0415  see above

                self._store = open_store(url)
            return self._store
