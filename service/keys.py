"""The secret that signs prediction IDs, and what is derived from it."""

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from service.errors import SettingsError
from service.settings import SHORTEST_KEY, Settings, data_dir


def id_key(settings: Settings) -> bytes:
    """The key from the settings, or the one kept in the user's data folder, made at first use.

    Every replica needs the same key to take labels for the others' predictions: several machines set
    `MODELTRACE_ID_KEY`; the workers and restarts of one machine share the file.

    Raises:
        SettingsError: there is no key and none can be kept, or the one that is kept is too short to be one.
    """
    if settings.id_key is not None:
        return settings.id_key.get_secret_value().encode()
    path = data_dir() / "id.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        key = path.read_text().strip()  # as one from the environment, which has no newline at its end
    except OSError as error:
        raise SettingsError(f"no key to sign prediction IDs: {error}; set MODELTRACE_ID_KEY") from None
    if len(key) < SHORTEST_KEY:
        raise SettingsError(
            f"the key to sign prediction IDs in {path} has fewer than {SHORTEST_KEY} characters; remove the file, or "
            "set MODELTRACE_ID_KEY"
        )
    return key.encode()


def privacy_key(secret: bytes) -> bytes:
    """The key that values of private features are hashed with: its own, and of no use to sign an ID.

    One block of HKDF-Expand (RFC 5869, section 2.3).
    """
    return hmac.digest(secret, b"modeltrace values of private features\x01", "sha256")


def synthetic_token(secret: bytes) -> str:
    """Return what marks a request as synthetic: nobody without the key can hide a real request from the figures.

    One block of HKDF-Expand, as above, shortened to 128 bits.
    """
    return hmac.digest(secret, b"modeltrace synthetic traffic\x01", "sha256")[:16].hex()


def _make(path: Path) -> None:
    """Write a key completely, then give it its name: of several workers that start at once, one wins, all read it."""
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_hex(32))
    with suppress(FileExistsError):
        path.hardlink_to(fresh)
    fresh.unlink()
