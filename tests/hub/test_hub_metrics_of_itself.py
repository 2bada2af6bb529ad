"""The metrics of the hub: scraped by Prometheus, and exported as OTLP to another receiver."""

import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from modeltrace_hub.hub_metrics.definitions import collect_metrics
from modeltrace_hub.hub_metrics.otlp_export import start_export
from modeltrace_hub.settings import HubSettings
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import span, trace_request

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def send(hub: InProcessHub) -> None:
    """Send two spans, one of them invalid, and a request that cannot be decoded."""
    body = trace_request(span(), span(trace_id=b"short")).SerializeToString()
    hub.client.post("/v1/traces", content=body, headers=PROTOBUF).raise_for_status()
    assert hub.client.post("/v1/logs", content=b"notes", headers={"Content-Type": "text/plain"}).status_code == 415


def samples(hub: InProcessHub) -> dict[tuple[str, Any], float]:
    """Return the samples of a scrape by name and labels."""
    response = httpx.get(f"{hub.page_url}/internal/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.text)
    return {(item.name, frozenset(item.labels.items())): item.value for family in families for item in family.samples}


def label(**labels: str) -> frozenset[tuple[str, str]]:
    """Return labels as a key."""
    return frozenset(labels.items())


def test_prometheus_scrapes_the_metrics() -> None:
    """Counts are those of what was sent."""
    with in_process_hub() as hub:
        send(hub)
        found = samples(hub)
    assert found["modeltrace_hub_records_received_total", label(signal="traces")] == 2
    assert found["modeltrace_hub_records_stored_total", label(signal="traces")] == 1
    assert found["modeltrace_hub_records_rejected_total", label(signal="traces", reason="trace_id")] == 1
    assert found["modeltrace_hub_requests_failed_total", label(signal="logs", error_type="unsupported")] == 1
    assert found["modeltrace_hub_queue_rows", label()] == 0
    assert found["modeltrace_hub_storage_size_bytes", label()] >= 0


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_another_receiver_gets_the_metrics(protocol: str) -> None:
    """Names, units, types and values arrive."""
    with in_process_hub() as receiver, in_process_hub() as hub:
        send(hub)
        port = receiver.settings.grpc_port if protocol == "grpc" else receiver.settings.http_port
        stop = start_export(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol},
            hub.settings,
            lambda: collect_metrics(hub.store, hub.writer),
        )
        assert stop is not None
        stop()  # exports once more
        points = receiver.rows(
            "SELECT type, unit, value, service_name, is_monotonic FROM metric_points "
            "WHERE name = 'modeltrace.hub.records.stored' AND attributes ->> 'signal' = 'traces'"
        )
    assert points == [("sum", "{record}", 1.0, "modeltrace-hub", True)]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318/"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.8.8.8:4318/v1/metrics"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere:4318", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_nothing_is_exported_to_the_hub_itself(environ: Mapping[str, str]) -> None:
    """Nothing is exported without an endpoint, with the hub's own endpoint, or if the variables disable the export."""
    settings = HubSettings(port=4319, http_port=4318, grpc_port=4317)
    assert start_export(environ, settings, lambda: ()) is None


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "elsewhere:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere:port"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere:4318", "OTEL_METRIC_EXPORT_INTERVAL": "often"},
    ],
)
def test_invalid_variables_are_warnings(environ: Mapping[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """The variables are often meant for other programs, so the hub starts. The warning names the variable."""
    assert start_export(environ, HubSettings(), lambda: ()) is None
    assert "OTEL_" in caplog.text


def test_traces_link_to_other_backends() -> None:
    """The page links to Jaeger, to Loki in Grafana and to Prometheus, with the trace ID, the time and the service."""
    start = time.time_ns()
    item = span(trace_id=b"\xab" * 16, start_time_unix_nano=start, end_time_unix_nano=start + 10**9)
    settings = {
        "jaeger_url": "http://jaeger:16686/ui/",
        "grafana_url": "http://grafana",
        "prometheus_url": "http://prom",
    }
    with in_process_hub(**settings) as hub:
        hub.client.post("/v1/traces", content=trace_request(item).SerializeToString(), headers=PROTOBUF)
        page = httpx.get(f"{hub.page_url}/t/{'ab' * 16}").text
    assert f'href="http://jaeger:16686/ui/trace/{"ab" * 16}"' in page
    assert "http://grafana/explore?schemaVersion=1&amp;panes=%7B%22trace%22" in page
    assert f"trace_id%3D%5C%22{'ab' * 16}%5C%22" in page
    assert "http://prom/query?g0.expr=histogram_quantile" in page
    assert "svc" in page.split("http://prom/query")[1].split('"')[0]


def test_without_addresses_there_are_no_links() -> None:
    """The page has no links without addresses, and an invalid address is rejected."""
    with in_process_hub() as hub:
        hub.client.post(
            "/v1/traces", content=trace_request(span(trace_id=b"\xab" * 16)).SerializeToString(), headers=PROTOBUF
        )
        assert "in Grafana" not in httpx.get(f"{hub.page_url}/t/{'ab' * 16}").text
    with pytest.raises(ValueError, match="write http://HOST:PORT"):
        HubSettings(jaeger_url="javascript:alert(1)")
