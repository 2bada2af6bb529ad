"""The settings of the service's HTTP server: address, access control, proxies and limits."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from modeltrace_http.addresses import parse_address
from modeltrace_http.limits import HttpLimits
from modeltrace_http.tls_settings import TlsSettings

# Minimum number of characters of the API key, and of the key that signs prediction IDs.
MIN_KEY_LENGTH = 16
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}  # browsers leave them out
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def split_list(value: object) -> object:
    """Split a comma-separated list, in the format of OpenTelemetry's variables."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def is_path_prefix(path: str) -> bool:
    """Return whether a path can be the root path of the service."""
    return len(path) <= 256 and _PREFIX.fullmatch(path) is not None


def _check_prefix(path: str) -> str:
    path = path.rstrip("/")
    if path and not is_path_prefix(path):
        raise ValueError("must be a path like /ml/churn")
    return path


def _check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    if any(not _HOST.fullmatch(name) and not isinstance(parse_address(name), ipaddress.IPv6Address) for name in names):
        raise ValueError("must be names or addresses such as ml.example.com, without scheme, port or wildcard")
    return names


def _check_networks(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if "/" in name:
            try:
                ipaddress.ip_network(name)
            except ValueError:
                raise ValueError("must be addresses, networks such as 10.0.0.0/8 (no host bits set), or *") from None
    return names


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    origins = tuple(origin.lower() for origin in origins)
    for origin in origins:
        if not _ORIGIN.fullmatch(origin) or origin.endswith(_DEFAULT_PORTS[origin.partition(":")[0]]):
            raise ValueError(
                "must be origins such as https://app.example.com or http://127.0.0.1:3000, without path, wildcard or "
                "default port"
            )
    return origins


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]


class HttpSettings(HttpLimits, TlsSettings, BaseSettings):
    """The settings of the HTTP server. Environment variables have the prefix `MODELTRACE_`."""

    model_config = SettingsConfigDict(env_prefix="MODELTRACE_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field(
        "127.0.0.1", description="The address to listen on; any other than a loopback address needs an API key."
    )
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0: a free port.")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="The port for the Open Inference Protocol over gRPC; 0: a free port, with one worker only. Unset: "
        "no gRPC.",
    )
    workers: int = Field(1, ge=1, le=64, description="Worker processes, each with its own `service.instance.id`.")

    api_key: SecretStr | None = Field(
        None,
        min_length=MIN_KEY_LENGTH,
        description="The secret that clients send (`Authorization: Bearer …`; in a browser as the password); commands "
        "of `modeltrace` that call a service send it too. Unset: no authentication.",
    )
    api_key_file: Path | None = Field(None, description="A file that contains this secret, instead of the variable.")
    api_keys_file: Path | None = Field(
        None,
        description="A file of named keys, each for some of `predict`, `feedback`, `metrics`, `model`: see "
        "[HTTP](http.md#several-keys). It is read again when it changes. `MODELTRACE_API_KEY` may be set too.",
    )
    insecure: bool = Field(
        default=False, description="Allow an address that other machines can reach without an API key."
    )
    allowed_hosts: Annotated[CommaSeparated, AfterValidator(_check_hosts)] = Field(
        (),
        description="Host names that requests may have (`Host`), in addition to the address. Unset: names of this "
        "machine on a loopback address, any name on another.",
    )
    cors_origins: Annotated[CommaSeparated, AfterValidator(_check_origins)] = Field(
        (),
        description="Origins whose web pages may call the service from a browser (CORS), e.g. `https://app.example.com`.",
    )
    root_path: Annotated[str, AfterValidator(_check_prefix)] | None = Field(
        None, description="The path below which a proxy publishes the service, e.g. `/ml/churn`."
    )
    trusted_proxies: Annotated[CommaSeparated, AfterValidator(_check_networks)] = Field(
        (),
        description="Addresses or networks of proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` are trusted; "
        "`*`: all.",
    )
    trust_trace_context: bool = Field(
        default=True,
        description="`false`: only the trace ID of a client's trace context is used. Clients then cannot decide "
        "whether a trace is sampled or pinned (`modeltrace.pin`).",
    )

    rate_limit: float | None = Field(
        None,
        gt=0,
        description="The most requests per second of each API key, over all workers; without a valid key, of each "
        "client address. More are answered with 429. Unset: no limit.",
    )
    rate_limit_burst: int | None = Field(
        None, ge=1, description="Requests that a client may send at once; unset: those of one second."
    )
    max_body_bytes: int = Field(
        32 * 2**20,
        ge=1024,
        description="The most bytes of a request body, compressed and decompressed; a larger one is answered with 413. "
        "All bodies that are being received may have eight times as many; then the response is 503.",
    )
