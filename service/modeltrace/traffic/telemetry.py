"""Telemetry of the client: spans of its own, in the same traces as the service's."""

import logging
from collections.abc import Mapping
from importlib.metadata import version
from itertools import count

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport, RequestInfo
from opentelemetry.semconv._incubating.attributes.url_attributes import URL_TEMPLATE
from opentelemetry.trace import Span

from modeltrace.settings import OtelSettings
from modeltrace.telemetry.provider import Telemetry
from modeltrace.telemetry.resource import build_resource
from modeltrace.telemetry.sdk.provider import build_sdk_provider

SERVICE_NAME = "modeltrace-traffic"
# Seconds: for one answer, and for the last flush of telemetry.
REQUEST_TIMEOUT = 30.0
FLUSH_TIMEOUT = 2.0
# Seconds that a connection may be idle: less than servers allow, or a request meets one just closed.
KEEP_ALIVE_SECONDS = 2.0


def build_traffic_telemetry(settings: OtelSettings) -> Telemetry:
    """Telemetry of the client, apart from the service's: its own name unless the environment gives one.

    That nobody listens is said once on stderr, and not by the SDK, which says it at every export; how much was lost in
    all is known at the end.
    """
    said = count()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("telemetry is not delivered, traffic goes on: %(message)s"))
    handler.addFilter(lambda _: next(said) == 0)
    logging.getLogger("modeltrace.exporter").addHandler(handler)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    resource = build_resource(settings.service_name, version("modeltrace"), workers=1, default_name=SERVICE_NAME)
    return build_sdk_provider(settings, resource)


def build_traced_client(
    url: str, telemetry: Telemetry, connections: int, headers: Mapping[str, str]
) -> httpx.AsyncClient:
    """A client that makes a CLIENT span a request and passes its context on (W3C)."""
    transport = AsyncOpenTelemetryTransport(
        httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=connections, keepalive_expiry=KEEP_ALIVE_SECONDS)),
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        request_hook=_name_span,
    )
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=REQUEST_TIMEOUT, headers=headers)


async def _name_span(span: Span, request: RequestInfo) -> None:
    """Name the span by method and path: our paths are few, which the instrumentation cannot know."""
    path = httpx.URL(str(request.url)).path
    span.update_name(f"{request.method.decode()} {path}")
    span.set_attribute(URL_TEMPLATE, path)
