"""Load the bundles that the settings name."""

import logging
from typing import NamedTuple

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.registry.bundle_ref import LocalBundle, check_version_conflict
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.inference.model import Model
from modeltrace.serving.version import CHALLENGER, NO_ROLE, PRIMARY, Role
from modeltrace.settings import Settings


class BundleLoader:
    """Locates and loads the bundle of one source. Only `close` may be called from other threads."""

    def __init__(self, settings: Settings, source: str, *, expect_sha256: str | None = None) -> None:
        """`expect_sha256` pins the bundle, so that any other is rejected."""
        self._settings = settings
        self._expect_sha256 = expect_sha256
        self._catalog = Catalog(logging.getLogger("modeltrace.registry").warning)
        self.source = source

    @property
    def pinned(self) -> bool:
        """Whether only one bundle is accepted."""
        return self._expect_sha256 is not None

    def close(self) -> None:
        """Close the connection to the registry; the next `locate` opens it again. Thread-safe."""
        self._catalog.close()

    def locate(self) -> LocalBundle:
        """Return the bundle that the source refers to now; equal to the previous bundle if nothing has changed.

        Raises:
            ModeltraceError: there is no bundle.
        """
        return self._catalog.resolve(self.source)

    def load(self, bundle: LocalBundle) -> Model:
        """Load the model of a bundle that `locate` returned, if the bundle has not changed since.

        Raises:
            ModeltraceError: the bundle cannot be served.
        """
        model = load_bundle(
            bundle.path,
            expect_sha256=self._expect_sha256 or bundle.sha256,
            trust_pickle=self._settings.trust_pickle,
            trust_code=self._settings.trust_code,
            trusted_types=self._settings.trusted_types,
            engine=self._settings.engine,
            onnx_providers=self._settings.onnx_providers,
        )
        if self.pinned:
            self.close()  # no other bundle can be served
        return model


class BundleWatch(NamedTuple):
    """A source of new model versions for one role, and the bundle that is served now."""

    loader: BundleLoader
    bundle: LocalBundle
    role: Role = NO_ROLE


def load_model(settings: Settings) -> tuple[Model, BundleWatch]:
    """Load the model that the settings name.

    Raises:
        ModeltraceError: the settings name no bundle, or it cannot be served.
    """
    loader = BundleLoader(settings, settings.bundle_source(), expect_sha256=settings.expect_sha256)
    bundle = loader.locate()
    return loader.load(bundle), BundleWatch(loader, bundle, PRIMARY if settings.challenger else NO_ROLE)


def load_challenger(settings: Settings, primary: Model) -> tuple[Model, BundleWatch] | None:
    """Load the challenger that runs in this process; `None` if there is none, or if it is another service.

    Raises:
        ModeltraceError: the bundle cannot be served.
    """
    if settings.challenger is None or settings.remote_challenger_url():
        return None
    loader = BundleLoader(settings, settings.challenger)
    bundle = loader.locate()
    check_version_conflict(bundle, [primary])
    return loader.load(bundle), BundleWatch(loader, bundle, CHALLENGER)
