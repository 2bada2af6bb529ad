"""Find bundles in a folder: the folder itself is a bundle, or it contains several versions of one model."""

from collections.abc import Callable, Iterator
from pathlib import Path

from modeltrace.bundles.manifest import MANIFEST_FILE
from modeltrace.bundles.registry.bundle_ref import LocalBundle, bundle_info
from modeltrace.bundles.registry.manifest_cache import ManifestCache
from modeltrace.bundles.registry.source import FolderSource
from modeltrace.bundles.registry.version_order import sort_best_first
from modeltrace.errors import BundleError, BundleNotFoundError


class FolderCatalog:
    """Find bundles in folders. `on_broken_bundle` is called once with each message about a broken bundle."""

    def __init__(self, on_broken_bundle: Callable[[str], None]) -> None:
        self._on_broken_bundle = on_broken_bundle
        self._reported: set[str] = set()
        self._manifests = ManifestCache()

    def resolve(self, source: FolderSource) -> LocalBundle:
        """Return the bundle at a path. For a folder of bundles, return the version in the source or the best version.

        Raises:
            BundleNotFoundError: there is no bundle, or no bundle of this version.
            BundleError: the bundle cannot be used, or the source is ambiguous.
        """
        if (source.path / MANIFEST_FILE).exists() or not source.path.is_dir():
            bundle = self._read(source.path)
            if source.version not in (None, bundle.version):
                raise BundleNotFoundError(f"{source}: the bundle at {source.path} has the version {bundle.version}")
            return bundle
        bundles = list(self.list_bundles(source.path))
        if not bundles:
            raise BundleNotFoundError(
                f"no bundle at {source.path}: it contains neither {MANIFEST_FILE} nor a folder with a bundle that can "
                "be used (create one with `modeltrace pack`)"
            )
        return self._choose(source, bundles)

    def list_bundles(self, path: Path) -> Iterator[LocalBundle]:
        """Yield the bundle at a path, or the bundles below it. Broken bundles are reported and skipped.

        Hidden folders are skipped, because `modeltrace pack` writes into one until the bundle is complete.
        """
        if (path / MANIFEST_FILE).exists():
            yield self._read(path)
            return
        try:
            folders = sorted(folder for folder in path.iterdir() if not folder.name.startswith("."))
        except OSError as error:
            raise BundleNotFoundError(f"no bundle at {path}: {error.strerror or error}") from None
        for folder in folders:
            if not (folder / MANIFEST_FILE).exists():
                continue
            try:
                self._manifests.check_sizes(folder, self._manifests.read(folder).manifest)
            except BundleError as error:
                self._report_broken(error)
                continue
            yield self._read(folder)

    def _read(self, folder: Path) -> LocalBundle:
        return bundle_info(self._manifests.read(folder), str(folder)).at(folder)

    def _choose(self, source: FolderSource, bundles: list[LocalBundle]) -> LocalBundle:
        matching = [bundle for bundle in bundles if source.version in (None, bundle.version)]
        if not matching:
            versions = ", ".join(sort_best_first(bundle.version for bundle in bundles))
            raise BundleNotFoundError(f"{source.path} has no version {source.version}; it has {versions}")
        if len(names := sorted({bundle.name for bundle in matching})) > 1:
            raise BundleError(
                f"{source.path} contains bundles of several models: {', '.join(names)}. Use the folder of one of them"
            )
        for version in sort_best_first(bundle.version for bundle in matching):
            same_version = [bundle for bundle in matching if bundle.version == version]
            if (intact := self._first_intact(same_version)) is not None:
                return intact
        raise BundleNotFoundError(f"no bundle in {source.path} is intact; the log lines above tell what is wrong")

    def _first_intact(self, same_version: list[LocalBundle]) -> LocalBundle | None:
        """Return the first bundle with intact files; `None` if there is none.

        Raises:
            BundleError: two intact bundles differ, although they have the same name and version.
        """
        intact = []
        for bundle in same_version:
            try:
                self._manifests.check_hashes(bundle.path, self._manifests.read(bundle.path).manifest)
            except BundleError as error:
                self._report_broken(error)
                continue
            intact.append(bundle)
        if len({bundle.sha256 for bundle in intact}) > 1:
            raise BundleError(
                f"{' and '.join(str(bundle.path) for bundle in intact)} are different bundles with the same name and "
                f"version, {intact[0].name} {intact[0].version}. Pack one of them with another --version, or remove it"
            )
        return intact[0] if intact else None

    def _report_broken(self, error: BundleError) -> None:
        if str(error) not in self._reported:
            self._reported.add(str(error))
            self._on_broken_bundle(f"skipped: {error}")
