"""What the settings name: which bundle that is now, and the model in it."""

import logging

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.registry.bundle_ref import LocalBundle
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.inference.model import Model
from modeltrace.settings import Settings


class BundleLoader:
    """Finds and loads what one source means. One thread at a time."""

    def __init__(self, settings: Settings, source: str, *, expect_sha256: str | None = None) -> None:
        """`expect_sha256` pins the bundle: any other one is refused."""
        self._settings = settings
        self._expect_sha256 = expect_sha256
        self._catalog = Catalog(logging.getLogger("modeltrace.registry").warning)
        self.source = source

    @property
    def pinned(self) -> bool:
        """Whether there is but one bundle that will do."""
        return self._expect_sha256 is not None

    def close(self) -> None:
        """Keep nothing ready to look with; the next look starts it again. Of any thread."""
        self._catalog.close()

    def locate(self) -> LocalBundle:
        """The bundle that is meant now; equal to the one before when there is nothing new.

        Raises:
            ModeltraceError: there is none.
        """
        return self._catalog.resolve(self.source)

    def load(self, bundle: LocalBundle) -> Model:
        """The model in the bundle that was found, and no other that has taken its place since.

        Raises:
            ModeltraceError: it cannot be served.
        """
        model = load_bundle(
            bundle.path,
            expect_sha256=self._expect_sha256 or bundle.sha256,
            trust_pickle=self._settings.trust_pickle,
            trusted_types=self._settings.trusted_types,
            engine=self._settings.engine,
        )
        if self.pinned:
            self.close()  # nothing else can be served
        return model
