"""The TLS files of a server, which are settings of service and hub."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from modeltrace_http.tls import TlsError, TlsFiles


class TlsSettings(BaseModel):
    """The certificate of a server. The settings of a server inherit these fields."""

    model_config = ConfigDict(frozen=True)

    tls_certificate: Path | None = Field(
        None,
        description="A PEM file with the certificate of the server and its intermediate certificates: serve HTTPS, and "
        "gRPC over TLS. It is read again when it changes.",
    )
    tls_key: Path | None = Field(
        None, description="A PEM file with the certificate's private key; unset: it is in the certificate's file."
    )
    tls_client_ca: Path | None = Field(
        None, description="A PEM file of certificates: clients need a certificate that one of these has issued."
    )

    def tls_files(self) -> TlsFiles | None:
        """Return the files for TLS; `None` if the server has no TLS.

        Raises:
            TlsError: there is a key or a client CA without a certificate.
        """
        if self.tls_certificate is not None:
            return TlsFiles(self.tls_certificate, self.tls_key, self.tls_client_ca)
        for name, path in (("TLS_KEY", self.tls_key), ("TLS_CLIENT_CA", self.tls_client_ca)):
            if path is not None:
                prefix = self.model_config.get("env_prefix", "")
                raise TlsError(f"{prefix}{name} needs {prefix}TLS_CERTIFICATE, the certificate of the server")
        return None
