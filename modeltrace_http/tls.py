"""TLS of a server: certificate, key and the CA of client certificates, which are read again when their files change."""

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

logger = logging.getLogger(__name__)

# Seconds between two checks whether a file has changed.
CHECK_INTERVAL: Final = 1.0
T = TypeVar("T")
_FileState = tuple[int, int, int]  # what changes if a file is written or replaced: inode, size, time


class TlsError(Exception):
    """A file cannot be used. The message names the file."""


class TlsFiles(NamedTuple):
    """The PEM files of a server."""

    certificate: Path  # with the intermediate certificates
    key: Path | None = None  # None: it is in the file of the certificate
    client_ca: Path | None = None  # clients need a certificate that one of these issued; None: clients need none


def create_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and later.

    Raises:
        TlsError: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for path in filter(None, files):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsError(f"{path} cannot be read: {error.strerror}") from None
    key = files.key or files.certificate
    try:
        # OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: _reject_password(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"the key in {key} does not belong to the certificate in {files.certificate}") from None
        raise TlsError(
            f"{files.certificate} must contain a certificate in PEM format, and {key} its private key "
            f"({error.reason or 'no PEM data'})"
        ) from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            reason = error.reason or "no PEM data"
            raise TlsError(f"{files.client_ca} must contain certificates in PEM format ({reason})") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Reloader(Generic[T]):
    """What new connections use, made from the files: it changes when a file changes. Open connections keep theirs.

    If a changed file cannot be used, it stays as it was, and the log says why.
    """

    def __init__(self, files: TlsFiles, create: Callable[[TlsFiles], T]) -> None:
        """Read the files with `create`, for example `create_context`.

        Raises:
            TlsError: a file cannot be used.
        """
        self._files = files
        self._create = create
        self._states = self._read_states()
        self._current = create(files)
        self._next_check = time.monotonic() + CHECK_INTERVAL

    def current(self) -> T:
        """Return what new connections use; read the files again if they have changed."""
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + CHECK_INTERVAL
            states = self._read_states()
            if states != self._states:
                self._reload(states)
        return self._current

    def _reload(self, states: tuple[_FileState | None, ...]) -> None:
        self._states = states
        try:
            self._current = self._create(self._files)
        except TlsError as error:
            logger.error("the TLS certificate stays as it was: %s", error)  # noqa: TRY400  the message is complete
            return
        logger.info("TLS certificate read from %s", self._files.certificate)

    def _read_states(self) -> tuple[_FileState | None, ...]:
        return tuple(_read_state(path) for path in self._files if path is not None)


def _read_state(path: Path) -> _FileState | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _reject_password(key: Path) -> str:
    raise TlsError(f"the key in {key} is encrypted: store it without a password, readable by the service only")
