"""Which of two versions is the higher one."""

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from packaging.version import InvalidVersion, Version

# Whether it is a version by PEP 440, the version, and the text by its numbers and words.
SortKey: TypeAlias = tuple[bool, Version, tuple[tuple[bool, int, str], ...]]

_PIECES: Final = re.compile(r"(?P<digits>[0-9]+)|[^0-9]+")
_ZERO: Final = Version("0")


def sort_key(version: str) -> SortKey:
    """What versions are sorted by: PEP 440, which reads semantic versions, too.

    What is no version by it (`2026-11-27`, `blue`) comes before all that is, by its numbers and words.
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
    """Whether a version says that it comes before a release."""
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return False


def sort_best_first(versions: Iterable[str]) -> list[str]:
    """Versions from the one to serve down: the highest release first, pre-releases after all releases."""
    return sorted(set(versions), key=lambda version: (not is_pre_release(version), sort_key(version)), reverse=True)
