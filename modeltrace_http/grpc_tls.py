"""TLS of a gRPC server, with the files and the reload of the HTTP server."""

from pathlib import Path
from typing import TypeAlias

import grpc

from modeltrace_http.tls import Reloader, TlsError, TlsFiles, create_context

# The contents of the certificate, the key and the client CA.
PemContents: TypeAlias = tuple[bytes, bytes | None, bytes | None]


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that are read again when a file changes. Open connections keep theirs.

    Raises:
        TlsError: a file cannot be used.
    """
    reloader = Reloader(files, _read_verified)
    used = reloader.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Return a new configuration if the files have changed. gRPC frees it, so none is returned twice."""
        nonlocal used
        if (contents := reloader.current()) is used:
            return None
        used = contents
        return _to_configuration(contents)

    return grpc.dynamic_ssl_server_credentials(
        _to_configuration(used),
        fetch,  # type: ignore[arg-type]  # `None` means no change, as gRPC documents
        require_client_authentication=files.client_ca is not None,
    )


def _read_verified(files: TlsFiles) -> PemContents:
    """Read the files. gRPC does not say why it rejects a file, so they are checked first.

    Raises:
        TlsError: a file cannot be used.
    """
    contents = _read(files)
    create_context(files)
    if _read(files) != contents:
        raise TlsError(f"{files.certificate} or its key changed while they were read")
    return contents


def _to_configuration(contents: PemContents) -> grpc.ServerCertificateConfiguration:
    certificate, key, client_ca = contents
    return grpc.ssl_server_certificate_configuration([(key or certificate, certificate)], root_certificates=client_ca)


def _read(files: TlsFiles) -> PemContents:
    def read(path: Path | None) -> bytes | None:
        return None if path is None else path.read_bytes()

    try:
        return files.certificate.read_bytes(), read(files.key), read(files.client_ca)
    except OSError as error:
        raise TlsError(f"{error.filename} cannot be read: {error.strerror}") from None


def bind_port(server: grpc.aio.Server, address: str, files: TlsFiles | None) -> int:
    """Bind a server to an address, with TLS if there are files, and return the port.

    Raises:
        RuntimeError: the address is not available.
        TlsError: a file cannot be used.
    """
    if files is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, server_credentials(files))
