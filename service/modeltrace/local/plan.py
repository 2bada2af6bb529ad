"""What `up` starts on one machine: which programs, on which ports, with which environment."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from modeltrace.errors import ModeltraceError
from modeltrace.otel_env.table import SIGNALS
from modeltrace.otel_env.values import mask
from modeltrace.settings import OtelSettings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
SERVICE_NAME = "OTEL_SERVICE_NAME"
LOG_FILE = "MODELTRACE_LOG_FILE"
HUB_KEY = "MODELTRACE_HUB_KEY"
HUB_HOST = "127.0.0.1"
# Where the Collector of the real stack takes OTLP, by protocol.
COLLECTOR_ENDPOINTS = {"http/protobuf": "http://127.0.0.1:4318", "grpc": "http://127.0.0.1:4317"}
# Seconds that a connection to it may take.
CONNECT_TIMEOUT = 2.0
# Of answers whose truth becomes known: not of all of them, as in life.
FEEDBACK_SHARE = "0.8"


class UpError(ModeltraceError):
    """What `up` starts cannot be started, or has ended by itself."""


@dataclass(frozen=True, slots=True)
class StackTarget:
    """The real stack, which is started by itself.

    `endpoint` is where its Collector takes OTLP, `look` where people look, `trace` the same for a trace, whose ID is
    put behind it. `note` says what they should know first.
    """

    endpoint: str
    page_urls: Sequence[str]
    trace_url_prefix: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class UpConfig:
    """One service on this machine, with or without a hub and traffic.

    `rate` is that of traffic; without one there is none. It counts like real requests where `example` is served, whose
    traffic is all that there is, and is marked as synthetic for any other bundle. `shifts` move its features, as for
    `modeltrace traffic`, after `shift_after` seconds. `elsewhere` says where telemetry goes when that is not a hub
    started here; then there is none. `stack`: where it goes is a real stack. `keyed`: whether the hub asks for a key.
    `source`: what is served; `bundle`: the folder that it meant when it was asked.
    """

    source: str
    bundle: Path
    host: str
    port: int
    hub_port: int
    grpc_port: int
    http_port: int
    rate: float | None
    external_telemetry: str | None
    hub_has_key: bool
    log_dir: Path
    stack: StackTarget | None = None
    is_example: bool = False
    shifts: Sequence[str] = ()
    shift_after: float = 0.0

    @property
    def starts_hub(self) -> bool:
        """Whether a hub is started here."""
        return self.external_telemetry is None and self.stack is None

    @property
    def service_url(self) -> str:
        """Where the service is reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104  read, not listened on
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    @property
    def hub_url(self) -> str:
        """The hub's page."""
        return f"http://{HUB_HOST}:{self.hub_port}"


def describe_external_telemetry(otel: OtelSettings) -> str | None:
    """Where telemetry goes by the user's own settings; `None` when they leave it to us."""
    if otel.sdk_disabled:
        return "telemetry is off (OTEL_SDK_DISABLED)"
    if otel.endpoint is not None:
        return f"telemetry goes to {mask(otel.endpoint)} ({ENDPOINT})"
    return None


def check_ports_free(config: UpConfig) -> None:
    """See that every port is free before anything starts.

    Raises:
        UpError: one is not; the message names its option.
    """
    wanted = [("the service", config.host, config.port, "--port")]
    if config.starts_hub:
        wanted += [
            ("the hub's page", HUB_HOST, config.hub_port, "--hub-port"),
            ("the hub's OTLP over gRPC", HUB_HOST, config.grpc_port, "--grpc-port"),
            ("the hub's OTLP over HTTP", HUB_HOST, config.http_port, "--http-port"),
        ]
    for what, host, port, option in wanted:
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UpError(
                f"cannot listen on {host} port {port} for {what}: {reason}. Stop what listens there, or choose "
                f"another port with {option}"
            ) from None


def collector_endpoint(otel: OtelSettings) -> str:
    """Where the stack's Collector takes OTLP: what the user says, or its usual port for the protocol."""
    return otel.endpoint or COLLECTOR_ENDPOINTS[otel.protocol]


