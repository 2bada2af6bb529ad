"""Which bundle a question about predictions means."""

from pathlib import Path
from typing import Final

from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.search_paths import search_paths
from modeltrace.cli.terminal import echo
from modeltrace.errors import BundleNotFoundError, SettingsError
from modeltrace.settings import Settings
from modeltrace.store.selection import latest_model
from modeltrace.store.store import Store

# What to do where no bundle is named.
BUNDLE_HINT: Final = (
    "Name the model's bundle with --bundle SOURCE: the folder that `modeltrace pack` wrote, a folder of bundles, or "
    "models:/NAME@ALIAS. Or set MODELTRACE_BUNDLE, as the service has it"
)


def resolve_bundle(settings: Settings, store: Store, version: str | None = None) -> Path:
    """The one that the settings name, or of a folder that version; where none is named, that of the newest prediction.

    Raises:
        SettingsError: none is named, and none can be told from the store.
        BundleError: there is no such bundle, or it cannot be used.
    """
    with Catalog(lambda text: echo(text, err=True)) as catalog:
        if settings.bundle is not None:
            found = catalog.resolve(settings.bundle)
            if version not in (None, found.version):
                found = catalog.find_version(found.name, version, [settings.bundle])
            return found.path
        answered_by = store.fetch_all(latest_model(version))
        sources = search_paths([settings.challenger])
        if not answered_by:
            raise SettingsError(
                f"which model is meant? {store.location.description} has no predictions to tell by. {BUNDLE_HINT}"
            )
        ((name, digest, said),) = answered_by
        try:
            return catalog.find_by_hash(digest, sources, version=said).path
        except BundleNotFoundError:
            raise SettingsError(
                f"the newest prediction is of {name} {said} (SHA-256 {digest[:12]}…), whose bundle is not among those "
                f"known here. {BUNDLE_HINT}"
            ) from None
