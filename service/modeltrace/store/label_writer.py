"""Write true labels to the store before the service answers the request that contains them."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

    @property
    def has_store(self) -> bool:
        """Whether there is a store."""
        return self._store_url is not None

    def find_by_external_id(self, external_ids: Sequence[str], model_name: str) -> dict[str, tuple[int, str]]:
        """Find the predictions of a model by external ID.

        Returns:
            For each external ID in the store, the number of predictions and the ID of one of them.

        Raises:
            LabelStoreUnavailableError: the store cannot be read, or there is none.
        """
        with self._report_failures() as store:
            return store.find_by_external_id(external_ids, model_name)

    def add(self, labels: Sequence[StoredLabel]) -> "list[LabelOutcome]":
        """Add labels in one transaction.

        Returns:
            An outcome per label, in order. Without a store every label is `new`.

        Raises:
            LabelStoreUnavailableError: no label was added.
        """
        if self._store_url is None or not labels:
            return ["new"] * len(labels)
        with self._report_failures() as store:
            return store.add_labels(labels)

    def close(self) -> None:
        """Close the store; later calls of `add` fail."""
        with self._lock:
            self._closed = True
            if self._store:
                self._store.close()

    @contextmanager
    def _report_failures(self) -> "Iterator[Store]":
        """Yield the store, and report whether it can be used."""
        try:
            yield self._open_store()
        except StoreError as error:
            self._failures.update(str(error))
            raise LabelStoreUnavailableError(
                "labels cannot be stored for now; nothing is lost if you send them again"
            ) from error
        self._failures.update()

    def _open_store(self) -> "Store":
        with self._lock:
            if self._store_url is None:
                raise StoreError("the prediction store is disabled (MODELTRACE_STORE=none)")
            if self._closed:
                raise StoreError("the service is stopping")
            if self._store is None:
                # A service without a store does not import SQLAlchemy, which takes a third of a second.
                from modeltrace.store.store import open_store  # noqa: PLC0415  see above

                self._store = open_store(self._store_url)
            return self._store
