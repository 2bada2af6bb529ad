"""Arguments and environments of the processes that `up` starts."""

import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from modeltrace.errors import ModeltraceError
from modeltrace.local.tls import UpTls
from modeltrace.otel_env.parsers import mask
from modeltrace.otel_env.table import SIGNALS
from modeltrace.otel_settings import OtelSettings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
CERTIFICATE = "OTEL_EXPORTER_OTLP_CERTIFICATE"
SERVICE_NAME = "OTEL_SERVICE_NAME"
LOG_FILE = "MODELTRACE_LOG_FILE"
HUB_KEY = "MODELTRACE_HUB_KEY"
HUB_HOST = "127.0.0.1"
# Default endpoints of the stack's Collector, by protocol.
COLLECTOR_ENDPOINTS = {"http/protobuf": "http://127.0.0.1:4318", "grpc": "http://127.0.0.1:4317"}
# Seconds that a connection to the Collector may take.
CONNECT_TIMEOUT = 2.0
# Share of predictions for which a true label is sent. In practice, some labels never arrive.
FEEDBACK_SHARE = "0.8"


class UpError(ModeltraceError):
    """A process cannot be started, or ended unexpectedly."""


@dataclass(frozen=True, slots=True)
class StackTarget:
    """A stack of a Collector and its backends, which is started separately.

    Attributes:
        endpoint: OTLP endpoint of the Collector.
        page_urls: pages of the backends.
        trace_url_prefix: URL to which a trace ID is appended.
        note: a remark about the pages; may be empty.
    """

    endpoint: str
    page_urls: Sequence[str]
    trace_url_prefix: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class UpConfig:
    """Configuration of `modeltrace up`: a service, with or without a hub and traffic.

    Attributes:
        source: the source of the bundle, as given to the service.
        bundle: the folder to which `source` was resolved.
        host: the host of the service.
        port: the port of the service.
        hub_port: the port of the hub's pages.
        grpc_port: the hub's port for OTLP over gRPC.
        http_port: the hub's port for OTLP over HTTP.
        rate: requests per second of traffic; `None`: no traffic.
        external_telemetry: description of the destination of telemetry, if the user has configured one; then no hub is
            started.
        hub_has_key: whether the hub requires a key.
        log_dir: the folder for log files.
        stack: the stack that receives telemetry; then no hub is started.
        is_example: whether the built-in example is served. Its traffic counts like real requests; traffic for any
            other bundle is marked as synthetic.
        shifts: the `--shift` options of traffic.
        shift_after: seconds after which shifts start.
        tls: the certificates of the service and the hub.
        alerts: the file with the receivers of messages about alerts, for the hub.
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
    tls: UpTls = field(default_factory=UpTls)
    alerts: Path | None = None

    @property
    def starts_hub(self) -> bool:
        """Whether a hub is started."""
        return self.external_telemetry is None and self.stack is None

    @property
    def service_url(self) -> str:
        """URL of the service for clients on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104  compared, not bound
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{_scheme(self.tls.service_ca)}://{host}:{self.port}"

    @property
    def hub_url(self) -> str:
        """URL of the hub's pages."""
        return f"{_scheme(self.tls.hub_ca)}://{HUB_HOST}:{self.hub_port}"

    @property
    def traffic_command(self) -> str:
        """The arguments of a command that sends traffic to the service."""
        ca = self.tls.service_ca
        return f"traffic {self.service_url}" + (f" --ca {shlex.quote(str(ca))}" if ca else "")


def _scheme(ca: Path | None) -> str:
    return "http" if ca is None else "https"


def describe_external_telemetry(otel: OtelSettings) -> str | None:
    """Describe the destination of telemetry in the user's settings; `None` if they have none."""
    if otel.sdk_disabled:
        return "off (OTEL_SDK_DISABLED)"
    if otel.endpoint is not None:
        return f"sent to {mask(otel.endpoint)} ({ENDPOINT})"
    return None


def check_ports_free(config: UpConfig) -> None:
    """Check that all ports are free.

    Raises:
        UpError: a port is in use; the message names its option.
    """
    ports = [("the service", config.host, config.port, "--port")]
    if config.starts_hub:
        ports += [
            ("the hub's pages", HUB_HOST, config.hub_port, "--hub-port"),
            ("the hub's OTLP over gRPC", HUB_HOST, config.grpc_port, "--grpc-port"),
            ("the hub's OTLP over HTTP", HUB_HOST, config.http_port, "--http-port"),
        ]
    for user, host, port, option in ports:
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UpError(
                f"cannot listen on {host} port {port} for {user}: {reason}. Stop the process that uses "
                f"the port, or choose another one with {option}"
            ) from None


