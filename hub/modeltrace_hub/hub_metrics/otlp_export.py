"""Export the metrics of the hub as OTLP to `OTEL_EXPORTER_OTLP_ENDPOINT`, but never to the hub itself.

The variables are OpenTelemetry's. A hub often runs in a shell in which they name this hub, for the programs that are
started there; nothing is exported then.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from modeltrace_http.addresses import LOOPBACK_NAMES, is_loopback
from modeltrace_hub.errors import SettingsError
from modeltrace_hub.hub_metrics.definitions import HubMetric
from modeltrace_hub.settings import HubSettings

logger = logging.getLogger(__name__)

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
DEFAULT_INTERVAL_MS: Final = 60_000


def start_export(
    environ: Mapping[str, str], settings: HubSettings, collect: Callable[[], Iterable[HubMetric]]
) -> Callable[[], None] | None:
    """Start to export, and return the function that exports the last time and stops.

    Args:
        environ: the environment variables.
        settings: the settings, whose ports are those of the hub itself.
        collect: returns the current values.

    Returns:
        None if no endpoint is set, if the endpoint is the hub itself, or if `OTEL_SDK_DISABLED` or
        `OTEL_METRICS_EXPORTER` say that nothing is exported. Also None if a variable is invalid: it is logged as a
        warning, because the variables are often meant for other programs.
    """
    endpoint = environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") or environ.get(ENDPOINT)
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or disabled or environ.get("OTEL_METRICS_EXPORTER", "otlp").strip() != "otlp":
        return None
    try:
        if _is_own_port(endpoint, settings):
            return None
        interval_ms = _read_interval(environ)
    except SettingsError as error:
        logger.warning("The metrics of the hub are not exported: %s", error)
        return None
    provider = _create_provider(environ, endpoint, interval_ms, collect)
    logger.info("The metrics of the hub are exported to %s.", urlsplit(endpoint)._replace(query="").geturl())

    def stop() -> None:
        provider.shutdown(timeout_millis=2000)

    return stop


def _read_interval(environ: Mapping[str, str]) -> int:
    """Return the milliseconds between two exports.

    Raises:
        SettingsError: the variable is invalid.
    """
    interval = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or str(DEFAULT_INTERVAL_MS)
    if not interval.isdecimal() or int(interval) == 0:
        raise SettingsError(f"OTEL_METRIC_EXPORT_INTERVAL is {interval!r}; it is a number of milliseconds above 0.")
    return int(interval)


def _is_own_port(endpoint: str, settings: HubSettings) -> bool:
    """Whether an endpoint is a port of this hub.

    Raises:
        SettingsError: the endpoint is not an address.
    """
    try:
        parts = urlsplit(endpoint)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        raise SettingsError(f"{ENDPOINT} is {endpoint!r}; write http://HOST:PORT.")
    if port not in {settings.http_port, settings.grpc_port, settings.port}:
        return False
    local = {*LOOPBACK_NAMES, settings.host.lower(), socket.gethostname().lower()}
    return host in local or is_loopback(host)


def _create_provider(
    environ: Mapping[str, str], endpoint: str, interval_ms: int, collect: Callable[[], Iterable[HubMetric]]
) -> Any:  # noqa: ANN401  the SDK is imported only if it is used
    from opentelemetry.metrics import CallbackOptions, Observation  # noqa: PLC0415  only needed to export
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415  see above
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415  see above
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  see above

    def observe(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            metric = next(metric for metric in collect() if metric.name == name)
            return [Observation(value, dict(attributes)) for attributes, value in metric.values]

        return callback

    reader = PeriodicExportingMetricReader(_create_exporter(environ, endpoint), export_interval_millis=interval_ms)
    resource = Resource({"service.name": "modeltrace-hub", "service.version": version("modeltrace")})
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = provider.get_meter("modeltrace_hub")
    for metric in collect():
        create = meter.create_observable_counter if metric.type == "counter" else meter.create_observable_gauge
        create(metric.name, [observe(metric.name)], metric.unit, metric.description)
    return provider


def _create_exporter(environ: Mapping[str, str], endpoint: str) -> Any:  # noqa: ANN401  see above
    headers = environ.get("OTEL_EXPORTER_OTLP_METRICS_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    pairs = [item.partition("=") for item in headers.split(",") if "=" in item]
    parsed = {key.strip().lower(): unquote(value.strip()) for key, _, value in pairs}
    protocol = environ.get("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    if protocol.strip() == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_exporter  # noqa: PLC0415  see above

        return grpc_exporter.OTLPMetricExporter(endpoint, headers=parsed)
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_exporter  # noqa: PLC0415  see above

    if not environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        endpoint = f"{endpoint.rstrip('/')}/v1/metrics"
    return http_exporter.OTLPMetricExporter(endpoint, headers=parsed)
