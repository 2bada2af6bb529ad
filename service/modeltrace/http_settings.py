"""The settings of the service's HTTP server: where it listens, who may ask, limits, proxies."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from modeltrace_http.limits import HttpLimits

# Characters of a secret: the API key, and the one that signs prediction IDs.
MIN_KEY_LENGTH = 16
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def split_list(value: object) -> object:
    """Split a comma-separated list, the form that OpenTelemetry's variables have."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def is_path_prefix(path: str) -> bool:
    """Whether a path can stand before those of the service."""
    return len(path) <= 256 and _PREFIX.fullmatch(path) is not None


def _check_prefix(path: str) -> str:
    path = path.rstrip("/")
    if path and not is_path_prefix(path):
        raise ValueError("must be a path like /ml/churn")
    return path


def _check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    if any(not _HOST.fullmatch(name) and not _is_ipv6(name) for name in names):
        raise ValueError("must be names or addresses as ml.example.com: no scheme, no port, no wildcard")
    return names


def _is_ipv6(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False


def _check_networks(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if "/" in name:
            try:
                ipaddress.ip_network(name)
            except ValueError:
                raise ValueError(
                    "must be addresses, networks as 10.0.0.0/8 (no bits set behind its length), or *"
                ) from None
    return names


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]


class HttpSettings(BaseSettings):
    """The settings of the HTTP server. Environment variables have the prefix `MODELTRACE_`."""

    model_config = SettingsConfigDict(env_prefix="MODELTRACE_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="The address to listen on; any but a loopback one needs an API key.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes, each with its own `service.instance.id`.")

    api_key: SecretStr | None = Field(
        None,
        min_length=MIN_KEY_LENGTH,
        description="The secret that clients show (`Authorization: Bearer …`; in a browser as the password); commands "
        "of `modeltrace` that call a service send it. Unset: none is asked for.",
    )
    api_key_file: Path | None = Field(None, description="A file that holds this secret, in place of the variable.")
    insecure: bool = Field(
        default=False, description="Listen on an address that other machines reach without an API key."
    )
    allowed_hosts: Annotated[CommaSeparated, AfterValidator(_check_hosts)] = Field(
        (),
        description="Names that clients may call the service by (`Host`), besides its address. Unset: those of this "
        "machine on a loopback address, any on another.",
    )
    root_path: Annotated[str, AfterValidator(_check_prefix)] | None = Field(
        None, description="The path below which a proxy publishes the service, e.g. `/ml/churn`."
    )
    trusted_proxies: Annotated[CommaSeparated, AfterValidator(_check_networks)] = Field(
        (),
        description="Addresses or networks of proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` are believed; "
        "`*`: all.",
    )
    trust_trace_context: bool = Field(
        default=True,
        description="`false`: of the trace context of callers only the trace ID is taken; whether a trace is sampled "
        "or pinned (`modeltrace.pin`) is not theirs to say.",
    )

    max_header_bytes: int = Field(
        65_536, ge=1024, description="A longer request line with its headers is answered with 414 or 431."
    )
    max_body_bytes: int = Field(
        32 * 2**20,
        ge=1024,
        description="A larger request body, packed or unpacked, is answered with 413; bodies that are being received "
        "may have eight times as much together, above which the answer is 503.",
    )
    header_timeout: float = Field(
        15.0, gt=0, description="Seconds until the head of a request is complete; then the answer is 408."
    )
    body_timeout: float = Field(
        30.0,
        gt=0,
        description="Seconds until the body of a request is complete, and until a client reads what was written.",
    )
    keep_alive_timeout: float = Field(75.0, gt=0, description="Seconds that a connection stays open without a request.")
    max_connections: int = Field(
        4096,
        ge=1,
        description="Connections per worker, fewer where the limit of open files is low; others wait.",
    )

    @property
    def http_limits(self) -> HttpLimits:
        """The limits of the server."""
        return HttpLimits(
            header_bytes=self.max_header_bytes,
            header_timeout=self.header_timeout,
            body_timeout=self.body_timeout,
            keep_alive_timeout=self.keep_alive_timeout,
            max_connections=self.max_connections,
        )
