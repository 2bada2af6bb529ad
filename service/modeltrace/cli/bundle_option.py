"""The bundle of the model whose predictions a command analyses."""

from pathlib import Path
from typing import Final

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.search_paths import search_paths
from modeltrace.errors import BundleNotFoundError, ModeltraceError, SettingsError
from modeltrace.settings import Settings, read_settings
from modeltrace.store.selection import Selection, latest_model
from modeltrace.store.store import Store
from modeltrace.terminal import echo

BUNDLE_HINT: Final = (
    "Name the model's bundle with --bundle SOURCE: the folder that `modeltrace pack` wrote, a folder of bundles, or "
    "models:/NAME@ALIAS. Or set MODELTRACE_BUNDLE to the value that the service has"
)


def resolve_bundle(settings: Settings, store: Store, version: str | None = None) -> Path:
    """Return the folder of the configured bundle, or the bundle of the model that made the newest prediction.

    The latter is searched in the challenger's source, the current folder, and the folders of downloads and the example.

    Args:
        settings: the settings, which may name a bundle.
        store: the prediction store. If no bundle is configured, its newest prediction determines the model.
        version: the version of the model. The default is the version of the bundle or of the newest prediction.

    Raises:
        SettingsError: no bundle is configured, and none is found from the predictions in the store.
        BundleError: there is no such bundle, or it cannot be used.
    """
    with Catalog(lambda warning: echo(warning, err=True)) as catalog:
        if settings.bundle is not None:
            bundle = catalog.resolve(settings.bundle)
            if version not in (None, bundle.version):
                bundle = catalog.find_version(bundle.name, version, [settings.bundle])
            return bundle.path
        rows = store.fetch_all(latest_model(version))
        if not rows:
            raise SettingsError(
                f"no bundle is named, and {store.location.description} has no predictions that determine the model. "
                f"{BUNDLE_HINT}"
            )
        ((name, model_hash, model_version),) = rows
        try:
            return catalog.find_by_hash(
                model_hash, search_paths([settings.challenger, "."]), version=model_version
            ).path
        except BundleNotFoundError:
            raise SettingsError(
                f"the newest prediction is of {name} {model_version} (SHA-256 {model_hash[:12]}…), whose bundle is not "
                f"found. {BUNDLE_HINT}"
            ) from None


def find_manifest(store: Store, bundle: str | None) -> Manifest | None:
    """Return the manifest of a bundle, or that of `resolve_bundle` if it exists.

    Raises:
        ModeltraceError: `bundle` names a bundle that does not exist or cannot be used.
    """
    try:
        return read_manifest(resolve_bundle(read_settings(bundle=bundle), store)).manifest
    except ModeltraceError:
        if bundle is not None:
            raise
        return None


def select_model(selection: Selection, bundle: str) -> Selection:
    """Select the predictions of the model of a bundle, unless the selection names a model or a version.

    Raises:
        BundleError: there is no such bundle, or it cannot be used.
    """
    with Catalog(lambda warning: echo(warning, err=True)) as catalog:
        found = catalog.resolve(bundle)
    if selection.model_name not in (None, found.name):
        return selection
    return selection._replace(model_name=found.name, model_version=selection.model_version or found.version)
