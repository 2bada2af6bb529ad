"""Find bundles in an MLflow registry, and store verified copies of them on this machine.

The name of a copy's folder is the SHA-256 of its `model.json`. `modeltrace pack --register` also stores this hash as a
tag of the version, so that altered files in the registry are detected.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypedDict

from modeltrace.bundles.manifest import MANIFEST_FILE, ManifestFile, read_manifest
from modeltrace.bundles.registry.bundle_ref import BundleInfo, LocalBundle, bundle_info
from modeltrace.bundles.registry.manifest_cache import ManifestCache
from modeltrace.bundles.registry.mlflow_client import SETTING_NAMES, MlflowClient
from modeltrace.bundles.registry.source import MLFLOW_PREFIX, MlflowSource
from modeltrace.errors import BundleError, BundleIntegrityError, BundleNotFoundError, RegistryUnavailableError

SHA256_TAG: Final = "modeltrace.sha256"
VERSION_TAG: Final = "modeltrace.version"


class RegisteredVersion(TypedDict):
    """A version of a model in the registry, as `modeltrace.bundles.registry.mlflow_process` describes it."""

    name: str
    number: str
    created: int
    uri: str
    tags: dict[str, str]


class MlflowCatalog:
    """Find bundles in an MLflow registry."""

    def __init__(self, client: MlflowClient, cache_dir: Path) -> None:
        """`cache_dir` is the folder for copies; its content can be deleted at any time."""
        self._client = client
        self._cache_dir = cache_dir
        self._manifests = ManifestCache()
        # The folder of each copy. A version in a registry does not change, but it can be deleted and created again; the
        # key therefore contains its creation time.
        self._copies: dict[tuple[str, str, int, str], Path] = {}

    def resolve(self, source: MlflowSource) -> LocalBundle:
        """Return a copy of the version that an alias or number refers to now.

        Raises:
            BundleNotFoundError: the registry has no such version, or the version contains no bundle.
            BundleIntegrityError: the files are not those that were registered.
            RegistryUnavailableError: the registry cannot be reached.
        """
        return self._cached_copy(self.get_version(source))

    def get_version(self, source: MlflowSource) -> RegisteredVersion:
        """Return the registry's description of a version.

        Raises:
            BundleNotFoundError: the registry has no such version.
            RegistryUnavailableError: the registry cannot be reached.
        """
        arguments = {"name": source.name, "alias": source.alias, "number": source.number}
        registered: RegisteredVersion = self._lookup(str(source), "get_version", **arguments)
        return registered

    def list_bundles(self, name: str) -> Iterator[tuple[BundleInfo, RegisteredVersion]]:
        """Yield all versions of a model that contain a bundle, the latest first.

        Raises:
            BundleNotFoundError: the registry has no such model.
            RegistryUnavailableError: the registry cannot be reached.
        """
        for registered in self._lookup(f"{MLFLOW_PREFIX}{name}", "list_versions", name=name):
            try:
                yield self._describe(registered), registered
            except RegistryUnavailableError:
                raise
            except BundleError:
                continue  # another kind of model, or altered files

    def fetch_bundle(self, bundle: BundleInfo, registered: RegisteredVersion) -> LocalBundle:
        """Return a copy of a version that `list_bundles` has listed.

        Raises:
            BundleError: as in `resolve`, or the version has changed since it was listed.
        """
        copy = self._cached_copy(registered)
        if copy.sha256 != bundle.sha256:
            raise BundleIntegrityError(f"{bundle.location} has changed since it was listed. Try again")
        return copy

    def _lookup(self, source: str, method: str, **arguments: str | None) -> Any:  # noqa: ANN401  what JSON can carry
        try:
            return self._client.call(method, **arguments)
        except BundleNotFoundError as error:
            registry = self._client.call("registry_uri")
            raise BundleNotFoundError(
                f"{source} is not in the registry {registry}: {error} ({SETTING_NAMES})"
            ) from None

    def _cached_copy(self, registered: RegisteredVersion) -> LocalBundle:
        key = registered["name"], registered["number"], registered["created"], registered["uri"]
        sha256 = registered["tags"].get(SHA256_TAG, "")
        path = self._copies.get(key) or (self._cache_dir / sha256 if _is_digest(sha256) else None)
        if path is None or not self._is_intact(path):
            try:
                path = self._download(registered)
            except OSError as error:
                raise BundleError(
                    f"cannot copy {_version_uri(registered)} to {self._cache_dir}: {error.strerror or error}"
                ) from None
        self._copies[key] = path
        return bundle_info(self._manifests.read(path), _version_uri(registered)).at(path)

    def _is_intact(self, path: Path) -> bool:
        try:
            manifest, sha256 = self._manifests.read(path)
            self._manifests.check_hashes(path, manifest)
        except BundleError:
            return False
        return sha256 == path.name

    def _download(self, registered: RegisteredVersion) -> Path:
        uri, source = registered["uri"], _version_uri(registered)
        self._cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=self._cache_dir) as folder:
            download = Path(folder, "bundle")
            manifest, sha256 = self._download_manifest(registered, download)
            files = [file.file for file in manifest.loaded_files()]
            for file in [*files, *([manifest.traffic.file] if manifest.traffic else [])]:
                try:
                    self._client.call("download", uri=uri, file=file, folder=str(download))
                except BundleNotFoundError as error:
                    raise BundleNotFoundError(f"{source}: {file}: {error}; the bundle is incomplete") from None
            try:
                ManifestCache().check_hashes(download, manifest)
            except BundleIntegrityError:
                raise _integrity_error(registered) from None
            copy = self._cache_dir / sha256
            if not self._is_intact(copy):
                shutil.rmtree(copy, ignore_errors=True)
                try:
                    download.replace(copy)
                except OSError:
                    if not self._is_intact(copy):  # another process may have created it meanwhile
                        raise
            return copy

    def _download_manifest(self, registered: RegisteredVersion, folder: Path) -> ManifestFile:
        """Download `model.json` into a new folder, and read it."""
        uri, source = registered["uri"], _version_uri(registered)
        folder.mkdir()
        if MANIFEST_FILE not in self._client.call("list_files", uri=uri):
            raise BundleNotFoundError(
                f"{source} is a model without a bundle. Create a bundle from it and its training data: "
                f"modeltrace pack {source} --data train.csv --trust-pickle --register {registered['name']}"
            )
        self._client.call("download", uri=uri, file=MANIFEST_FILE, folder=str(folder))
        manifest = read_manifest(folder)
        if registered["tags"].get(SHA256_TAG, manifest.sha256) != manifest.sha256:
            raise _integrity_error(registered)
        return manifest

    def _describe(self, registered: RegisteredVersion) -> BundleInfo:
        """Read the manifest of a version from its copy, if there is one, or from the registry."""
        sha256 = registered["tags"].get(SHA256_TAG, "")
        if _is_digest(sha256) and self._is_intact(copy := self._cache_dir / sha256):
            return bundle_info(self._manifests.read(copy), _version_uri(registered))
        with TemporaryDirectory() as folder:
            return bundle_info(self._download_manifest(registered, Path(folder, "bundle")), _version_uri(registered))


def _version_uri(registered: RegisteredVersion) -> str:
    return f"{MLFLOW_PREFIX}{registered['name']}/{registered['number']}"


def _integrity_error(registered: RegisteredVersion) -> BundleIntegrityError:
    return BundleIntegrityError(
        f"{_version_uri(registered)}: the files at {registered['uri']} are not the bundle that was registered. "
        "Register it again with modeltrace pack --register"
    )


def _is_digest(text: str) -> bool:
    """Return whether a tag is a SHA-256. Other texts are unsafe: any user can write a path into a tag."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
