"""The settings of the hub: one frozen object, read once from the environment and passed down.

docs/settings.md lists every setting; a test compares the two.
"""

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self

import platformdirs
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from modeltrace_http.addresses import is_loopback
from modeltrace_http.limits import HttpLimits
from modeltrace_http.tls_settings import TlsSettings
from modeltrace_hub.durations import parse_duration_ns
from modeltrace_hub.errors import SettingsError

MIN_KEY_LENGTH: Final = 16


def _parse_duration(value: object) -> object:
    """Parse `90s`, `15m`, `36h`, `7d`; return anything else unchanged, because pydantic parses ISO 8601."""
    ns = parse_duration_ns(value) if isinstance(value, str) else None
    return value if ns is None else timedelta(microseconds=ns / 1000)


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]


def _parse_origins(value: object) -> object:
    """Parse a comma-separated list of origins, and check that each is written as browsers send it."""
    if not isinstance(value, str):
        return value
    origins = tuple(item.strip().lower() for item in value.split(",") if item.strip())
    for origin in origins:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+", origin):
            raise ValueError(
                f"{origin!r} is not an origin: write scheme://host or scheme://host:port, no path and no *"
            )
    return origins


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_origins)]


def _validate_key(value: SecretStr) -> SecretStr:
    """Check that an HTTP header can carry the key."""
    key = value.get_secret_value()
    if len(key) < MIN_KEY_LENGTH or not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError(f"a key has {MIN_KEY_LENGTH} or more printable ASCII characters, and no spaces around them")
    return value


def _validate_proxies(value: str) -> str:
    """Check that each item is an IP address, a network or `*`. Other texts would never match the address of a proxy."""
    for item in value.split(","):
        try:
            _ = item.strip() == "*" or ipaddress.ip_network(item.strip())
        except ValueError as error:
            raise ValueError(
                f"{error}; write addresses or networks, separated by commas (10.0.0.7, 10.1.0.0/16)"
            ) from None
    return value


def _validate_address(value: str) -> str:
    """Check that an address is an absolute URL, and remove the slash at its end."""
    if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", value):
        raise ValueError(f"{value!r} is not an address: write http://HOST:PORT, with a path if there is one")
    return value.rstrip("/")


WebAddress = Annotated[str, AfterValidator(_validate_address)]


class HubSettings(HttpLimits, TlsSettings, BaseSettings):
    """The settings of the hub. Environment variables have the prefix `MODELTRACE_HUB_`."""

    model_config = SettingsConfigDict(env_prefix="MODELTRACE_HUB_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="The address to listen on. A non-loopback address needs a key.")
    port: int = Field(4319, ge=1, le=65535, description="The port of the pages and the API.")
    grpc_port: int = Field(4317, ge=1, le=65535, description="The port of OTLP over gRPC.")
    http_port: int = Field(4318, ge=1, le=65535, description="The port of OTLP over HTTP.")
    key: Annotated[SecretStr, AfterValidator(_validate_key)] | None = Field(
        None,
        description="The secret that senders (`Authorization: Bearer …`) and browsers must present; unset: no key.",
    )

    cors_origins: Origins = Field(
        (),
        description="Origins whose pages may send OTLP over HTTP, separated by commas (`https://app.example.com`); "
        "unset: none.",
    )
    trusted_proxies: Annotated[str, AfterValidator(_validate_proxies)] | None = Field(
        None,
        description="Addresses and networks of proxies, separated by commas, whose `X-Forwarded-Proto` header is "
        "trusted; unset: none.",
    )

    data: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("modeltrace") / "hub",
        description="The folder of the database; unset: `hub` in the user's data folder.",
    )
    memory: bool = Field(default=False, description="Store telemetry in memory only; `data` is then not used.")
    max_age: Duration = Field(
        timedelta(days=7), gt=timedelta(0), description="Rows older than this are deleted (`36h`, `7d`, or ISO 8601)."
    )
    max_size: ByteSize = Field(
        ByteSize(2 * 2**30),
        ge=16 * 2**20,
        description="Size of the data (`500MB`, `2GiB`) above which the oldest rows are deleted.",
    )

    max_request_bytes: ByteSize = Field(
        ByteSize(16 * 2**20),
        ge=1024,
        description="A larger OTLP request, compressed or decompressed, is answered with 413 (gRPC: "
        "RESOURCE_EXHAUSTED). Other limits of a request follow from it: see hub.md.",
    )
    max_queue_bytes: ByteSize = Field(
        ByteSize(64 * 2**20),
        ge=1024,
        description="Maximum bytes of requests in the write queue. A request that does not fit is answered with 503 "
        "(gRPC: UNAVAILABLE). At least `max_request_bytes`.",
    )
    max_queue_rows: int = Field(
        200_000,
        ge=1,
        description="Maximum rows in the write queue. A request that does not fit is answered with 503 (gRPC: "
        "UNAVAILABLE), one with more rows than this with 413 (gRPC: RESOURCE_EXHAUSTED).",
    )

    sql_timeout: Duration = Field(
        timedelta(seconds=10),
        gt=timedelta(0),
        le=timedelta(minutes=10),
        description="A SQL query of a user that takes longer than this is ended.",
    )

    alerts: Path | None = Field(
        None, description="The file with the receivers of messages about alerts; unset: no messages are sent."
    )

    jaeger_url: WebAddress | None = Field(
        None, description="The address of Jaeger's user interface, to which traces link; unset: no link."
    )
    grafana_url: WebAddress | None = Field(
        None, description="The address of Grafana, in whose Explore view traces link to their logs; unset: no link."
    )
    grafana_logs: str = Field("loki", min_length=1, description="The UID of the data source of type Loki in Grafana.")
    prometheus_url: WebAddress | None = Field(
        None, description="The address of Prometheus, to which traces link; unset: no link."
    )

    @property
    def is_loopback(self) -> bool:
        """Whether the hub listens on a loopback address only."""
        return is_loopback(self.host)

    @property
    def page_url(self) -> str:
        """The address of the pages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}"

    @model_validator(mode="after")
    def _check_queue_size(self) -> Self:
        if self.max_queue_bytes < self.max_request_bytes:
            raise ValueError(
                f"MODELTRACE_HUB_MAX_QUEUE_BYTES ({self.max_queue_bytes}) is below MODELTRACE_HUB_MAX_REQUEST_BYTES "
                f"({self.max_request_bytes}), so a request of that size would never fit into the queue: raise the "
                "first or lower the second"
            )
        return self

    @model_validator(mode="after")
    def _require_key(self) -> Self:
        if not self.is_loopback and self.key is None:
            raise ValueError(
                f"{self.host} can be reached from other machines, so a key is needed: set MODELTRACE_HUB_KEY to a "
                "secret of 16 or more characters, or listen on 127.0.0.1"
            )
        return self


def read_settings(**overrides: Any) -> HubSettings:  # noqa: ANN401  values are validated by the model
    """Read the settings from the environment.

    Args:
        overrides: values of command-line options, which take precedence; None means that the option was not given.

    Raises:
        SettingsError: a value is invalid. The message names the variable and does not repeat a secret.
    """
    try:
        return HubSettings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False, include_input=False):
            name = f"MODELTRACE_HUB_{str(item['loc'][0]).upper()}: " if item["loc"] else ""
            lines.append(name + item["msg"].removeprefix("Value error, "))
        raise SettingsError("; ".join(lines)) from None