def check_collector_reachable(stack: StackTarget) -> None:
    """See that something takes connections where OTLP is to go.

    Raises:
        UpError: nothing does; the message says what to start.
    """
    url = urlsplit(stack.endpoint if "//" in stack.endpoint else f"//{stack.endpoint}")
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or HUB_HOST, port), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UpError(
            f"no Collector answers at {mask(stack.endpoint)}: {reason}. Start the stack: ./dev stack up"
        ) from None


def service_environment(environ: Mapping[str, str], config: UpConfig, otel: OtelSettings) -> dict[str, str]:
    """The service's environment: the user's, and our defaults where it says nothing.

    Telemetry goes out soon after it arises, for somebody watches. The JSON lines go to a rotating file.
    """
    ours = {
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        LOG_FILE: str(config.log_dir / "service.jsonl"),
    }
    if config.stack is not None:
        ours |= {**({} if otel.endpoint else _endpoints(otel, COLLECTOR_ENDPOINTS)), ENDPOINT: config.stack.endpoint}
    elif config.starts_hub:
        ports = {"grpc": config.grpc_port, "http/protobuf": config.http_port}
        ours |= _endpoints(otel, {protocol: f"http://{HUB_HOST}:{port}" for protocol, port in ports.items()})
        if key := environ.get(HUB_KEY):
            ours[HEADERS] = f"authorization={quote(f'Bearer {key}')}"
    return {**ours, **{name: value for name, value in environ.items() if value or name not in ours}}


def _endpoints(otel: OtelSettings, places: Mapping[str, str]) -> dict[str, str]:
    """The endpoint of all signals by their protocol, and that of each signal which has another protocol."""
    own = {signal: otel.protocol_for(signal) for signal in SIGNALS if otel.protocol_for(signal) != otel.protocol}
    return {
        ENDPOINT: places[otel.protocol],
        **{
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT": places[protocol]
            + ("" if protocol == "grpc" else f"/v1/{signal}")
            for signal, protocol in own.items()
        },
    }


def traffic_environment(service: Mapping[str, str]) -> dict[str, str]:
    """The traffic's environment: the service's, but for what tells the two apart."""
    apart = (SERVICE_NAME, LOG_FILE, "OTEL_RESOURCE_ATTRIBUTES")
    return {name: value for name, value in service.items() if name not in apart}


def hub_arguments(config: UpConfig) -> Sequence[str]:
    """How the hub is started."""
    return (
        "modeltrace_hub",
        *("--host", HUB_HOST),
        *("--port", str(config.hub_port)),
        *("--grpc-port", str(config.grpc_port)),
        *("--http-port", str(config.http_port)),
    )


def service_arguments(config: UpConfig) -> Sequence[str]:
    """How the service is started."""
    return ("modeltrace", "serve", config.source, "--host", config.host, "--port", str(config.port))


def traffic_arguments(config: UpConfig, *, has_rows: bool, has_labels: bool, ready_timeout: float) -> Sequence[str]:
    """How traffic is started.

    Args:
        config: where the service is, and what it serves.
        has_rows: whether the bundle has rows for it.
        has_labels: whether they have true labels.
        ready_timeout: seconds that the service may take to be ready.
    """
    rows = (
        *(("--bundle", str(config.bundle)) if has_rows else ()),
        *(("--feedback", FEEDBACK_SHARE) if has_labels else ()),
    )
    shifts = [option for shift in config.shifts for option in ("--shift", shift)]
    if config.shift_after:
        shifts += ["--shift-after", f"{config.shift_after:g}s"]
    mark = ("--unmarked",) if config.is_example else ()
    options = (
        "--rate",
        f"{config.rate:g}",
        "--wait",
        f"{ready_timeout:g}s",
        "--json",
        "--every",
        "1s",
        *rows,
        *shifts,
        *mark,
    )
    return ("modeltrace", "traffic", config.service_url, *options)
