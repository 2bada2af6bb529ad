"""All sources in one: which bundle is meant, which has a hash, which are there."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from modeltrace.bundles.registry.bundle_ref import BundleInfo, LocalBundle
from modeltrace.bundles.registry.folder_catalog import FolderCatalog
from modeltrace.bundles.registry.mlflow_catalog import MlflowCatalog
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.source import FolderSource, parse_source
from modeltrace.errors import BundleError, BundleNotFoundError
from modeltrace.settings import data_dir


class Catalog:
    """Finds bundles. Asking again is cheap where nothing has changed. One thread at a time.

    Whatever it finds is checked again, and completely, by whoever loads it.
    """

    def __init__(self, on_broken_bundle: Callable[[str], None], cache_dir: Path | None = None) -> None:
        """`tell` hears, once each, of broken bundles that are left out; `cache` keeps copies of registered ones."""
        self._folders = FolderCatalog(on_broken_bundle)
        self._mlflow = MlflowClient()
        self._models = MlflowCatalog(self._mlflow, cache_dir or data_dir() / "registry")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that speaks with MLflow, if there is one; of any thread."""
        self._mlflow.close()

    def resolve(self, source: str) -> LocalBundle:
        """The bundle that a source means now; equal to the last answer when there is nothing new.

        Args:
            source: `FOLDER` or `FOLDER@VERSION`, a bundle or a folder of bundles, without a version the highest;
                `models:/NAME@ALIAS` or `models:/NAME/NUMBER`, a version in an MLflow registry.

        Raises:
            SettingsError: the source makes no sense, or MLflow is not installed.
            BundleError: there is no such bundle, or it cannot be used; RegistryUnavailableError: not now.
        """
        found = parse_source(source)
        return self._folders.resolve(found) if isinstance(found, FolderSource) else self._models.resolve(found)

    def list_bundles(self, source: str) -> Iterator[BundleInfo]:
        """What a source has: all versions, whichever it names.

        Raises:
            SettingsError: the source makes no sense, or MLflow is not installed.
            BundleError: there is nothing; RegistryUnavailableError: not now.
        """
        return (one for one, _ in self._iter_bundles(source))

    def find_by_hash(self, digest: str, sources: Sequence[str], *, version: str | None = None) -> LocalBundle:
        """The bundle of the model whose file has this SHA-256, wherever among the sources it is.

        Where the same model was packed more than once, the bundle of this version is preferred.

        Raises:
            SettingsError: a source makes no sense, or MLflow is not installed.
            BundleNotFoundError: none has it; the message says where it was looked for.
        """
        words = f"whose model has the SHA-256 {digest}"
        return self._find(
            lambda one: one.has_model_hash(digest), words, sources, best=lambda one: version in (None, one.version)
        )

    def find_version(self, name: str, version: str, sources: Sequence[str]) -> LocalBundle:
        """The bundle of that version of a model, the version being the bundle's own.

        Raises:
            SettingsError: a source makes no sense, or MLflow is not installed.
            BundleNotFoundError: none is; the message says where it was looked for.
        """
        wanted = name, version
        return self._find(lambda one: (one.name, one.version) == wanted, f"of {name} {version}", sources)

    def _find(
        self,
        wanted: Callable[[BundleInfo], bool],
        words: str,
        sources: Sequence[str],
        *,
        best: Callable[[BundleInfo], bool] = lambda _: True,
    ) -> LocalBundle:
        """The first that is wanted and best, or else the first that is wanted."""
        looked, second = [], None
        for source in sources:
            try:
                for one, have in self._iter_bundles(source):
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

    def _iter_bundles(self, source: str) -> Iterator[tuple[BundleInfo, Callable[[], LocalBundle]]]:
        """What a source has, and how to have it in a folder."""
        found = parse_source(source)
        if isinstance(found, FolderSource):
            for bundle in self._folders.list_bundles(found.path):
                yield bundle, partial(_itself, bundle)
        else:
            for one, entry in self._models.list_bundles(found.name):
                yield one, partial(self._models.fetch_bundle, one, entry)


def _itself(found: LocalBundle) -> LocalBundle:
    return found
