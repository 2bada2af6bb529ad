"""The cache of built programs, verified by SHA-256.

Each folder contains the files of a program and a file `SHA256SUMS` in the format of `sha256sum --check`. The file
detects accidental damage or replacement. It does not protect from users who can write to the folder, because they can
also change the file.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stack.components import Component, ComponentTable, Program

SUMS_FILE = "SHA256SUMS"
ProgramT = TypeVar("ProgramT", bound=Program)


@dataclass(frozen=True, slots=True)
class Cache:
    """Binaries are in `bin/NAME-VERSION-DIGEST/`; `build/` holds the intermediate files of a running build."""

    root: Path

    def folder(self, name: str, component: Program) -> Path:
        """Return the folder of a component's files. Its name has a hash of everything that is built."""
        digest = hashlib.sha256("\n".join(component.recipe()).encode()).hexdigest()
        return self.root / "bin" / f"{name}-{component.version}-{digest[:8]}"

    def program(self, name: str, component: Program, binary: str) -> Path:
        """Return the path of a binary: in the cache, or on PATH for an optional component that is not built."""
        built = self.folder(name, component) / binary
        optional = isinstance(component, Component) and component.optional
        if optional and not built.exists() and (found := shutil.which(binary)):
            return Path(found)
        return built

    def is_built(self, name: str, component: Program) -> bool:
        """Return whether all files of a component are in the cache."""
        return all((self.folder(name, component) / file).exists() for file in component.files())

    def missing(self, components: Mapping[str, ProgramT]) -> dict[str, ProgramT]:
        """Return the components with a missing file. Those of optional components may be on PATH instead."""
        return {
            name: component
            for name, component in components.items()
            if not all(self.program(name, component, file).exists() for file in component.files())
        }

    def without_absent(self, table: ComponentTable) -> ComponentTable:
        """Return the table without the optional components that are neither built nor on PATH."""
        return table.without(self.missing({name: table.components[name] for name in table.optional_names()}))

    def altered(self, components: Mapping[str, Program]) -> list[str]:
        """Return the built components whose files do not match `SHA256SUMS`, or that have no such file."""
        return [
            name
            for name, component in components.items()
            if self.is_built(name, component) and not _matches(self.folder(name, component), component)
        ]

    def to_build(self, components: Mapping[str, ProgramT]) -> dict[str, ProgramT]:
        """Return the components that are missing or altered."""
        missing, altered = self.missing(components), self.altered(components)
        return {name: component for name, component in components.items() if name in missing or name in altered}

    @property
    def scratch(self) -> Path:
        """The folder of downloaded modules and intermediate results."""
        return self.root / "build"


def write_sums(folder: Path) -> None:
    """Write the hashes of all files in a folder, in the format of `sha256sum`."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS_FILE)
    (folder / SUMS_FILE).write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))


def _matches(folder: Path, component: Program) -> bool:
    try:
        recorded = {name: digest for digest, name in map(str.split, (folder / SUMS_FILE).read_text().splitlines())}
    except (FileNotFoundError, ValueError):  # missing or damaged
        return False
    return all(recorded.get(file) == sha256(folder / file) for file in component.files())


def sha256(path: Path) -> str:
    """Return the hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
