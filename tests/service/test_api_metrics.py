"""`/metrics`: Prometheus text, or 501."""

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from modeltrace.app import create_app
from modeltrace.inference.model import Model
from modeltrace.settings import Settings
from modeltrace.telemetry.metrics.views import build_views
from modeltrace.telemetry.providers import Telemetry
from tests.helpers.in_process_services import SdkService


@pytest.mark.slow
def test_metrics_are_prometheus_text(settings: Settings, model: Model, rows: list[dict[str, float]]) -> None:
    """The instruments that are exported over OTLP, in a format that the Prometheus parser reads."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)], views=build_views(), shutdown_on_exit=False)
    app = create_app(settings, model, Telemetry(meter_provider=meters, enabled=True), registry=registry)
    with TestClient(app) as client:
        client.post("/predict/batch", json={"rows": rows[:7]})
        answer = client.get("/metrics")

    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert answer.headers["content-type"].startswith("text/plain")
    assert sum(sample.value for sample in families["ml_predictions"].samples) == 7
    assert {"http_server_request_duration_seconds", "ml_inference_duration_seconds"} <= set(families)


def test_disabled_metrics_are_501(service: SdkService) -> None:
    """Without the Prometheus exporter, the message says how to enable it."""
    answer = service.client.get("/metrics")

    assert answer.status_code == 501
    assert "OTEL_METRICS_EXPORTER" in answer.json()["error"]["message"]
