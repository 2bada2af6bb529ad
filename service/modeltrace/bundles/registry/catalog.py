"""Find bundles in folders and MLflow registries: by source, by the hash of the model, or by name and version."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from modeltrace.bundles.registry.bundle_ref import BundleInfo, LocalBundle
from modeltrace.bundles.registry.folder_catalog import FolderCatalog
from modeltrace.bundles.registry.mlflow_catalog import MlflowCatalog, RegisteredVersion
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.source import FolderSource, parse_source
from modeltrace.errors import BundleError, BundleNotFoundError
from modeltrace.settings import data_dir


class Catalog:
    """Find bundles in folders and MLflow registries. Repeated calls are cheap if nothing has changed.

    Not thread-safe, except for `close`. The caller must still verify a bundle when it loads it.
    """

    def __init__(self, on_broken_bundle: Callable[[str], None], cache_dir: Path | None = None) -> None:
        """Create a catalog.

        Args:
            on_broken_bundle: called with a message for each skipped bundle.
            cache_dir: the folder for copies from registries.
        """
        self._folders = FolderCatalog(on_broken_bundle)
        self._mlflow = MlflowClient()
        self._registry = MlflowCatalog(self._mlflow, cache_dir or data_dir() / "registry")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the MLflow process, if it is running. Thread-safe."""
        self._mlflow.close()

    def resolve(self, source: str) -> LocalBundle:
        """Return the bundle that a source refers to now. If nothing has changed, it equals the previous result.

        Args:
            source: one of two kinds. `FOLDER` or `FOLDER@VERSION` is a bundle or a folder of bundles; the default
                version is the highest. `models:/NAME@ALIAS` or `models:/NAME/NUMBER` is a version in an MLflow
                registry.

        Raises:
            SettingsError: the source is malformed, or MLflow is not installed.
            BundleError: there is no such bundle, or it cannot be used.
            RegistryUnavailableError: the registry cannot be reached now.
        """
        parsed = parse_source(source)
        return self._folders.resolve(parsed) if isinstance(parsed, FolderSource) else self._registry.resolve(parsed)

    def list_bundles(self, source: str) -> Iterator[BundleInfo]:
        """Yield all versions of a source. A version in the source is ignored.

        Raises:
            SettingsError: the source is malformed, or MLflow is not installed.
            BundleError: the source contains no bundle.
            RegistryUnavailableError: the registry cannot be reached now.
        """
        return (bundle for bundle, _ in self._iter_bundles(source))

    def find_by_hash(self, digest: str, sources: Sequence[str], *, version: str | None = None) -> LocalBundle:
        """Return the bundle whose model has this SHA-256. If several match, prefer this version, then the first source.

        Raises:
            SettingsError: a source is malformed, or MLflow is not installed.
            BundleNotFoundError: there is none; the message lists the sources.
        """
        description = f"whose model has the SHA-256 {digest}"
        return self._find(lambda bundle: bundle.has_model_hash(digest), description, sources, version)

    def find_version(self, name: str, version: str, sources: Sequence[str]) -> LocalBundle:
        """Return the bundle of a model with this version (the bundle's own, not the registry's number).

        Raises:
            SettingsError: a source is malformed, or MLflow is not installed.
            BundleNotFoundError: there is none; the message lists the sources.
        """
        description = f"of {name} {version}"
        return self._find(
            lambda bundle: (bundle.name, bundle.version) == (name, version), description, sources, version
        )

    def _find(
        self, matches: Callable[[BundleInfo], bool], description: str, sources: Sequence[str], version: str | None
    ) -> LocalBundle:
        """Return the first match with this version. Without a version or such a match, return the first match."""
        searched: list[str] = []
        fallback: tuple[BundleInfo, RegisteredVersion | None] | None = None
        for source in sources:
            try:
                for bundle, registered in self._iter_bundles(source):
                    if matches(bundle):
                        if version in (None, bundle.version):
                            return self._fetch(bundle, registered)
                        fallback = fallback or (bundle, registered)
                searched.append(repr(source))
            except BundleError as error:
                searched.append(f"{source!r} ({error})")
        if fallback is not None:
            return self._fetch(*fallback)
        raise BundleNotFoundError(f"no bundle {description} in {', '.join(searched)}")

    def _iter_bundles(self, source: str) -> Iterator[tuple[BundleInfo, RegisteredVersion | None]]:
        """Yield the bundles of a source. Bundles of a registry have a registered version."""
        parsed = parse_source(source)
        if isinstance(parsed, FolderSource):
            yield from ((bundle, None) for bundle in self._folders.list_bundles(parsed.path))
        else:
            yield from self._registry.list_bundles(parsed.name)

    def _fetch(self, bundle: BundleInfo, registered: RegisteredVersion | None) -> LocalBundle:
        if isinstance(bundle, LocalBundle):
            return bundle
        assert registered is not None  # noqa: S101  only local bundles have none
        return self._registry.fetch_bundle(bundle, registered)
