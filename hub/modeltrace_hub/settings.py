"""The hub's settings: one frozen object, read once from the environment and handed down.

docs/settings.md lists every one; a test holds the two together.
"""

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self

import platformdirs
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from modeltrace_http.limits import HttpLimitSettings
from modeltrace_hub.errors import SettingsError

SHORTEST_KEY: Final = 16

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: object) -> object:
    """Read `90s`, `15m`, `36h`, `7d`; leave all else to pydantic, which knows ISO 8601."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", value.strip()) if isinstance(value, str) else None
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]


def _origins(value: object) -> object:
    """Read a list with commas between; check that each item is an origin as browsers send it."""
    if not isinstance(value, str):
        return value
    origins = tuple(item.strip().lower() for item in value.split(",") if item.strip())
    for origin in origins:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+", origin):
            raise ValueError(f"{origin!r} is no origin: write scheme://host or scheme://host:port, without a path or *")
    return origins


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]


def _check_key(value: SecretStr) -> SecretStr:
    """See that a header can have the key."""
    key = value.get_secret_value()
    if len(key) < SHORTEST_KEY or not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError(f"a key has {SHORTEST_KEY} or more printable ASCII characters, and no blanks around them")
    return value


def _check_proxies(value: str) -> str:
    """See that each item is an address or a network: anything else would never be the address of a proxy."""
    for item in value.split(","):
        try:
            _ = item.strip() == "*" or ipaddress.ip_network(item.strip())
        except ValueError as error:
            raise ValueError(
                f"{error}; write addresses or networks with commas between (10.0.0.7, 10.1.0.0/16)"
            ) from None
    return value


class HubSettings(HttpLimitSettings):
    """The hub's own settings. Environment variables have the prefix `MODELTRACE_HUB_`."""

    model_config = SettingsConfigDict(env_prefix="MODELTRACE_HUB_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="The address to listen on; any but a loopback one needs a key.")
    port: int = Field(4319, ge=1, le=65535, description="The port of the pages and their API.")
    grpc_port: int = Field(4317, ge=1, le=65535, description="The port that takes OTLP over gRPC.")
    http_port: int = Field(4318, ge=1, le=65535, description="The port that takes OTLP over HTTP.")
    key: Annotated[SecretStr, AfterValidator(_check_key)] | None = Field(
        None,
        description="The secret that senders (`Authorization: Bearer …`) and browsers must show; unset: none asked.",
    )

    cors_origins: Origins = Field(
        (),
        description="Origins whose pages may send OTLP over HTTP, with commas between (`https://app.example.com`); "
        "unset: none.",
    )
    trusted_proxies: Annotated[str, AfterValidator(_check_proxies)] | None = Field(
        None,
        description="Addresses and networks of proxies, separated by commas, whose `X-Forwarded-Proto` says that the "
        "pages are reached by https; unset: nobody's.",
    )

    data: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("modeltrace") / "hub",
        description="The folder of the database; unset: `hub` in the user's data folder.",
    )
    memory: bool = Field(default=False, description="Keep everything in memory only; `data` is then not used.")
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
        description="A larger OTLP request, packed or unpacked, is answered with 413 (gRPC: RESOURCE_EXHAUSTED). The "
        "limits of what a request may expand to follow from it: see hub.md.",
    )
    queue_bytes: ByteSize = Field(
        ByteSize(64 * 2**20),
        ge=1024,
        description="Bytes of requests that may wait to be written before the answer is 503 (gRPC: UNAVAILABLE); no "
        "less than `max_request_bytes`.",
    )
    queue_rows: int = Field(
        200_000,
        ge=1,
        description="Rows that may wait to be written before the answer is 503 (gRPC: UNAVAILABLE). A request with "
        "more is answered with 413 (gRPC: RESOURCE_EXHAUSTED).",
    )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the hub."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.queue_bytes < self.max_request_bytes:
            raise ValueError(
                f"MODELTRACE_HUB_QUEUE_BYTES ({self.queue_bytes}) is below MODELTRACE_HUB_MAX_REQUEST_BYTES "
                f"({self.max_request_bytes}), so a request of that size would be refused each time it is sent again: "
                "raise the one or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _key_unless_loopback(self) -> Self:
        if not self.loopback and self.key is None:
            raise ValueError(
                f"{self.host} can be reached from other machines, so a key is needed: set MODELTRACE_HUB_KEY to a "
                "secret of 16 or more characters, or listen on 127.0.0.1"
            )
        return self


def read_settings(**overrides: Any) -> HubSettings:  # noqa: ANN401  values are validated by the model
    """Read the environment once; `overrides` (what the command line says) win over it, `None` says nothing.

    Raises:
        SettingsError: a value does not make sense; the message names the variable, and never repeats a secret.
    """
    try:
        return HubSettings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False, include_input=False):
            name = f"MODELTRACE_HUB_{str(item['loc'][0]).upper()}: " if item["loc"] else ""
            lines.append(name + item["msg"].removeprefix("Value error, "))
        raise SettingsError("; ".join(lines)) from None
