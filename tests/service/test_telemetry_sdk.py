"""When the SDK records predictions instead of the sidecar path."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricsData

from modeltrace.otel_env.table import SIGNALS
from modeltrace.otel_settings import read_otel_settings
from modeltrace.settings import read_settings
from modeltrace.telemetry.export.sidecar_provider import SDK_ONLY_VARIABLES, requires_sdk
from modeltrace.telemetry.sdk.counting_exporters import build_exporters
from tests.helpers.processes import free_port
from tests.helpers.receivers import otlp_http


def test_the_sidecar_is_the_default() -> None:
    """Without a setting, the SDK is not required."""
    assert requires_sdk(read_settings()) is None


def test_a_setting_selects_the_sdk() -> None:
    """`MODELTRACE_INSTRUMENTATION=sdk` selects the SDK."""
    assert requires_sdk(read_settings(instrumentation="sdk")) == "MODELTRACE_INSTRUMENTATION"


@pytest.mark.parametrize("name", SDK_ONLY_VARIABLES)
def test_variables_that_only_the_sdk_implements_select_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With such a variable the SDK is used, so that each variable of OpenTelemetry has its effect."""
    monkeypatch.setenv(name, "1")

    assert requires_sdk(read_settings()) == name


@pytest.mark.parametrize("signal", ["TRACES", "METRICS", "LOGS"])
def test_console_exporters_select_the_sdk(monkeypatch: pytest.MonkeyPatch, signal: str) -> None:
    """Console exporters print objects of the SDK, so they need the SDK path."""
    monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "console")

    assert requires_sdk(read_settings()) is not None


def test_each_signal_has_its_own_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signal has the protocol of its own variable, and all exporters of its list."""
    otel = read_otel_settings(
        {
            "OTEL_TRACES_EXPORTER": "otlp,console",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            "OTEL_LOGS_EXPORTER": "none",
        }
    )
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    meters = MeterProvider()
    kinds = [
        [type(exporter).__module__.rpartition("otlp.proto.")[2] for exporter in exporters]
        for exporters in (build_exporters(otel, signal, meters) for signal in SIGNALS)
    ]

    assert kinds == [["grpc.trace_exporter", "opentelemetry.sdk.trace.export"], ["http.metric_exporter"], []]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_failed_export_of_the_sdk_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """One line has address, reason and remedy; another one reports that exports succeed again."""
    port = free_port()
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "500",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (exporter,) = build_exporters(read_otel_settings(environ), "metrics")
    for _ in range(2):
        exporter.export(MetricsData([]))
    first = f"OTLP metrics cannot be delivered to http://127.0.0.1:{port}"
    lines = [record.getMessage() for record in caplog.records if record.name == "modeltrace.exporter"]
    assert len(lines) == 1
    assert lines[0].startswith(first)
    assert lines[0].endswith("Start the OTLP receiver there, or correct OTEL_EXPORTER_OTLP_ENDPOINT")

    if protocol == "http/protobuf":  # the gRPC channel of the SDK has its own schedule of retries
        with otlp_http(port):
            exporter.export(MetricsData([]))
        assert caplog.records[-1].getMessage() == "OTLP metrics delivered again"
