"""OpenTelemetry for the traffic client: its CLIENT spans are the parents of the service's SERVER spans."""

import logging
from collections.abc import Mapping
from importlib.metadata import version
from itertools import count
from ssl import SSLContext

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport, RequestInfo
from opentelemetry.semconv._incubating.attributes.url_attributes import URL_TEMPLATE
from opentelemetry.trace import Span

from modeltrace.otel_settings import OtelSettings
from modeltrace.telemetry.providers import Telemetry
from modeltrace.telemetry.resource import build_resource
from modeltrace.telemetry.sdk.provider import build_sdk_provider

SERVICE_NAME = "modeltrace-traffic"
# Seconds.
REQUEST_TIMEOUT = 30.0
FLUSH_TIMEOUT = 2.0
# Seconds that a connection may be idle. This is less than servers allow: otherwise a request could be sent on a
# connection that the server is closing.
KEEP_ALIVE_SECONDS = 2.0


def build_traffic_telemetry(settings: OtelSettings) -> Telemetry:
    """Build the providers of the client. Its service name is `SERVICE_NAME` unless the environment sets one.

    A failed export is logged to stderr once. The SDK would log every failed export, so its messages are turned off. The
    total loss is reported at the end of the run.
    """
    logged = count()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("telemetry is not delivered, traffic continues: %(message)s"))
    handler.addFilter(lambda _: next(logged) == 0)
    logging.getLogger("modeltrace.exporter").addHandler(handler)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    resource = build_resource(settings.service_name, version("modeltrace"), workers=1, default_name=SERVICE_NAME)
    return build_sdk_provider(settings, resource)


def build_traced_client(
    url: str, telemetry: Telemetry, connections: int, headers: Mapping[str, str], verify: SSLContext
) -> httpx.AsyncClient:
    """Return a client that records a CLIENT span per request and propagates its context (W3C Trace Context)."""
    limits = httpx.Limits(max_connections=connections, keepalive_expiry=KEEP_ALIVE_SECONDS)
    transport = AsyncOpenTelemetryTransport(
        httpx.AsyncHTTPTransport(limits=limits, verify=verify),
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        request_hook=_name_span,
    )
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=REQUEST_TIMEOUT, headers=headers)


async def _name_span(span: Span, request: RequestInfo) -> None:
    """Name the span by method and path. The few paths of the service keep the number of names small."""
    path = httpx.URL(str(request.url)).path
    span.update_name(f"{request.method.decode()} {path}")
    span.set_attribute(URL_TEMPLATE, path)
