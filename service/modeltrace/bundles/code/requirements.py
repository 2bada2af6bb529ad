"""The packages that the user's code needs, `requirements.txt`: parsed when it is packed, checked when it is loaded."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from modeltrace.errors import BundleError, IncompatibleBundleError, ModeltraceError, PackError
from modeltrace.regular_files import read_regular

REQUIREMENTS_FILE: Final = "requirements.txt"
MAX_REQUIREMENTS_BYTES: Final = 2**20


def read_requirements(path: Path) -> bytes:
    """Read the requirements file to pack.

    Raises:
        PackError: it cannot be read, or contains a line that is not a requirement of a package.
    """
    try:
        raw = read_regular(path, max_bytes=MAX_REQUIREMENTS_BYTES)
    except OSError as error:
        raise PackError(f"--requirements {path}: {error.strerror or error}") from None
    try:
        requirements = parse_requirements(raw)
    except ModeltraceError as error:
        raise PackError(f"--requirements {path}, {error}") from None
    if missing := unmet_requirements(requirements):
        raise PackError(f"--requirements {path}: not met here, where the model is packed: {'; '.join(missing)}")
    return raw


def parse_requirements(raw: bytes) -> list[Requirement]:
    """Return the requirements of a file in pip's format. Hashes are for pip, and not returned.

    Raises:
        BundleError: a line is not a requirement by name: an option, a path, or something invalid. The message begins
            with the line number.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BundleError("line 1: the file is not UTF-8") from None
    return [_parse_line(number, line) for number, line in _logical_lines(text) if line]


def check_requirements(bundle: object, raw: bytes) -> None:
    """Compare the requirements of a bundle with the installed packages.

    Raises:
        BundleError: the file is invalid.
        IncompatibleBundleError: packages are missing, or have other versions; the message lists all of them.
    """
    try:
        missing = unmet_requirements(parse_requirements(raw))
    except BundleError as error:
        raise BundleError(f"{bundle}/{REQUIREMENTS_FILE}, {error}") from None
    if missing:
        raise IncompatibleBundleError(
            f"{bundle} needs packages that are not installed here in the required version: {'; '.join(missing)}. "
            f"Install them with: pip install -r {bundle}/{REQUIREMENTS_FILE}"
        )


def unmet_requirements(requirements: list[Requirement]) -> list[str]:
    """Return the requirements that the installed packages do not meet, each with what is installed."""
    unmet = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            unmet.append(f"{requirement.name}{requirement.specifier} (not installed)")
            continue
        # The installed version counts even if it is a pre-release.
        if not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(f"{requirement.name}{requirement.specifier} ({installed} is installed)")
    return unmet


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number of the first line of each logical line, and its text without comments and hashes."""
    number, parts = 1, list[str]()
    for index, line in enumerate(text.splitlines(), start=1):
        number = number if parts else index
        code = line if not line.lstrip().startswith("#") else ""
        code = code.partition(" #")[0].rstrip()
        if code.endswith("\\"):
            parts.append(code.removesuffix("\\"))
            continue
        yield number, " ".join([*parts, code]).partition(" --hash")[0].strip()
        parts = []
    yield number, " ".join(parts).partition(" --hash")[0].strip()


def _parse_line(number: int, line: str) -> Requirement:
    if line.startswith("-"):
        raise BundleError(
            f"line {number}: the option {line.split(maxsplit=1)[0]} cannot be part of a bundle. List the packages by "
            "name, and set package indexes in pip's own configuration"
        )
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise BundleError(
            f"line {number}: {line[:100]!r} is not the requirement of a package, such as numpy>=2 "
            f"({str(error).splitlines()[0]})"
        ) from None
