"""True labels as the service takes them: written at once, for whoever sent one is told what became of it."""

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modeltrace.errors import LabelStoreUnavailableError, StoreError
from modeltrace.store.rows import StoredLabel

if TYPE_CHECKING:  # imported when it is needed: a service without a store goes without the library, too
    from modeltrace.store.labels import LabelOutcome
    from modeltrace.store.store import Store

logger = logging.getLogger("modeltrace.store")


class LabelWriter:
    """Takes labels into a store, which is opened with the first of them; of any thread. All of its calls may block."""

    def __init__(self, store_url: str | None) -> None:
        """`said`: what MODELTRACE_STORE names; `None` for no store."""
        self._store_url = store_url
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._away = ""
        self._closed = False

    def add(self, items: Sequence[StoredLabel]) -> "list[LabelOutcome]":
        """Add labels in one transaction; what became of each, in order. Without a store each is new.

        Raises:
            LabelStoreUnavailableError: none of them was added.
        """
        if self._store_url is None or not items:
            return ["new"] * len(items)
        try:
            outcomes = self._open_store(self._store_url).add_labels(items)
        except StoreError as error:
            self._say(str(error))
            raise LabelStoreUnavailableError(
                "labels cannot be stored for now; nothing is lost if you send them again"
            ) from error
        self._say("")
        return outcomes

    def close(self) -> None:
        """Close the store; what is added later is refused."""
        with self._lock:
            self._closed = True
            if self._store:
                self._store.close()

    def _open_store(self, said: str) -> "Store":
        with self._lock:
            if self._closed:
                raise StoreError("the service stops")
            if self._store is None:
                from modeltrace.store.store import open_store  # noqa: PLC0415  see above

                self._store = open_store(said)
            return self._store

    def _say(self, text: str) -> None:
        """Log what the state has become; what stays as it is, is not repeated."""
        with self._lock:
            before, self._away = self._away, text
        if text and text != before:
            logger.warning("no label is stored for now: %s", text)
        elif before and not text:
            logger.warning("labels are stored again")
