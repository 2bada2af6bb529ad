"""When the stock set-up tells predictions instead of records."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricsData

from modeltrace.settings import read_otel_settings, read_settings
from modeltrace.telemetry.export.provider import SDK_ONLY_VARIABLES, requires_sdk
from modeltrace.telemetry.sdk.exporters import ExporterBuilder
from tests.helpers.processes import free_port
from tests.helpers.receivers import otlp_http


def test_records_are_the_default() -> None:
    """Nothing but a wish for more leads away from them."""
    assert requires_sdk(read_settings()) is None


def test_a_setting_switches_back() -> None:
    """`MODELTRACE_INSTRUMENTATION=sdk` is all it takes."""
    assert requires_sdk(read_settings(instrumentation="sdk")) == "MODELTRACE_INSTRUMENTATION"


@pytest.mark.parametrize("name", SDK_ONLY_VARIABLES)
def test_what_only_the_stock_set_up_can_do_switches_to_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable of OpenTelemetry's keeps its meaning."""
    monkeypatch.setenv(name, "1")

    assert requires_sdk(read_settings()) == name


@pytest.mark.parametrize("signal", ["TRACES", "METRICS", "LOGS"])
def test_the_console_is_the_sdks(monkeypatch: pytest.MonkeyPatch, signal: str) -> None:
    """What goes to the console is made of the SDK's objects."""
    monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "console")

    assert requires_sdk(read_settings()) is not None


def test_signals_go_their_own_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its protocol, and to the console, too, where a list says so."""
    otel = read_otel_settings(
        {
            "OTEL_TRACES_EXPORTER": "otlp,console",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            "OTEL_LOGS_EXPORTER": "none",
        }
    )
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    builder, meters = ExporterBuilder(otel), MeterProvider()
    kinds = [
        [type(exporter).__module__.rpartition("otlp.proto.")[2] for exporter in exporters]
        for exporters in (builder.spans(meters), builder.metrics(), builder.logs(meters))
    ]

    assert kinds == [["grpc.trace_exporter", "opentelemetry.sdk.trace.export"], ["http.metric_exporter"], []]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_failure_of_the_sdk_is_explained_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """One line says where, why and what to do; another one that it is over."""
    port = free_port()
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "500",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (exporter,) = ExporterBuilder(read_otel_settings(environ)).metrics()
    for _ in range(2):
        exporter.export(MetricsData([]))
    first = f"OTLP metrics cannot be delivered to http://127.0.0.1:{port}"
    lines = [record.getMessage() for record in caplog.records if record.name == "modeltrace.exporter"]
    assert len(lines) == 1
    assert lines[0].startswith(first)
    assert lines[0].endswith("Start the OTLP receiver there, or correct OTEL_EXPORTER_OTLP_ENDPOINT")

    if protocol == "http/protobuf":  # the SDK's channel of gRPC waits by a schedule of its own
        with otlp_http(port):
            exporter.export(MetricsData([]))
        assert caplog.records[-1].getMessage() == "OTLP metrics delivered again"
