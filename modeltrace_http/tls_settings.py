"""The TLS files of a server, which are settings of service and hub."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from modeltrace_http.tls import TlsError, TlsFiles, create_context


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
        for field, path in (("tls_key", self.tls_key), ("tls_client_ca", self.tls_client_ca)):
            if path is not None:
                certificate = self.setting_name("tls_certificate")
                raise TlsError(f"{self.setting_name(field)} needs {certificate}, the certificate of the server")
        return None

    def check_tls(self, error_type: type[Exception]) -> TlsFiles | None:
        """Return the files for TLS after reading them, so that an error is reported before anything starts.

        Args:
            error_type: the exception to raise if a file cannot be used. Its message names the settings.
        """
        try:
            if files := self.tls_files():
                create_context(files)
        except TlsError as error:
            names = ", ".join(map(self.setting_name, TlsSettings.model_fields))
            raise error_type(f"{error} ({names})") from None
        return files

    def setting_name(self, field: str) -> str:
        """Return the environment variable of a field."""
        return f"{self.model_config.get('env_prefix', '')}{field.upper()}"
