"""All sources in one: which bundle is meant, which has a hash, which are there."""

from collections.abc import Callable, Iterator, Sequence

from service.errors import BundleError, BundleNotFoundError, SettingsError
from service.registry.folder import Folders
from service.registry.found import Found, Listed
from service.registry.source import FolderSource, read_source


class Catalog:
    """Finds bundles. Asking again is cheap where nothing has changed. One thread at a time.

    Whatever it finds is checked again, and completely, by whoever loads it.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` hears, once each, of broken bundles that are left out."""
        self._folders = Folders(tell)

    def locate(self, source: str) -> Found:
        """The bundle that a source means now; equal to the last answer when there is nothing new.

        Args:
            source: `FOLDER` or `FOLDER@VERSION`, a bundle or a folder of bundles; without a version the highest.

        Raises:
            SettingsError: the source makes no sense.
            BundleError: there is no such bundle, or it cannot be used.
        """
        return self._folders.locate(self._read(source))

    def list(self, source: str) -> Iterator[Listed]:
        """What a source has: all versions, whichever it names.

        Raises:
            SettingsError: the source makes no sense.
            BundleError: there is nothing.
        """
        yield from self._folders.bundles(self._read(source).path)

    def find_by_hash(self, digest: str, sources: Sequence[str]) -> Found:
        """The bundle of the model whose file has this SHA-256, wherever among the sources it is.

        Raises:
            BundleNotFoundError: none has it; the message says where it was looked for.
        """
        return self._find(lambda one: one.holds(digest), f"whose model has the SHA-256 {digest}", sources)

    def find_version(self, name: str, version: str, sources: Sequence[str]) -> Found:
        """The bundle of that version of a model.

        Raises:
            BundleNotFoundError: none is; the message says where it was looked for.
        """
        return self._find(lambda one: (one.name, one.version) == (name, version), f"of {name} {version}", sources)

    def _find(self, wanted: Callable[[Listed], bool], words: str, sources: Sequence[str]) -> Found:
        looked = []
        for source in sources:
            try:
                for one in self._folders.bundles(self._read(source).path):
                    if wanted(one):
                        return one
                looked.append(source)
            except BundleError as error:
                looked.append(f"{source} ({error})")
        raise BundleNotFoundError(f"no bundle {words} in {', '.join(looked)}")

    def _read(self, source: str) -> FolderSource:
        found = read_source(source)
        if not isinstance(found, FolderSource):
            raise SettingsError(f"{source}: MLflow is not a source yet")
        return found
