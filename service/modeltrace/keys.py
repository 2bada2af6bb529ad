"""The secret that signs prediction IDs, with what is derived from it, and the API key."""

import hmac
import ipaddress
import os
import secrets
from contextlib import suppress
from pathlib import Path

from modeltrace.errors import SettingsError
from modeltrace.http_settings import MIN_KEY_LENGTH, HttpSettings
from modeltrace.settings import Settings, data_dir


def load_id_key(settings: Settings) -> bytes:
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
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create_key_file(path)
        key = path.read_text().strip()  # as one from the environment, which has no newline at its end
    except OSError as error:
        raise SettingsError(f"no key to sign prediction IDs: {error}; set MODELTRACE_ID_KEY") from None
    if len(key) < MIN_KEY_LENGTH:
        raise SettingsError(
            f"the key to sign prediction IDs in {path} has fewer than {MIN_KEY_LENGTH} characters; remove the file, or "
            "set MODELTRACE_ID_KEY"
        )
    return key.encode()


def derive_privacy_key(secret: bytes) -> bytes:
    """The key that values of private features are hashed with: its own, and of no use to sign an ID.

    One block of HKDF-Expand (RFC 5869, section 2.3).
    """
    return hmac.digest(secret, b"modeltrace values of private features\x01", "sha256")


def derive_synthetic_token(secret: bytes) -> str:
    """Return what marks a request as synthetic: nobody without the key can hide a real request from the figures.

    One block of HKDF-Expand, as above, shortened to 128 bits.
    """
    return hmac.digest(secret, b"modeltrace synthetic traffic\x01", "sha256")[:16].hex()


def load_api_key(settings: HttpSettings) -> str | None:
    """Return the key that clients show: from the settings, or from the file that they name.

    Raises:
        SettingsError: both are set, or there is no key in what is set.
    """
    if settings.api_key_file is None:
        if settings.api_key is None:
            return None
        return _validate_key(settings.api_key.get_secret_value(), "MODELTRACE_API_KEY")
    if settings.api_key is not None:
        raise SettingsError("MODELTRACE_API_KEY and MODELTRACE_API_KEY_FILE are both set: set one of them")
    where = f"MODELTRACE_API_KEY_FILE ({settings.api_key_file})"
    try:
        return _validate_key(settings.api_key_file.read_text(), where)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"{where} cannot be read: {reason}") from None


def _validate_key(key: str, where: str) -> str:
    """Return a key that a header can have.

    Raises:
        SettingsError: it is too short, or has other characters than printable ones of ASCII.
    """
    key = key.strip()  # a header cannot show spaces at its ends
    if len(key) < MIN_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise SettingsError(
            f"{where} needs {MIN_KEY_LENGTH} or more printable ASCII characters; make a key with: openssl rand -hex 32"
        )
    return key


def authorization_header(settings: HttpSettings) -> dict[str, str]:
    """Return the header that shows the API key to a service; none without a key.

    Raises:
        SettingsError: as `load_api_key`.
    """
    key = load_api_key(settings)
    return {} if key is None else {"authorization": f"Bearer {key}"}


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(settings: HttpSettings) -> None:
    """See that whoever can reach the service must show a key, unless that is not wanted.

    Raises:
        SettingsError: it is wanted and there is none.
    """
    if load_api_key(settings) is None and not settings.insecure and not is_loopback(settings.host):
        raise SettingsError(
            f"{settings.host} can be reached from other machines, so an API key is needed: set MODELTRACE_API_KEY, or "
            f"MODELTRACE_API_KEY_FILE, to {MIN_KEY_LENGTH} or more characters (openssl rand -hex 32), listen on "
            "127.0.0.1, or say --insecure (MODELTRACE_INSECURE=true) where something else keeps strangers away"
        )


def describe_access(settings: HttpSettings) -> str:
    """Return who can ask the service, for the log; nothing to say where only this machine can."""
    if is_loopback(settings.host):
        return ""
    keyed = "with the API key" if load_api_key(settings) else "without any key (MODELTRACE_INSECURE)"
    return f", where other machines reach it {keyed}"


def _create_key_file(path: Path) -> None:
    """Write a key completely, then give it its name: of several workers that start at once, one wins, all read it."""
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_hex(32))
    with suppress(FileExistsError):
        path.hardlink_to(fresh)
    fresh.unlink()
