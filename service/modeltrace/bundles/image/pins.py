"""The packages of an image: those that are installed here, in the same versions, with known hashes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.resources import files
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modeltrace.bundles.library_packages import installed_distribution
from modeltrace.errors import ModeltraceError

LOCK_FILE: Final = "requirements.lock"
PROJECT: Final = "modeltrace"


@dataclass(frozen=True, slots=True)
class Pin:
    """A package in one version; `hashes` is empty if they are not known here."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        return " \\\n    ".join([f"{self.name}=={self.version}", *(f"--hash={digest}" for digest in self.hashes)])


def pin_packages(requirements: Iterable[Requirement]) -> list[Pin]:
    """Return the installed packages that Modeltrace and `requirements` need, sorted by name, without Modeltrace.

    Raises:
        ModeltraceError: a package is not installed.
    """
    known = _locked_hashes(lock_file())
    pins: dict[str, Pin] = {}
    seen: set[tuple[str, str]] = set()
    stack = [Requirement(PROJECT), *requirements]
    while stack:
        requirement = stack.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        if {(name, extra) for extra in extras} <= seen:
            continue
        seen |= {(name, extra) for extra in extras}
        try:
            package = installed_distribution(name)
        except PackageNotFoundError:
            raise ModeltraceError(
                f"the package {name} is needed and not installed: pip install '{requirement}'"
            ) from None
        if name != PROJECT:
            installed = canonicalize_name(package.name)
            pins[installed] = Pin(installed, package.version, known.get((installed, package.version), ()))
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                stack.append(needed)
    return [pins[name] for name in sorted(pins)]


def lock_file() -> Path:
    """Return the lock file of the project. It is part of an installed package, or in the root folder of a checkout."""
    installed = Path(str(files("modeltrace.bundles.image"))) / LOCK_FILE
    return installed if installed.exists() else Path(__file__).parents[4] / LOCK_FILE


def _locked_hashes(path: Path) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the hashes of a lock file by name and version; nothing if there is no such file."""
    hashes: dict[tuple[str, str], list[str]] = {}
    key = "", ""
    for line in path.read_text().splitlines() if path.exists() else ():
        words = line.split()
        if not line.startswith((" ", "#")) and words and "==" in words[0]:
            name, _, version = words[0].partition("==")
            key = canonicalize_name(name), version
        hashes.setdefault(key, []).extend(word.removeprefix("--hash=") for word in words if word.startswith("--hash="))
    return {key: tuple(digests) for key, digests in hashes.items()}
