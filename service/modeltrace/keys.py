"""The secret key that signs prediction IDs, keys derived from it, and the API keys of the settings."""

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from modeltrace.api_keys import ALL_SCOPES, KeyFile, KeySource, OneKey, read_key_file
from modeltrace.errors import SettingsError
from modeltrace.http_settings import MIN_KEY_LENGTH, HttpSettings
from modeltrace.settings import Settings, data_dir
from modeltrace_http.addresses import is_loopback


def load_id_key(settings: Settings) -> bytes:
    """Return the key of the settings, or the key file in the user's data folder, which is created at first use.

    Every replica needs the same key, so that it accepts labels of predictions that another replica made. Replicas on
    several machines set `MODELTRACE_ID_KEY`; the workers of one machine share the file.

    Raises:
        SettingsError: the key file cannot be read or created, or its key is too short.
    """
    if settings.id_key is not None:
        return settings.id_key.get_secret_value().encode()
    path = data_dir() / "id.key"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create_key_file(path)
        key = path.read_text().strip()  # without the newline that an editor may append
    except OSError as error:
        raise SettingsError(f"no key to sign prediction IDs: {error}; set MODELTRACE_ID_KEY") from None
    if len(key) < MIN_KEY_LENGTH:
        raise SettingsError(
            f"the key to sign prediction IDs in {path} has fewer than {MIN_KEY_LENGTH} characters; remove the file, or "
            "set MODELTRACE_ID_KEY"
        )
    return key.encode()


def derive_privacy_key(secret: bytes) -> bytes:
    """Derive the key that hashes values of private features. It cannot sign prediction IDs.

    One block of HKDF-Expand (RFC 5869, section 2.3).
    """
    return hmac.digest(secret, b"modeltrace values of private features\x01", "sha256")


def derive_synthetic_token(secret: bytes) -> str:
    """Derive the token that marks a request as synthetic.

    Synthetic requests are excluded from metrics, so only clients with the key can send them. The token is one block of
    HKDF-Expand (RFC 5869, section 2.3), truncated to 128 bits.
    """
    return hmac.digest(secret, b"modeltrace synthetic traffic\x01", "sha256")[:16].hex()


def load_api_key(settings: HttpSettings) -> str | None:
    """Return the API key of the settings or of the key file; `None` if neither is set.

    Raises:
        SettingsError: both are set, or the key is invalid.
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
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{where} cannot be read: {reason}") from None


def _validate_key(key: str, where: str) -> str:
    """Return the key without surrounding white space, if it fits into a header.

    Raises:
        SettingsError: the key is too short, or not printable ASCII.
    """
    key = key.strip()  # a header value cannot start or end with white space
    if len(key) < MIN_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise SettingsError(
            f"{where} needs {MIN_KEY_LENGTH} or more printable ASCII characters; create one with: openssl rand -hex 32"
        )
    return key


def load_api_keys(settings: HttpSettings) -> KeySource | None:
    """Return the keys that the service accepts; `None` if it needs no key.

    Raises:
        SettingsError: a key is invalid.
    """
    key = load_api_key(settings)
    if settings.api_keys_file is not None:
        return KeyFile(settings.api_keys_file, key)
    return None if key is None else OneKey(key)


def client_key(settings: HttpSettings) -> str | None:
    """Return the key that a command sends to a service: the API key, or the first key of the file with all scopes.

    Raises:
        SettingsError: the key is invalid, or the file has no key with all scopes.
    """
    key = load_api_key(settings)
    if key is not None or settings.api_keys_file is None:
        return key
    complete = (entry.key for entry in read_key_file(settings.api_keys_file) if entry.scopes == ALL_SCOPES)
    if (key := next(complete, None)) is None:
        raise SettingsError(
            f"MODELTRACE_API_KEYS_FILE ({settings.api_keys_file}) has no key with all scopes for this command: set the "
            "key that it sends in MODELTRACE_API_KEY"
        )
    return key


def authorization_header(settings: HttpSettings) -> dict[str, str]:
    """Return the `Authorization` header of commands; an empty dictionary if there is no key.

    Raises:
        SettingsError: see `client_key`.
    """
    key = client_key(settings)
    return {} if key is None else {"authorization": f"Bearer {key}"}


def check_exposure(settings: HttpSettings) -> None:
    """Check that a service that other machines can reach has an API key, unless `insecure` is set.

    Raises:
        SettingsError: there is no key.
    """
    if load_api_keys(settings) is None and not settings.insecure and not is_loopback(settings.host):
        raise SettingsError(
            f"{settings.host} can be reached from other machines, so an API key is needed: set MODELTRACE_API_KEY, or "
            f"MODELTRACE_API_KEY_FILE, to {MIN_KEY_LENGTH} or more characters (openssl rand -hex 32), or set "
            "MODELTRACE_API_KEYS_FILE to a file of several keys, listen on 127.0.0.1, or set MODELTRACE_INSECURE=true "
            "(--insecure) where a firewall or proxy protects the service"
        )


def describe_access(settings: HttpSettings) -> str:
    """Return a part of the startup log message: who can call the service; "" if only this machine can."""
    if is_loopback(settings.host):
        return ""
    access = "with an API key" if load_api_keys(settings) else "without an API key (MODELTRACE_INSECURE)"
    return f"; other machines can call it {access}"


def _create_key_file(path: Path) -> None:
    """Create the key file atomically. If several workers start at the same time, all use the first key."""
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(secrets.token_hex(32))
    with suppress(FileExistsError):
        path.hardlink_to(temporary)
    temporary.unlink()
