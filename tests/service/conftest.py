"""The service in this process, with the real SDK and in-memory exporters."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from modeltrace.app import create_app
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.example import build_example
from modeltrace.inference.model import Model
from modeltrace.settings import Settings, read_settings
from modeltrace.telemetry.logging import PREDICTION_LOGGER, export_logs
from modeltrace.telemetry.metrics.views import build_views
from modeltrace.telemetry.providers import Telemetry
from tests.helpers.bundles import held_out_rows
from tests.helpers.in_process_services import SdkService, records_service
from tests.helpers.services import ID_KEY


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's settings from the environment of each test."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "MODELTRACE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example bundle."""
    return build_example(tmp_path_factory.mktemp("bundles") / "example")


@pytest.fixture(scope="session")
def model(example: Path) -> Model:
    """The example model."""
    return load_bundle(example)


@pytest.fixture(scope="session")
def rows(example: Path) -> list[dict[str, float]]:
    """The example's test rows."""
    return held_out_rows(example)


@pytest.fixture
def settings() -> Settings:
    """The default settings, with a fixed signing key and without a prediction store."""
    return read_settings(id_key=ID_KEY, store="none")


@pytest.fixture
def record(settings: Settings) -> Iterator[Callable[..., SdkService]]:
    """Return a function that starts the service with a model; all services are stopped after the test."""
    root, predictions = logging.getLogger(), logging.getLogger(PREDICTION_LOGGER)
    handlers, prediction_handlers, level = root.handlers[:], predictions.handlers[:], root.level
    clients: list[TestClient] = []

    def start(model: Model, challenger_model: Model | None = None, **changes: Any) -> SdkService:
        span_exporter, log_exporter, reader = (
            InMemorySpanExporter(),
            InMemoryLogRecordExporter(),
            InMemoryMetricReader(),
        )
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(span_exporter))
        meters = MeterProvider([reader], views=build_views(), shutdown_on_exit=False)
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
        root.setLevel("INFO")
        export_logs(loggers, loggers)
        app = create_app(
            settings.model_copy(update=changes),
            model,
            Telemetry(tracers, meters, loggers, loggers, enabled=True),
            challenger=challenger_model,
        )
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return SdkService(client, span_exporter, log_exporter, reader)

    yield start
    for client in clients:
        client.__exit__(None, None, None)
    root.handlers[:] = handlers
    predictions.handlers[:] = prediction_handlers
    root.setLevel(level)


@pytest.fixture
def service(record: Callable[..., SdkService], model: Model) -> SdkService:
    """The service around the example model."""
    return record(model)


@pytest.fixture(scope="module")
def app(model: Model) -> Iterator[Any]:
    """The application without access control."""
    with records_service(model) as service:
        yield service.client.app
