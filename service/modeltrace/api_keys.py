"""API keys: the one key of the settings, and a file of named keys that is read again when it changes.

# name        key                                 what it may do; without a third word: everything
web-shop      2f0c…                               predict
label-job     91ab…                               predict,feedback
prometheus    77e0…                               metrics
"""

import hmac
import logging
import re
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from modeltrace.errors import SettingsError
from modeltrace.http_settings import MIN_KEY_LENGTH

logger = logging.getLogger("modeltrace.api")

# What a key may be used for: predictions; labels; `/metrics`; descriptions of the model, and `/docs`.
SCOPES: Final = ("predict", "feedback", "metrics", "model")
ALL_SCOPES: Final = frozenset(SCOPES)
# Seconds between two checks whether the file has changed.
CHECK_INTERVAL: Final = 1.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE: Final = "MODELTRACE_API_KEYS_FILE"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that clients send. The key of MODELTRACE_API_KEY has no name: ""."""

    name: str
    key: str
    scopes: frozenset[str] = ALL_SCOPES

    def __repr__(self) -> str:
        """Return the name without the key."""
        return f"ApiKey({self.name!r})"


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys of a file: one per line, with name, key and scopes, separated by white space.

    Empty lines, and lines that begin with `#`, are ignored.

    Raises:
        SettingsError: the file cannot be read, other users of the machine can read it, or a line is invalid. The
            message has the number of the line, and no key.
    """
    where = f"{_VARIABLE} ({path})"
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
            raise SettingsError(
                f"{where} can be read or changed by other users (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
            )
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{where} cannot be read: {reason}") from None
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key = _parse_line(line, f"{where}, line {number}")
        if key.name in keys:
            raise SettingsError(f"{where}, line {number}: the name {key.name} occurs twice")
        if any(key.key == other.key for other in keys.values()):
            raise SettingsError(f"{where}, line {number}: {key.name} has the key of another name")
        keys[key.name] = key
    if not keys:
        raise SettingsError(f"{where} contains no key: each line needs a name and a key (openssl rand -hex 32)")
    return tuple(keys.values())


def _parse_line(line: str, where: str) -> ApiKey:
    words = line.split()
    if len(words) not in (2, 3):
        raise SettingsError(
            f"{where}: write NAME KEY, or NAME KEY SCOPES with a list such as predict,feedback, separated by spaces"
        )
    name, key, *rest = words
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{where}: the first word must be a name of letters, digits, '.', '_' and '-', at most 64")
    if len(key) < MIN_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise SettingsError(
            f"{where}: the key of {name} needs {MIN_KEY_LENGTH} or more printable ASCII characters; create one with: "
            "openssl rand -hex 32"
        )
    scopes = frozenset(rest[0].split(",")) if rest else ALL_SCOPES
    if not scopes <= ALL_SCOPES:
        raise SettingsError(f"{where}: a scope of {name} is unknown; scopes are {', '.join(SCOPES)}")
    return ApiKey(name, key, scopes)


class KeySource(Protocol):
    """Finds the key that a client sent."""

    def find(self, key: bytes) -> ApiKey | None:
        """Return the key; `None` if it is wrong. The time does not depend on the keys."""


class OneKey:
    """The key of the settings."""

    def __init__(self, key: str) -> None:
        self._key, self._encoded = ApiKey("", key), key.encode()

    def find(self, key: bytes) -> ApiKey | None:
        """Return the key; `None` if it is wrong. The time does not depend on the keys."""
        return self._key if hmac.compare_digest(key, self._encoded) else None


class _FileState(NamedTuple):
    """What changes if a file is written or replaced."""

    inode: int
    size: int
    modified: int


class KeyFile:
    """The keys of a file, and the one of the settings. The file is checked for changes at most once a second.

    If a changed file is invalid, the keys stay as they were, and the log says why.
    """

    def __init__(self, path: Path, settings_key: str | None = None) -> None:
        """Read the file.

        Args:
            path: the file.
            settings_key: a further key without a name.

        Raises:
            SettingsError: see `read_key_file`.
        """
        self._path = path
        self._further = () if settings_key is None else (ApiKey("", settings_key),)
        # Keys are looked up by a hash with a secret, so the time of a lookup says nothing about them.
        self._secret = secrets.token_bytes(32)
        self._state = self._read_state()
        self._by_digest = self._digests(read_key_file(path))
        self._next_check = time.monotonic() + CHECK_INTERVAL

    def find(self, key: bytes) -> ApiKey | None:
        """Return the key; `None` if it is wrong. The time does not depend on the keys."""
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + CHECK_INTERVAL
            self._reload()
        return self._by_digest.get(hmac.digest(self._secret, key, "sha256"))

    def _reload(self) -> None:
        """Read the file again if it has changed."""
        state = self._read_state()
        if state == self._state:
            return
        self._state = state
        try:
            keys = read_key_file(self._path)
        except SettingsError as error:
            logger.error("API keys stay as they were: %s", error)  # noqa: TRY400  the message is complete
            return
        self._by_digest = self._digests(keys)
        logger.info("%d API keys read from %s", len(keys), self._path)

    def _digests(self, keys: tuple[ApiKey, ...]) -> dict[bytes, ApiKey]:
        return {hmac.digest(self._secret, key.key.encode(), "sha256"): key for key in (*keys, *self._further)}

    def _read_state(self) -> _FileState | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return _FileState(status.st_ino, status.st_size, status.st_mtime_ns)
