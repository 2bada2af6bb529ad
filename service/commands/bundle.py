"""Which bundle a question about predictions means."""

from pathlib import Path

from service.errors import SettingsError
from service.registry.catalog import Catalog
from service.registry.known import known_sources
from service.settings import Settings
from service.store.selection import newest
from service.store.store import Store
from service.terminal import echo


def find_bundle(settings: Settings, store: Store, version: str | None = None) -> Path:
    """The one that the settings name, or of a folder that version; where none is named, that of the newest prediction.

    Raises:
        SettingsError: none is named, and none can be told from the store.
        BundleError: there is no such bundle, or it cannot be used.
    """
    with Catalog(lambda text: echo(text, err=True)) as catalog:
        if settings.bundle is not None:
            found = catalog.locate(settings.bundle)
            if version not in (None, found.version):
                found = catalog.find_version(found.name, version, [settings.bundle])
            return found.path
        answered_by = store.ask(newest(version))
        sources = known_sources([settings.challenger])
        if not answered_by or not sources:
            raise SettingsError("which model is meant? Name its bundle with --bundle, or set MODELTRACE_BUNDLE")
        ((digest, said),) = answered_by
        return catalog.find_by_hash(digest, sources, version=said).path
