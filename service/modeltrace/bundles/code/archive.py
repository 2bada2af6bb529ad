"""Collect the user's modules, and write and read the archive that contains them, `code.zip`."""

import hashlib
import importlib.metadata
import importlib.util
import io
import lzma
import os
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from modeltrace.errors import BundleError, PackError
from modeltrace.regular_files import NotRegularError, read_regular

MAX_FILES: Final = 2_000
MAX_BYTES: Final = 16 * 2**20
# Folders and files that are not part of the code.
_IGNORED_FOLDERS: Final = frozenset({"__pycache__", "node_modules"})
_IGNORED_SUFFIXES: Final = (".pyc", ".pyo")
_COMPILED_SUFFIXES: Final = (".so", ".pyd", ".dylib", ".dll")


@dataclass(frozen=True)
class CodeArchive:
    """An archive with the user's modules.

    Attributes:
        content: the bytes of a ZIP file.
        sha256: their SHA-256.
        files: the contents of the files by path.
    """

    content: bytes
    sha256: str
    files: Mapping[str, bytes]

    @property
    def modules(self) -> frozenset[str]:
        """The names of the modules and packages at the top level."""
        paths = [PurePosixPath(name) for name in self.files if name.endswith(".py")]
        return frozenset(path.parts[0] if len(path.parts) > 1 else path.stem for path in paths)

    def contains(self, name: str) -> bool:
        """Return whether a module, type or function, given by its dotted name, is part of the archive."""
        return name.partition(".")[0] in self.modules


def collect_code(sources: Iterable[Path]) -> CodeArchive:
    """Read modules into an archive. Paths in it begin at the folder that would be on `PYTHONPATH`.

    Args:
        sources: for each, a folder of modules, the folder of a package (it contains `__init__.py`), or a `.py` file.
            Hidden files, bytecode and caches are left out.

    Raises:
        PackError: a source does not exist or contains no module, a file is not regular or is a link, the files are too
            many or too large, or a module has the name of another module.
    """
    files: dict[str, bytes] = {}
    origins: dict[str, Path] = {}
    total = 0
    for source in sources:
        if not source.exists():
            raise PackError(f"--code {source}: there is no such folder or file")
        found = list(_list_files(source.resolve()))
        if not any(name.endswith(".py") for name, _ in found):
            raise PackError(f"--code {source}: the folder contains no Python module (.py)")
        for name, path in found:
            if name in files:
                raise PackError(f"--code {source}: {origins[name]} is already packed as {name}; rename one of them")
            files[name], origins[name] = _read_file(path), path
            total += len(files[name])
            if len(files) > MAX_FILES or total > MAX_BYTES:
                raise PackError(
                    f"--code {source}: more than {MAX_FILES:,} files or {MAX_BYTES // 2**20} MiB. Name a folder that "
                    "contains only the modules that the model needs, without data and virtual environments"
                )
    archive = _write_archive(dict(sorted(files.items())))
    for name in sorted(archive.modules):
        _check_name(name, set(origins.values()))
    return archive


def _write_archive(files: Mapping[str, bytes]) -> CodeArchive:
    """Write a ZIP archive. Equal files always give equal bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return CodeArchive(sink.getvalue(), hashlib.sha256(sink.getvalue()).hexdigest(), files)


def import_root(source: Path) -> Path:
    """Return the folder that Python needs on its path to import a module, a package or the modules of a folder."""
    return source.parent if source.is_file() or (source / "__init__.py").is_file() else source


def read_archive(raw: bytes, source: object) -> CodeArchive:
    """Read an archive.

    Args:
        raw: the content of the archive.
        source: the name of the archive in error messages.

    Raises:
        BundleError: it is damaged, too large, or contains a path outside of it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise BundleError(
                    f"{source} contains more than {MAX_FILES:,} files or {MAX_BYTES // 2**20} MiB: not read"
                )
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"{source} cannot be read: {error}. Pack the model again") from None
    if invalid := [name for name in files if not _is_relative(name)]:
        raise BundleError(f"{source} contains the path {invalid[0]!r}, which is not inside the archive")
    return CodeArchive(raw, hashlib.sha256(raw).hexdigest(), files)


def _list_files(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of each file of a folder or a module."""
    if source.is_file():
        if source.suffix != ".py":
            raise PackError(f"--code {source}: the file is not a Python module (.py); name a folder or a module")
        yield source.name, source
        return
    root = import_root(source)
    for folder, folders, names in os.walk(source, followlinks=False):
        folders[:] = sorted(name for name in folders if not (name.startswith(".") or name in _IGNORED_FOLDERS))
        if links := [name for name in folders if Path(folder, name).is_symlink()]:
            raise PackError(
                f"--code {source}: {Path(folder, links[0])} is a link to a folder. Put the folder itself there"
            )
        for name in sorted(names):
            if name.startswith(".") or name.endswith(_IGNORED_SUFFIXES):
                continue
            path = Path(folder, name)
            if name.endswith(_COMPILED_SUFFIXES):
                raise PackError(
                    f"--code {source}: {path} is compiled code, which a bundle cannot contain. Build a package of it, "
                    "install it where the model is served, and name it in --requirements"
                )
            yield path.relative_to(root).as_posix(), path


def _read_file(path: Path) -> bytes:
    try:
        return read_regular(path, max_bytes=MAX_BYTES)
    except NotRegularError as error:
        raise PackError(f"--code: {error}") from None
    except OSError as error:
        raise PackError(f"--code: {path}: {error.strerror or error}") from None


def _check_name(name: str, origins: set[Path]) -> None:
    """Check that a module has not the name of a module of the standard library or of an installed package.

    An editable installation of the same files is no other package.

    Raises:
        PackError: it has such a name.
    """
    if name in sys.stdlib_module_names:
        raise PackError(f"--code: the module {name} has the name of a module of Python itself; rename it")
    spec = importlib.util.find_spec(name)
    if spec is None or (spec.origin is not None and Path(spec.origin).resolve() in origins):
        return
    if distributions := importlib.metadata.packages_distributions().get(name):
        raise PackError(
            f"--code: the module {name} has the name of a module of the installed package {distributions[0]}. Rename "
            "the module, or, if the model needs the package instead, name the package in --requirements"
        )


def _is_relative(name: str) -> bool:
    parts = name.split("/")
    return bool(name) and "\\" not in name and "\0" not in name and not {"", ".", ".."} & set(parts)
