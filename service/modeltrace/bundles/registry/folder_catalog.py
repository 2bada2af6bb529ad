"""A folder as a source: a bundle, or bundles below it, several versions of one model."""

from collections.abc import Callable, Iterator
from pathlib import Path

from modeltrace.bundles.manifest import MANIFEST_FILE
from modeltrace.bundles.registry.bundle_ref import LocalBundle, bundle_info, local_bundle
from modeltrace.bundles.registry.manifest_cache import ManifestCache
from modeltrace.bundles.registry.source import FolderSource
from modeltrace.bundles.registry.version_order import sort_best_first
from modeltrace.errors import BundleError, BundleNotFoundError


class FolderCatalog:
    """Finds bundles in folders. `tell` hears, once each, of what is broken there and therefore left out."""

    def __init__(self, on_broken_bundle: Callable[[str], None]) -> None:
        self._on_broken_bundle = on_broken_bundle
        self._reported: set[str] = set()
        self._manifests = ManifestCache()

    def resolve(self, source: FolderSource) -> LocalBundle:
        """The bundle that a source means: the one at its path, or of those below it the version asked for, or the best.

        Raises:
            BundleNotFoundError: there is none, or not in that version.
            BundleError: it cannot be used, or several could be meant.
        """
        if (source.path / MANIFEST_FILE).exists() or not source.path.is_dir():
            found = self._read(source.path)
            if source.version not in (None, found.version):
                raise BundleNotFoundError(f"{source}: the bundle at {source.path} is version {found.version}")
            return found
        there = list(self.list_bundles(source.path))
        if not there:
            raise BundleNotFoundError(
                f"no bundle at {source.path}: neither a {MANIFEST_FILE} in it, nor a folder with one that can be used "
                "(`modeltrace pack` makes one)"
            )
        return self._choose(source, there)

    def list_bundles(self, path: Path) -> Iterator[LocalBundle]:
        """The bundle at a path, or those below it; what is broken is told of and left out.

        Hidden folders are no bundles: `modeltrace pack` writes in one until the bundle is complete.
        """
        if (path / MANIFEST_FILE).exists():
            yield self._read(path)
            return
        try:
            folders = sorted(one for one in path.iterdir() if not one.name.startswith("."))
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
        return local_bundle(folder, bundle_info(*self._manifests.read(folder), str(folder)))

    def _choose(self, source: FolderSource, there: list[LocalBundle]) -> LocalBundle:
        wanted = [one for one in there if source.version in (None, one.version)]
        if not wanted:
            has = ", ".join(sort_best_first(one.version for one in there))
            raise BundleNotFoundError(f"{source.path} has no version {source.version}; it has {has}")
        if len(names := sorted({one.name for one in wanted})) > 1:
            raise BundleError(
                f"{source.path} has bundles of several models: {', '.join(names)}. Name the folder of one of them"
            )
        for version in sort_best_first(one.version for one in wanted):
            if (found := self._first_intact([one for one in wanted if one.version == version])) is not None:
                return found
        raise BundleNotFoundError(f"no bundle in {source.path} is intact; what is wrong with each was said before")

    def _first_intact(self, same: list[LocalBundle]) -> LocalBundle | None:
        """Of bundles that call themselves by one name and version, one whose files are what they should be."""
        intact = []
        for one in same:
            try:
                self._manifests.check_hashes(one.path, self._manifests.read(one.path).manifest)
            except BundleError as error:
                self._report_broken(error)
                continue
            intact.append(one)
        if len({one.sha256 for one in intact}) > 1:
            raise BundleError(
                f"{' and '.join(str(one.path) for one in intact)} are two bundles that both call themselves "
                f"{same[0].name} {same[0].version}. Pack one of them with another --version, or take it away"
            )
        return intact[0] if intact else None

    def _report_broken(self, error: BundleError) -> None:
        if str(error) not in self._reported:
            self._reported.add(str(error))
            self._on_broken_bundle(f"left out: {error}")
