"""`/metrics` shows metrics of the SDK and metrics of records."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.metrics.readers import PrometheusReader
from tests.helpers.factories import request_record

DURATION = "http.server.request.duration"


def test_every_value_has_its_own_label() -> None:
    """A request without a route, measured by the SDK, and one counted from its record, are shown correctly."""
    registry, resource = CollectorRegistry(), Resource({})
    metrics = PredictionMetrics(exemplar_filter="trace_based")
    reader = PrometheusReader(registry=registry).with_sources([metrics], resource, InstrumentationScope("modeltrace"))
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    other = {"http.request.method": "GET", "http.response.status_code": 404, "url.scheme": "http"}
    meters.get_meter("another scope").create_histogram(DURATION, "s", "Duration of HTTP server requests.").record(
        0.1, other
    )
    _, request = request_record()
    metrics.add([request])

    families = text_string_to_metric_families(generate_latest(registry).decode())
    (family,) = [family for family in families if family.name == "http_server_request_duration_seconds"]
    counts = [sample.labels for sample in family.samples if sample.name.endswith("_count")]

    shown = {
        (labels["otel_scope_name"], labels["http_route"], labels["http_response_status_code"]) for labels in counts
    }
    assert shown == {("another scope", "", "404"), ("modeltrace", request.route, str(request.status))}
