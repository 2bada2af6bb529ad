"""Read the manifests of bundles on disk, and cache them until their files change."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from modeltrace.bundles.manifest import MANIFEST_FILE, Manifest, ManifestFile, integrity_error, read_manifest
from modeltrace.errors import BundleError, BundleNotFoundError
from modeltrace.regular_files import NotRegularError, open_regular, stat_regular

T = TypeVar("T")


class FileStat(NamedTuple):
    """Properties of a file that change when it is written again."""

    inode: int
    size: int
    modified: int


class ManifestCache:
    """Read manifests and hash model files; repeated calls cost one `stat` per file until the file changes."""

    def __init__(self) -> None:
        self._manifests: dict[Path, tuple[FileStat, ManifestFile]] = {}
        self._digests: dict[Path, tuple[FileStat, str]] = {}

    def read(self, folder: Path) -> ManifestFile:
        """Read `model.json`.

        Raises:
            BundleNotFoundError: there is none.
            BundleError: it is not a valid manifest.
        """
        return _cached(self._manifests, folder / MANIFEST_FILE, lambda: read_manifest(folder))

    def check_sizes(self, folder: Path, manifest: Manifest) -> None:
        """Check that the files of the model exist and have the sizes in the manifest. This does not read them.

        Raises:
            BundleError: a file is missing or has another size.
        """
        for file in manifest.loaded_files():
            stat = _file_stat(folder / file.file)
            if stat is None:
                raise BundleNotFoundError(f"{folder / file.file} does not exist; the bundle is incomplete")
            if stat.size != file.size:
                raise integrity_error(folder / file.file)

    def check_hashes(self, folder: Path, manifest: Manifest) -> None:
        """Check that the model's files have the hashes in the manifest.

        Raises:
            BundleError: a file is missing or has another hash.
        """
        for file in manifest.loaded_files():
            path = folder / file.file
            stat = _file_stat(path)
            if stat is not None and stat.size != file.size:
                raise integrity_error(path)
            if _cached(self._digests, path, partial(_hash_file, path)) != file.sha256:
                raise integrity_error(path)


def file_stats(folder: Path) -> dict[str, FileStat]:
    """Return the `FileStat` of each file in a folder, by name; nothing if the folder cannot be read."""
    try:
        return {path.name: _to_file_stat(path.lstat()) for path in folder.iterdir()}
    except OSError:
        return {}


def _cached(cache: dict[Path, tuple[FileStat, T]], path: Path, load: Callable[[], T]) -> T:
    """Return the cached value for a file, or load it if the file has changed."""
    stat = _file_stat(path)
    cached = cache.get(path)
    if cached is not None and cached[0] == stat:
        return cached[1]
    value = load()
    if stat is not None:  # otherwise the file was created after the stat
        cache[path] = stat, value
    return value


def _file_stat(path: Path) -> FileStat | None:
    try:
        return _to_file_stat(stat_regular(path))
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError:
        return None


def _to_file_stat(stat: os.stat_result) -> FileStat:
    return FileStat(stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _hash_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; the bundle is incomplete") from None
