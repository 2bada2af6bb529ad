"""All sources in one: which bundle is meant, which has a hash, which are there."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from modeltrace.bundles.registry.bundle_ref import Found, Listed
from modeltrace.bundles.registry.folder_catalog import Folders
from modeltrace.bundles.registry.mlflow_catalog import Models
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.source import FolderSource, read_source
from modeltrace.errors import BundleError, BundleNotFoundError
from modeltrace.settings import data_dir


class Catalog:
    """Finds bundles. Asking again is cheap where nothing has changed. One thread at a time.

    Whatever it finds is checked again, and completely, by whoever loads it.
    """

    def __init__(self, tell: Callable[[str], None], cache: Path | None = None) -> None:
        """`tell` hears, once each, of broken bundles that are left out; `cache` keeps copies of registered ones."""
        self._folders = Folders(tell)
        self._mlflow = MlflowClient()
        self._models = Models(self._mlflow, cache or data_dir() / "registry")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that speaks with MLflow, if there is one; of any thread."""
        self._mlflow.close()

    def locate(self, source: str) -> Found:
        """The bundle that a source means now; equal to the last answer when there is nothing new.

        Args:
            source: `FOLDER` or `FOLDER@VERSION`, a bundle or a folder of bundles, without a version the highest;
                `models:/NAME@ALIAS` or `models:/NAME/NUMBER`, a version in an MLflow registry.

        Raises:
            SettingsError: the source makes no sense, or MLflow is not installed.
            BundleError: there is no such bundle, or it cannot be used; RegistryAwayError: not now.
        """
        found = read_source(source)
        return self._folders.locate(found) if isinstance(found, FolderSource) else self._models.locate(found)

    def list(self, source: str) -> Iterator[Listed]:
        """What a source has: all versions, whichever it names.

        Raises:
            SettingsError: the source makes no sense, or MLflow is not installed.
            BundleError: there is nothing; RegistryAwayError: not now.
        """
        return (one for one, _ in self._each(source))

    def find_by_hash(self, digest: str, sources: Sequence[str], *, version: str | None = None) -> Found:
        """The bundle of the model whose file has this SHA-256, wherever among the sources it is.

        Where the same model was packed more than once, the bundle of this version is preferred.

        Raises:
            SettingsError: a source makes no sense, or MLflow is not installed.
            BundleNotFoundError: none has it; the message says where it was looked for.
        """
        words = f"whose model has the SHA-256 {digest}"
        return self._find(
            lambda one: one.holds(digest), words, sources, best=lambda one: version in (None, one.version)
        )

    def find_version(self, name: str, version: str, sources: Sequence[str]) -> Found:
        """The bundle of that version of a model, the version being the bundle's own.

        Raises:
            SettingsError: a source makes no sense, or MLflow is not installed.
            BundleNotFoundError: none is; the message says where it was looked for.
        """
        wanted = name, version
        return self._find(lambda one: (one.name, one.version) == wanted, f"of {name} {version}", sources)

    def _find(
        self,
        wanted: Callable[[Listed], bool],
        words: str,
        sources: Sequence[str],
        *,
        best: Callable[[Listed], bool] = lambda _: True,
    ) -> Found:
        """The first that is wanted and best, or else the first that is wanted."""
        looked, second = [], None
        for source in sources:
            try:
                for one, have in self._each(source):
                    if wanted(one) and best(one):
                        return have()
                    if wanted(one) and second is None:
                        second = have
                looked.append(source)
            except BundleError as error:
                looked.append(f"{source} ({error})")
        if second is not None:
            return second()
        raise BundleNotFoundError(f"no bundle {words} in {', '.join(looked)}")

    def _each(self, source: str) -> Iterator[tuple[Listed, Callable[[], Found]]]:
        """What a source has, and how to have it in a folder."""
        found = read_source(source)
        if isinstance(found, FolderSource):
            for bundle in self._folders.bundles(found.path):
                yield bundle, partial(_itself, bundle)
        else:
            for one, entry in self._models.bundles(found.name):
                yield one, partial(self._models.fetch, one, entry)


def _itself(found: Found) -> Found:
    return found
