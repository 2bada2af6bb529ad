"""The built binaries: where each is, and whether it is still what was built.

Each folder has a file `SHA256SUMS` beside its binaries, which `sha256sum --check` reads, too. It detects a binary that
was damaged or replaced by accident; whoever can write to the folder can change both.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.parts import HERE, Part, Parts

SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder of binaries, `bin/NAME-VERSION-DIGEST/`; `build/` holds what a build needs while it runs."""

    root: Path

    def folder(self, name: str, part: Part) -> Path:
        """Return the folder of a part's binaries. A changed recipe changes the folder."""
        recipe = [part.module, part.version_variable, json.dumps(part.binaries, sort_keys=True)]
        if part.manifest:
            recipe.append((HERE / part.manifest).read_text())
        digest = hashlib.sha256("\n".join(recipe).encode()).hexdigest()
        return self.root / "bin" / f"{name}-{part.version}-{digest[:8]}"

    def program(self, name: str, part: Part, binary: str) -> Path:
        """One binary of a part: the cache's, or, for an optional part that is not built, the one on PATH."""
        built = self.folder(name, part) / binary
        if part.optional and not built.exists() and (found := shutil.which(binary)):
            return Path(found)
        return built

    def is_built(self, name: str, part: Part) -> bool:
        """Whether all binaries of a part are in the cache."""
        return all((self.folder(name, part) / binary).exists() for binary in part.binaries)

    def missing(self, parts: Mapping[str, Part]) -> dict[str, Part]:
        """The parts of which a binary is neither in the cache nor, for an optional part, on PATH."""
        return {
            name: part
            for name, part in parts.items()
            if not all(self.program(name, part, binary).exists() for binary in part.binaries)
        }

    def present(self, parts: Parts) -> Parts:
        """Return the table without the optional parts that are neither built nor on PATH."""
        return parts.without(self.missing({name: parts.parts[name] for name in parts.optional()}))

    def altered(self, parts: Mapping[str, Part]) -> list[str]:
        """Return the built parts whose binaries do not match `SHA256SUMS`, or that have no such file."""
        return [
            name
            for name, part in parts.items()
            if self.is_built(name, part) and not _matches(self.folder(name, part), part)
        ]

    def to_build(self, parts: Mapping[str, Part]) -> dict[str, Part]:
        """The parts that are missing or altered."""
        missing, altered = self.missing(parts), self.altered(parts)
        return {name: part for name, part in parts.items() if name in missing or name in altered}

    @property
    def scratch(self) -> Path:
        """Modules and intermediate results."""
        return self.root / "build"


def write_sums(folder: Path) -> None:
    """Write the hashes of all files in a folder, in the format of `sha256sum`."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in files))


def _matches(folder: Path, part: Part) -> bool:
    try:
        recorded = {name: digest for digest, name in map(str.split, (folder / SUMS).read_text().splitlines())}
    except (FileNotFoundError, ValueError):  # missing or damaged
        return False
    return all(recorded.get(binary) == _sha256(folder / binary) for binary in part.binaries)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
