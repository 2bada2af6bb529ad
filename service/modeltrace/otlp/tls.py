"""Validate the certificate files that OpenTelemetry's variables name, before a library fails on them.

gRPC aborts the whole process when a client certificate comes without its key, so every file is checked first.
"""

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from modeltrace.otel_env.environment import read_option
from modeltrace.otel_env.table import Signal
from modeltrace.otlp.failures import Failure


class TlsFile(NamedTuple):
    """A file and the variable that names it."""

    variable: str
    path: str


class TlsFiles(NamedTuple):
    """The files of a signal; the key is in the certificate's file unless a variable names another file."""

    ca: TlsFile | None
    certificate: TlsFile | None
    key: TlsFile | None

    def find_problem(self, *, allow_folder: bool) -> Failure | None:
        """Return why the files cannot be used, or `None` if they can.

        Args:
            allow_folder: Accept a folder of CA certificates in place of a file.
        """
        for file in (file for file in self if file):
            path = Path(file.path)
            if not path.exists():
                return Failure(f"certificate file missing: {path}", f"Correct {file.variable}")
            if not os.access(path, os.R_OK) or (path.is_dir() and not (allow_folder and file is self.ca)):
                return Failure(f"certificate file cannot be read: {path}", f"Correct {file.variable}")
        if self.key and not self.certificate:
            return Failure(
                f"{self.key.variable} is set without a certificate", "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return _load_problem(self.ca, lambda path: _load_ca(context, path)) or _load_problem(
            self.certificate,
            lambda path: context.load_cert_chain(path, self.key.path if self.key else None, password=lambda: ""),
        )


def tls_files(signal: Signal) -> TlsFiles:
    """Return the files that the environment names for a signal."""
    options = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    files = [TlsFile(*read_option(signal, option)) for option in options]
    return TlsFiles(*(file if file.path else None for file in files))


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    if Path(path).is_dir():
        context.load_verify_locations(capath=path)
    else:
        context.load_verify_locations(path)


def _load_problem(file: TlsFile | None, load: Callable[[str], None]) -> Failure | None:
    if file is None:
        return None
    try:
        load(file.path)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return Failure(
            f"certificate file is not PEM, or the key does not match: {file.path}", f"Correct {file.variable}"
        )
    return None
