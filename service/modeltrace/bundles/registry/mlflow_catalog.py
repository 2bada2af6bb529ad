"""Models of an MLflow registry as a source: versions that hold a bundle, copied here once and checked.

A copy is in a folder that is called by the SHA-256 of its `model.json`. `modeltrace pack --register` writes that as a
tag of the version, too, so whoever alters files where the registry keeps them is found out.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from modeltrace.bundles.manifest import MANIFEST, ManifestFile, read_manifest
from modeltrace.bundles.registry.bundle_ref import Found, Listed, at, listed
from modeltrace.bundles.registry.manifest_cache import BundleReader
from modeltrace.bundles.registry.mlflow_client import SETTINGS, MlflowClient
from modeltrace.bundles.registry.source import MODELS, ModelSource
from modeltrace.errors import BundleError, BundleIntegrityError, BundleNotFoundError, RegistryUnavailableError

PIN: Final = "modeltrace.sha256"
VERSION: Final = "modeltrace.version"


class Models:
    """Finds bundles in an MLflow registry."""

    def __init__(self, client: MlflowClient, cache: Path) -> None:
        """`cache` is the folder for copies; whatever is in it may be deleted at any time."""
        self._client = client
        self._cache = cache
        self._reader = BundleReader()
        # Where the copy of a version is. Versions do not change: another one of that number was created later.
        self._copies: dict[tuple[str, str, int, str], Path] = {}

    def locate(self, source: ModelSource) -> Found:
        """The bundle that an alias or number means now.

        Raises:
            BundleNotFoundError: the registry has no such version, or no bundle in it.
            BundleIntegrityError: what it keeps is not what was registered.
            RegistryAwayError: it cannot be reached.
        """
        return self._copy(self.entry(source))

    def entry(self, source: ModelSource) -> dict[str, Any]:
        """What the registry says of a version: `name`, `number`, `created`, `uri`, `tags`.

        Raises:
            BundleNotFoundError: it has no such version.
            RegistryAwayError: it cannot be reached.
        """
        try:
            entry: dict[str, Any] = self._client.ask(
                "version", name=source.name, alias=source.alias, number=source.number
            )
        except BundleNotFoundError as error:
            raise self._missing(str(source), error) from None
        return entry

    def bundles(self, name: str) -> Iterator[tuple[Listed, dict[str, Any]]]:
        """All versions of a model that hold a bundle, the latest first, each with what the registry says of it.

        Raises:
            BundleNotFoundError: the registry has no such model.
            RegistryAwayError: it cannot be reached.
        """
        try:
            entries = self._client.ask("versions", name=name)
        except BundleNotFoundError as error:
            raise self._missing(f"{MODELS}{name}", error) from None
        for entry in entries:
            try:
                yield self._describe(entry), entry
            except RegistryUnavailableError:
                raise
            except BundleError:
                continue  # another kind of model, or not what was registered

    def fetch(self, one: Listed, entry: dict[str, Any]) -> Found:
        """The copy of a version that was listed.

        Raises:
            BundleError: as `locate`, and when it is another bundle than was listed.
        """
        found = self._copy(entry)
        if found.sha256 != one.sha256:
            raise BundleIntegrityError(f"{one.where} has changed meanwhile")
        return found

    def _missing(self, what: str, error: BundleNotFoundError) -> BundleNotFoundError:
        where = self._client.ask("where")
        return BundleNotFoundError(f"{what} is not in the registry {where}: {error} ({SETTINGS})")

    def _copy(self, entry: dict[str, Any]) -> Found:
        key = entry["name"], entry["number"], entry["created"], entry["uri"]
        pinned = entry["tags"].get(PIN)
        path = self._copies.get(key) or (self._cache / pinned if _is_digest(pinned) else None)
        if path is not None and self._is_intact(path):
            self._copies[key] = path
        else:
            try:
                path = self._copies[key] = self._fetch(entry)
            except OSError as error:
                raise BundleError(f"no copy of {_where(entry)} in {self._cache}: {error.strerror or error}") from None
        return at(path, listed(*self._reader.describe(path), _where(entry)))

    def _is_intact(self, path: Path) -> bool:
        try:
            described = self._reader.describe(path)
            self._reader.check_hashes(path, described.manifest)
        except BundleError:
            return False
        return described.sha256 == path.name

    def _fetch(self, entry: dict[str, Any]) -> Path:
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=self._cache) as folder:
            fresh = Path(folder, "bundle")
            manifest, digest = self._fetch_manifest(entry, fresh)
            wanted = [file.file for file in manifest.model_files()]
            for file in [*wanted, *([manifest.traffic.file] if manifest.traffic else [])]:
                try:
                    self._client.ask("fetch", uri=entry["uri"], file=file, folder=str(fresh))
                except BundleNotFoundError as error:
                    raise BundleNotFoundError(f"{_where(entry)}: {file}: {error}; the bundle is incomplete") from None
            try:
                BundleReader().check_hashes(fresh, manifest)
            except BundleIntegrityError:
                raise _altered(entry) from None
            copy = self._cache / digest
            if not self._is_intact(copy):
                shutil.rmtree(copy, ignore_errors=True)
                try:
                    fresh.replace(copy)
                except OSError:
                    if not self._is_intact(copy):  # unless another process was faster
                        raise
            return copy

    def _fetch_manifest(self, entry: dict[str, Any], folder: Path) -> ManifestFile:
        """Copy `model.json` into a new folder, and read it."""
        folder.mkdir()
        if MANIFEST not in self._client.ask("files", uri=entry["uri"]):
            raise BundleNotFoundError(
                f"{_where(entry)} is a model without a bundle, for which its training data is needed, too. Make one: "
                f"modeltrace pack {_where(entry)} --data train.csv --trust-pickle --register {entry['name']}"
            )
        self._client.ask("fetch", uri=entry["uri"], file=MANIFEST, folder=str(folder))
        described = read_manifest(folder)
        if entry["tags"].get(PIN, described.sha256) != described.sha256:
            raise _altered(entry)
        return described

    def _describe(self, entry: dict[str, Any]) -> Listed:
        """What a version's manifest says: of the copy if there is one, or of the registry's own."""
        copy = self._cache / entry["tags"].get(PIN, "none")
        if _is_digest(copy.name) and self._is_intact(copy):
            return listed(*self._reader.describe(copy), _where(entry))
        with TemporaryDirectory() as folder:
            return listed(*self._fetch_manifest(entry, Path(folder, "bundle")), _where(entry))


def _where(entry: dict[str, Any]) -> str:
    return f"{MODELS}{entry['name']}/{entry['number']}"


def _altered(entry: dict[str, Any]) -> BundleIntegrityError:
    return BundleIntegrityError(
        f"{_where(entry)}: what is kept at {entry['uri']} is not the bundle that was registered. "
        "Register it anew: modeltrace pack --register"
    )


def _is_digest(text: str | None) -> bool:
    """Whether a tag, which anybody may write, is a name of a copy and leads nowhere else."""
    return text is not None and len(text) == 64 and set(text) <= set("0123456789abcdef")
