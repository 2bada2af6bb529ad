"""Order the versions of a model."""

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from packaging.version import InvalidVersion, Version

# Whether the text is a PEP 440 version, the parsed version, and the text split into numbers and words.
SortKey: TypeAlias = tuple[bool, Version, tuple[tuple[bool, int, str], ...]]

_PIECES: Final = re.compile(r"(?P<digits>[0-9]+)|[^0-9]+")
_ZERO: Final = Version("0")


def sort_key(version: str) -> SortKey:
    """Return the sort key of a version. Versions have the order of PEP 440, which includes semantic versions.

    Other texts (`2026-11-27`, `blue`) are lower than all PEP 440 versions, and are ordered by their numbers and words.
    """
    pieces = tuple(
        (True, int(piece["digits"]), piece[0]) if piece["digits"] else (False, 0, piece[0])
        for piece in _PIECES.finditer(version)
    )
    try:
        return True, Version(version), pieces
    except InvalidVersion:
        return False, _ZERO, pieces


def is_pre_release(version: str) -> bool:
    """Return whether a version is a pre-release by PEP 440."""
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return False


def sort_best_first(versions: Iterable[str]) -> list[str]:
    """Return versions in the order of preference: the highest release first, pre-releases after all releases."""
    return sorted(set(versions), key=lambda version: (not is_pre_release(version), sort_key(version)), reverse=True)