def collector_endpoint(otel: OtelSettings) -> str:
    """Return the OTLP endpoint of the stack's Collector: the user's setting, or the default for the protocol."""
    return otel.endpoint or COLLECTOR_ENDPOINTS[otel.protocol]


def check_collector_reachable(stack: StackTarget) -> None:
    """Check that the Collector accepts connections.

    Raises:
        UpError: it does not; the message says how to start it.
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
    """Return the environment of the service: the user's environment, and defaults for variables that are not set.

    By default, telemetry is exported with little delay for interactive use, and log lines go to a rotating file.
    """
    defaults = {
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        LOG_FILE: str(config.log_dir / "service.jsonl"),
    }
    if config.stack is not None:
        defaults |= {
            **({} if otel.endpoint else _endpoints(otel, COLLECTOR_ENDPOINTS)),
            ENDPOINT: config.stack.endpoint,
        }
    elif config.starts_hub:
        ports = {"grpc": config.grpc_port, "http/protobuf": config.http_port}
        hub = f"{_scheme(config.tls.hub_ca)}://{HUB_HOST}"
        defaults |= _endpoints(otel, {protocol: f"{hub}:{port}" for protocol, port in ports.items()})
        if (ca := config.tls.hub_ca) is not None:
            defaults[CERTIFICATE] = str(ca)
        if key := environ.get(HUB_KEY):
            defaults[HEADERS] = f"authorization={quote(f'Bearer {key}')}"
    return {**defaults, **{name: value for name, value in environ.items() if value or name not in defaults}}


def _endpoints(otel: OtelSettings, endpoints: Mapping[str, str]) -> dict[str, str]:
    """Return the endpoint variable for all signals, and one for each signal with its own protocol."""
    return {
        ENDPOINT: endpoints[otel.protocol],
        **{
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT": endpoints[protocol]
            + ("" if protocol == "grpc" else f"/v1/{signal}")
            for signal in SIGNALS
            if (protocol := otel.protocol_for(signal)) != otel.protocol
        },
    }


def traffic_environment(service: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of traffic: that of the service, without the variables for its identity and log file."""
    excluded = (SERVICE_NAME, LOG_FILE, "OTEL_RESOURCE_ATTRIBUTES")
    return {name: value for name, value in service.items() if name not in excluded}


def hub_arguments(config: UpConfig) -> Sequence[str]:
    """Return the module and the arguments of the hub."""
    return (
        "modeltrace_hub",
        *("--host", HUB_HOST),
        *("--port", str(config.hub_port)),
        *("--grpc-port", str(config.grpc_port)),
        *("--http-port", str(config.http_port)),
        *(("--alerts", str(config.alerts)) if config.alerts else ()),
    )


def service_arguments(config: UpConfig) -> Sequence[str]:
    """Return the module and the arguments of the service."""
    files = config.tls.service
    tls: list[str] = []
    if files is not None:
        tls = ["--tls-certificate", str(files.certificate), *(("--tls-key", str(files.key)) if files.key else ())]
    return ("modeltrace", "serve", config.source, "--host", config.host, "--port", str(config.port), *tls)


def traffic_arguments(config: UpConfig, *, has_rows: bool, has_labels: bool, ready_timeout: float) -> Sequence[str]:
    """Return the module and the arguments of traffic.

    Args:
        config: the configuration of `up`.
        has_rows: whether the bundle has test rows.
        has_labels: whether these rows have true labels.
        ready_timeout: seconds to wait until the service is ready.
    """
    rows = (
        *(("--bundle", str(config.bundle)) if has_rows else ()),
        *(("--feedback", FEEDBACK_SHARE) if has_labels else ()),
    )
    shifts = [option for shift in config.shifts for option in ("--shift", shift)]
    if config.shift_after:
        shifts += ["--shift-after", f"{config.shift_after:g}s"]
    mark = ("--unmarked",) if config.is_example else ()
    output = ("--json", "--interval", "1s")
    ca = ("--ca", str(config.tls.service_ca)) if config.tls.service else ()
    options = ("--rate", f"{config.rate:g}", "--wait", f"{ready_timeout:g}s", *output, *rows, *shifts, *mark, *ca)
    return ("modeltrace", "traffic", config.service_url, *options)
