"""A new version takes over while the old one answers.

    every `seconds`, or when asked ─► what does the source mean now? ─► the same: nothing
                                            │ another bundle
                                   load it ─► does it answer its example? ─► switch
                                            └ no: refused, logged, counted; the old version goes on

Another model under the name and version of one that this process serves, or has served, is refused: every figure would
add the two up.

All of it happens on a thread of its own. A bundle that was refused is not tried again until it has changed, or until
somebody asks.
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
from modeltrace.serving.version import CHALLENGER, VersionFactory

logger = logging.getLogger("modeltrace.serving")

# What became of a change, and why: `served` or `refused`, and the kind of error.
OnEvent = Callable[[str, str], object]


class Watcher:
    """Watches one source."""

    def __init__(
        self,
        router: ModelRouter,
        versions: VersionFactory,
        bundle_watch: BundleWatch,
        *,
        interval: float,
        on_event: OnEvent,
    ) -> None:
        """`seconds` between two looks, 0: only when asked."""
        self._router = router
        self._versions = versions
        self._bundles = bundle_watch.loader
        self._served = bundle_watch.bundle
        self._role = bundle_watch.role
        self._refused: tuple[LocalBundle, Mapping[str, FileStat]] | None = None
        self._seconds = interval
        self._tell = on_event
        self._said = ""
        self._wake = threading.Event()
        self._ended = self._asked = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="version-watcher")

    def start(self) -> None:
        """Begin to look: at once, for what was loaded at the start may be older than a SIGHUP that came since."""
        self._thread.start()

    def request_check(self) -> None:
        """Look now, and try again what was refused before. Returns at once."""
        self._asked = True
        self._wake.set()

    def stop(self) -> None:
        """Look no more. A version that is being loaded will not be served; nobody waits for it."""
        self._ended = True
        self._wake.set()
        self._bundles.close()

    def _run(self) -> None:
        while not self._ended:
            if self._asked:
                self._asked, self._refused, self._said = False, None, ""
            self.check()
            if not self._seconds:
                self._bundles.close()  # until the next SIGHUP nobody needs what speaks with a registry
            self._wake.wait(self._seconds or None)
            self._wake.clear()

    def check(self) -> None:
        """Serve what the source means now, if that is something else and fit to be served."""
        tried = None
        try:
            found = self._bundles.locate()
            # A copy that was damaged may be mended with the very same model.json.
            tried = found, file_stats(found.path)
            if found == self._served or tried == self._refused:
                self._said = ""
                return
            self._change(found)
        except Exception as error:  # noqa: BLE001  whatever a bundle does to us, what is served goes on
            self._refused = tried or self._refused
            self._refuse(error)

    def _change(self, found: LocalBundle) -> None:
        start = time.monotonic()
        check_version_conflict(found, self._router.served_models())
        model = self._bundles.load(found)
        self._versions.smoke_test(model)
        version = self._versions.build(model, self._role)
        if self._ended:
            return
        before = self._router.version_in_role_of(version).model
        self._router.replace(version)
        self._served, self._refused, self._said = found, None, ""
        log_model_event(model)
        # As at the start: what lives as long as this version is not to be walked at every collection.
        gc.collect()
        gc.freeze()
        self._tell("served", "")
        logger.warning(
            "now serving %s %s from %s instead of %s%s, after %.2f s",
            *(
                model.name,
                model.version,
                found.location,
                before.version,
                f" as {self._role}" if self._role else "",
                time.monotonic() - start,
            ),
        )

    def _refuse(self, error: Exception) -> None:
        if self._said != (said := str(error)):
            self._said = said
            self._tell("refused", type(error).__qualname__)
            challenger = self._router.challenger if self._role == CHALLENGER else None
            goes_on = (challenger or self._router.primary).model
            words = "%s; %s %s goes on. Mended, it is taken by itself; SIGHUP has it tried again"
            unforeseen = not isinstance(error, ModeltraceError)
            logger.error(words, said, goes_on.name, goes_on.version, exc_info=error if unforeseen else None)


@contextmanager
def run_watchers(watchers: Sequence[Watcher]) -> Iterator[None]:
    """Watch while the block runs, within the event loop; SIGHUP has all of them look at once."""
    loop = asyncio.get_running_loop()
    # Only the main thread gets signals. A test's service runs on another one.
    signals = threading.current_thread() is threading.main_thread()

    def look() -> None:
        for one in watchers:
            one.request_check()

    if signals:
        loop.add_signal_handler(signal.SIGHUP, look)
    for one in watchers:
        one.start()
    try:
        yield
    finally:
        if signals:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for one in watchers:
            one.stop()
