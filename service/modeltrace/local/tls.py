"""TLS of the service and the hub that `up` starts, and of the clients that call them."""

from dataclasses import dataclass
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from modeltrace.client.verification import client_context
from modeltrace.errors import SettingsError
from modeltrace.settings import Settings
from modeltrace_http.tls import TlsFiles
from modeltrace_http.tls_settings import TlsSettings


class _HubTlsSettings(TlsSettings, BaseSettings):
    """The TLS settings of the hub, which reads them itself."""

    model_config = SettingsConfigDict(env_prefix="MODELTRACE_HUB_", frozen=True, extra="ignore", env_ignore_empty=True)


@dataclass(frozen=True, slots=True)
class UpTls:
    """The certificates of the service and the hub; `None`: no TLS.

    Attributes:
        service: the files of the service.
        hub: the files of the hub.
        ca: a file with the CAs of both certificates; `None`: clients trust the certificates themselves.
    """

    service: TlsFiles | None = None
    hub: TlsFiles | None = None
    ca: Path | None = None

    @property
    def service_ca(self) -> Path | None:
        """The file with which clients verify the certificate of the service; `None` without TLS."""
        return self._ca_of(self.service)

    @property
    def hub_ca(self) -> Path | None:
        """The file with which clients verify the certificate of the hub; `None` without TLS."""
        return self._ca_of(self.hub)

    def _ca_of(self, files: TlsFiles | None) -> Path | None:
        return None if files is None else self.ca or files.certificate


def read_tls(settings: Settings, ca: Path | None) -> UpTls:
    """Return the certificates in the settings of the service and in the environment of the hub.

    Raises:
        SettingsError: a file cannot be used, or clients need a certificate, which `up` does not have.
    """
    client_context(ca)  # also without TLS, in which no client would read the file
    hub_settings = _HubTlsSettings()
    for tls_settings in (settings, hub_settings):
        if tls_settings.tls_client_ca is not None:
            raise SettingsError(
                f"`up` has no client certificate to call its service and its hub: unset "
                f"{tls_settings.setting_name('tls_client_ca')}, or start the service with `modeltrace serve` and the "
                "hub with `modeltrace-hub`"
            )
    return UpTls(settings.check_tls(SettingsError), hub_settings.check_tls(SettingsError), ca)
