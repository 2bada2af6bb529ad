"""Models of an MLflow registry as a source: versions that hold a bundle, copied here once and checked.

A copy is in a folder that is called by the SHA-256 of its `model.json`. `modeltrace pack --register` writes that as a
tag of the version, too, so whoever alters files where the registry keeps them is found out.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from modeltrace.bundles.manifest import MANIFEST_FILE, ManifestFile, read_manifest
from modeltrace.bundles.registry.bundle_ref import BundleInfo, LocalBundle, bundle_info, local_bundle
from modeltrace.bundles.registry.manifest_cache import ManifestCache
from modeltrace.bundles.registry.mlflow_client import SETTING_NAMES, MlflowClient
from modeltrace.bundles.registry.source import MLFLOW_PREFIX, MlflowSource
from modeltrace.errors import BundleError, BundleIntegrityError, BundleNotFoundError, RegistryUnavailableError

SHA256_TAG: Final = "modeltrace.sha256"
VERSION_TAG: Final = "modeltrace.version"


class MlflowCatalog:
    """Finds bundles in an MLflow registry."""

    def __init__(self, client: MlflowClient, cache_dir: Path) -> None:
        """`cache` is the folder for copies; whatever is in it may be deleted at any time."""
        self._client = client
        self._cache_dir = cache_dir
        self._manifests = ManifestCache()
        # Where the copy of a version is. Versions do not change: another one of that number was created later.
        self._copies: dict[tuple[str, str, int, str], Path] = {}

    def resolve(self, source: MlflowSource) -> LocalBundle:
        """The bundle that an alias or number means now.

        Raises:
            BundleNotFoundError: the registry has no such version, or no bundle in it.
            BundleIntegrityError: what it keeps is not what was registered.
            RegistryUnavailableError: it cannot be reached.
        """
        return self._cached_copy(self.get_version(source))

    def get_version(self, source: MlflowSource) -> dict[str, Any]:
        """What the registry says of a version: `name`, `number`, `created`, `uri`, `tags`.

        Raises:
            BundleNotFoundError: it has no such version.
            RegistryUnavailableError: it cannot be reached.
        """
        try:
            entry: dict[str, Any] = self._client.call(
                "get_version", name=source.name, alias=source.alias, number=source.number
            )
        except BundleNotFoundError as error:
            raise self._not_found_error(str(source), error) from None
        return entry

    def list_bundles(self, name: str) -> Iterator[tuple[BundleInfo, dict[str, Any]]]:
        """All versions of a model that hold a bundle, the latest first, each with what the registry says of it.

        Raises:
            BundleNotFoundError: the registry has no such model.
            RegistryUnavailableError: it cannot be reached.
        """
        try:
            entries = self._client.call("list_versions", name=name)
        except BundleNotFoundError as error:
            raise self._not_found_error(f"{MLFLOW_PREFIX}{name}", error) from None
        for entry in entries:
            try:
                yield self._describe(entry), entry
            except RegistryUnavailableError:
                raise
            except BundleError:
                continue  # another kind of model, or not what was registered

    def fetch_bundle(self, one: BundleInfo, entry: dict[str, Any]) -> LocalBundle:
        """The copy of a version that was listed.

        Raises:
            BundleError: as `locate`, and when it is another bundle than was listed.
        """
        found = self._cached_copy(entry)
        if found.sha256 != one.sha256:
            raise BundleIntegrityError(f"{one.location} has changed meanwhile")
        return found

    def _not_found_error(self, what: str, error: BundleNotFoundError) -> BundleNotFoundError:
        where = self._client.call("registry_uri")
        return BundleNotFoundError(f"{what} is not in the registry {where}: {error} ({SETTING_NAMES})")

    def _cached_copy(self, entry: dict[str, Any]) -> LocalBundle:
        key = entry["name"], entry["number"], entry["created"], entry["uri"]
        pinned = entry["tags"].get(SHA256_TAG)
        path = self._copies.get(key) or (self._cache_dir / pinned if _is_digest(pinned) else None)
        if path is not None and self._is_intact(path):
            self._copies[key] = path
        else:
            try:
                path = self._copies[key] = self._download(entry)
            except OSError as error:
                raise BundleError(
                    f"no copy of {_version_uri(entry)} in {self._cache_dir}: {error.strerror or error}"
                ) from None
        return local_bundle(path, bundle_info(*self._manifests.read(path), _version_uri(entry)))

    def _is_intact(self, path: Path) -> bool:
        try:
            described = self._manifests.read(path)
            self._manifests.check_hashes(path, described.manifest)
        except BundleError:
            return False
        return described.sha256 == path.name

    def _download(self, entry: dict[str, Any]) -> Path:
        self._cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=self._cache_dir) as folder:
            fresh = Path(folder, "bundle")
            manifest, digest = self._download_manifest(entry, fresh)
            wanted = [file.file for file in manifest.model_files()]
            for file in [*wanted, *([manifest.traffic.file] if manifest.traffic else [])]:
                try:
                    self._client.call("download", uri=entry["uri"], file=file, folder=str(fresh))
                except BundleNotFoundError as error:
                    raise BundleNotFoundError(
                        f"{_version_uri(entry)}: {file}: {error}; the bundle is incomplete"
                    ) from None
            try:
                ManifestCache().check_hashes(fresh, manifest)
            except BundleIntegrityError:
                raise _integrity_error(entry) from None
            copy = self._cache_dir / digest
            if not self._is_intact(copy):
                shutil.rmtree(copy, ignore_errors=True)
                try:
                    fresh.replace(copy)
                except OSError:
                    if not self._is_intact(copy):  # unless another process was faster
                        raise
            return copy

    def _download_manifest(self, entry: dict[str, Any], folder: Path) -> ManifestFile:
        """Copy `model.json` into a new folder, and read it."""
        folder.mkdir()
        if MANIFEST_FILE not in self._client.call("list_files", uri=entry["uri"]):
            raise BundleNotFoundError(
                f"{_version_uri(entry)} is a model without a bundle. Create a bundle from it and its training data: "
                f"modeltrace pack {_version_uri(entry)} --data train.csv --trust-pickle --register {entry['name']}"
            )
        self._client.call("download", uri=entry["uri"], file=MANIFEST_FILE, folder=str(folder))
        described = read_manifest(folder)
        if entry["tags"].get(SHA256_TAG, described.sha256) != described.sha256:
            raise _integrity_error(entry)
        return described

    def _describe(self, entry: dict[str, Any]) -> BundleInfo:
        """What a version's manifest says: of the copy if there is one, or of the registry's own."""
        copy = self._cache_dir / entry["tags"].get(SHA256_TAG, "none")
        if _is_digest(copy.name) and self._is_intact(copy):
            return bundle_info(*self._manifests.read(copy), _version_uri(entry))
        with TemporaryDirectory() as folder:
            return bundle_info(*self._download_manifest(entry, Path(folder, "bundle")), _version_uri(entry))


def _version_uri(entry: dict[str, Any]) -> str:
    return f"{MLFLOW_PREFIX}{entry['name']}/{entry['number']}"


def _integrity_error(entry: dict[str, Any]) -> BundleIntegrityError:
    return BundleIntegrityError(
        f"{_version_uri(entry)}: what is kept at {entry['uri']} is not the bundle that was registered. "
        "Register it anew: modeltrace pack --register"
    )


def _is_digest(text: str | None) -> bool:
    """Whether a tag, which anybody may write, is a name of a copy and leads nowhere else."""
    return text is not None and len(text) == 64 and set(text) <= set("0123456789abcdef")
