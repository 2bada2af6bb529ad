"""Replace model versions while the service runs.

    every `interval`, or on SIGHUP ─► locate the bundle ─► unchanged: nothing to do
                                            │ another bundle
                                   load it ─► smoke test ─► replace the version
                                            └ failed: log, count; the current version stays

A bundle is rejected if this process serves, or has served, a different model with the same name and version. Metrics
could not distinguish the two models.

Each watcher has its own thread. A rejected bundle is not tried again until it changes, or until SIGHUP.
"""

import asyncio
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from modeltrace.bundles.registry.bundle_ref import LocalBundle, check_version_conflict
from modeltrace.bundles.registry.manifest_cache import FileStat, file_stats
from modeltrace.errors import ModeltraceError
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.serving.bundle_loader import BundleWatch
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.version import VersionFactory

logger = logging.getLogger("modeltrace.serving")

# Called with the outcome of a change (`served` or `refused`) and the type of the error ("" for none).
OnEvent = Callable[[str, str], object]


class Watcher:
    """Watches one bundle source."""

    def __init__(
        self,
        router: ModelRouter,
        versions: VersionFactory,
        bundle_watch: BundleWatch,
        *,
        interval: float,
        on_event: OnEvent,
    ) -> None:
        """`interval` is the time between two checks in seconds; with 0, the watcher checks at start and on request."""
        self._router = router
        self._versions = versions
        self._loader = bundle_watch.loader
        self._current = bundle_watch.bundle
        self._role = bundle_watch.role
        self._rejected: tuple[LocalBundle, Mapping[str, FileStat]] | None = None
        self._interval = interval
        self._on_event = on_event
        self._last_error = ""
        self._wake = threading.Event()
        self._stopped = self._check_requested = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="version-watcher")

    def start(self) -> None:
        """Start the thread. It checks at once, since a SIGHUP may have arrived after the bundle was loaded."""
        self._thread.start()

    def request_check(self) -> None:
        """Request a check that also retries a rejected bundle. Returns at once."""
        self._check_requested = True
        self._wake.set()

    def stop(self) -> None:
        """Stop checking, without waiting for the thread. A version that is being loaded will not be served."""
        self._stopped = True
        self._wake.set()
        self._loader.close()

    def _run(self) -> None:
        while not self._stopped:
            if self._check_requested:
                self._check_requested, self._rejected, self._last_error = False, None, ""
            self.check()
            if not self._interval:
                self._loader.close()  # the registry is not needed before the next SIGHUP
            self._wake.wait(self._interval or None)
            self._wake.clear()

    def check(self) -> None:
        """Serve the bundle that the source refers to now, if it has changed and is valid."""
        candidate = None
        try:
            bundle = self._loader.locate()
            # A repaired copy may have the same model.json as the damaged one, so the files are compared too.
            candidate = bundle, file_stats(bundle.path)
            if bundle == self._current or candidate == self._rejected:
                self._last_error = ""
                return
            self._replace(bundle)
        except Exception as error:  # noqa: BLE001  after any error, the current version stays in service
            self._rejected = candidate or self._rejected
            self._reject(error)

    def _replace(self, bundle: LocalBundle) -> None:
        start = time.monotonic()
        check_version_conflict(bundle, self._router.served_models())
        model = self._loader.load(bundle)
        self._versions.smoke_test(model)
        version = self._versions.build(model, self._role)
        if self._stopped:
            return
        replaced = self._router.version_in_role(self._role).model
        self._router.replace(version)
        self._current, self._rejected, self._last_error = bundle, None, ""
        log_model_event(model)
        # As at startup: garbage collections do not visit objects that live as long as this version.
        gc.collect()
        gc.freeze()
        self._on_event("served", "")
        role = f" as {self._role}" if self._role else ""
        logger.warning(
            "now serving %s %s from %s instead of %s%s, after %.2f s",
            *(model.name, model.version, bundle.location, replaced.version, role, time.monotonic() - start),
        )

    def _reject(self, error: Exception) -> None:
        """Count and log an error, unless it is the same as before."""
        if self._last_error == (message := str(error)):
            return
        self._last_error = message
        self._on_event("refused", type(error).__qualname__)
        current = self._router.version_in_role(self._role).model
        logger.error(
            "%s; still serving %s %s. A repaired bundle is loaded automatically; SIGHUP retries now",
            *(message, current.name, current.version),
            exc_info=None if isinstance(error, ModeltraceError) else error,
        )


@contextmanager
def run_watchers(watchers: Sequence[Watcher]) -> Iterator[None]:
    """Run watchers during the block, inside the event loop. SIGHUP requests a check of each."""
    loop = asyncio.get_running_loop()
    # Only the main thread receives signals; tests run the service on another thread.
    in_main_thread = threading.current_thread() is threading.main_thread()

    def request_checks() -> None:
        for watcher in watchers:
            watcher.request_check()

    if in_main_thread:
        loop.add_signal_handler(signal.SIGHUP, request_checks)
    for watcher in watchers:
        watcher.start()
    try:
        yield
    finally:
        if in_main_thread:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for watcher in watchers:
            watcher.stop()
