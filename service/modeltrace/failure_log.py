"""Log when an operation starts to fail and when it succeeds again. Repeated equal failures are not logged."""

import logging
import threading


class FailureLog:
    """The last outcome of a repeated operation. Thread-safe.

    Args:
        logger: the logger.
        failing: the message for a failure. A colon and the error follow it.
        recovered: the message for the first success after a failure.
    """

    def __init__(self, logger: logging.Logger, failing: str, recovered: str) -> None:
        self._logger = logger
        self._failing = failing
        self._recovered = recovered
        self._lock = threading.Lock()
        self._error = ""

    def update(self, error: str = "") -> None:
        """Record an outcome, and log it if it differs from the previous one. An empty `error` is a success."""
        with self._lock:
            previous, self._error = self._error, error
        if error and error != previous:
            self._logger.warning("%s: %s", self._failing, error)
        elif previous and not error:
            self._logger.warning(self._recovered)
