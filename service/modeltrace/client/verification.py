"""How clients verify the certificate of a server, and what to do if they cannot."""

import ssl
from pathlib import Path
from typing import Final

import httpx

from modeltrace.errors import SettingsError

CERTIFICATE_ADVICE: Final = (
    "Use a name of its certificate in the address. If its CA is not a public one, name the CA: with --ca FILE or "
    "SSL_CERT_FILE for a command, with verify= for modeltrace.Client"
)


def client_context(ca: Path | None) -> ssl.SSLContext:
    """Return the context with which an HTTP client verifies certificates.

    Args:
        ca: a PEM file. Certificates that it contains, or that one of its CAs has issued, are trusted in addition to
            those of public CAs, or of the CAs in the file that SSL_CERT_FILE names.

    Raises:
        SettingsError: the file cannot be used.
    """
    context = httpx.create_ssl_context()
    if ca is None:
        return context
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        reason = error.reason or "no PEM data"
        raise SettingsError(f"--ca {ca} must contain certificates in PEM format ({reason})") from None
    except OSError as error:
        raise SettingsError(f"--ca {ca} cannot be read: {error.strerror}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate of the server itself is enough
    return context


def is_certificate_error(error: BaseException) -> bool:
    """Return whether a request failed because the certificate of the server could not be verified."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
