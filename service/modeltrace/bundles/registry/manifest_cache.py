"""Reads what bundles on disk say of themselves, each once for as long as its files stay as they are."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from modeltrace.bundles.manifest import MANIFEST_FILE, Manifest, ManifestFile, integrity_error, read_manifest
from modeltrace.errors import BundleError, BundleNotFoundError
from modeltrace.regular_files import NotRegularError, open_regular, stat_regular


class FileStat(NamedTuple):
    """What changes when a file is written anew."""

    inode: int
    size: int
    modified: int


class ManifestCache:
    """Reads bundles. What was read stays known until the file changes, so that asking again costs a `stat`."""

    def __init__(self) -> None:
        self._manifests: dict[Path, tuple[FileStat, ManifestFile]] = {}
        self._digests: dict[Path, tuple[FileStat, str]] = {}

    def read(self, folder: Path) -> ManifestFile:
        """Read `model.json`.

        Raises:
            BundleNotFoundError: there is none.
            BundleError: it does not say what a bundle says.
        """
        path = folder / MANIFEST_FILE
        stamp = _file_stat(path)
        known = self._manifests.get(path)
        if stamp is None or known is None or known[0] != stamp:
            described = read_manifest(folder)
            if stamp is None:  # it has come meanwhile
                return described
            known = self._manifests[path] = stamp, described
        return known[1]

    def check_sizes(self, folder: Path, manifest: Manifest) -> None:
        """See that the model's files are there, as long as they should be; cheap enough for every look.

        Raises:
            BundleError: one is not.
        """
        for file in manifest.model_files():
            stamp = _file_stat(folder / file.file)
            if stamp is None:
                raise BundleNotFoundError(f"{folder / file.file}: there is no such file; the bundle is incomplete")
            if stamp.size != file.size:
                raise integrity_error(folder / file.file)

    def check_hashes(self, folder: Path, manifest: Manifest) -> None:
        """See that the model's files are those that `model.json` describes.

        Raises:
            BundleError: one is not.
        """
        for file in manifest.model_files():
            path = folder / file.file
            stamp = _file_stat(path)
            known = self._digests.get(path)
            if stamp is None or known is None or known[0] != stamp:
                if stamp is not None and stamp.size != file.size:
                    raise integrity_error(path)
                digest = _hash_file(path)
                if stamp is not None:
                    self._digests[path] = stamp, digest
            else:
                digest = known[1]
            if digest != file.sha256:
                raise integrity_error(path)


def file_stats(folder: Path) -> dict[str, FileStat]:
    """Return what changes when a file of a folder is written anew, by name; nothing of a folder that cannot be read."""
    try:
        return {one.name: _to_file_stat(one.lstat()) for one in folder.iterdir()}
    except OSError:
        return {}


def _file_stat(path: Path) -> FileStat | None:
    try:
        found = stat_regular(path)
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError:
        return None
    return _to_file_stat(found)


def _to_file_stat(found: os.stat_result) -> FileStat:
    return FileStat(found.st_ino, found.st_size, found.st_mtime_ns)


def _hash_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except NotRegularError as error:
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; the bundle is incomplete") from None
