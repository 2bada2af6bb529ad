"""OpenTelemetry's variables that select the exporters, read once from the environment.

`modeltrace.otel_env` reads all variables as the specification defines them.
"""

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from modeltrace.http_settings import split_list
from modeltrace.otel_env.environment import Variables, read_variables
from modeltrace.otel_env.table import SIGNALS, OtlpProtocol, Signal


class OtelSettings(BaseModel):
    """OpenTelemetry's variables that select the exporters.

    `variables` contains all variables as they were read. `protocol`, `endpoint` and `timeout` (milliseconds) apply to
    signals without their own setting.
    """

    model_config = ConfigDict(frozen=True)

    variables: Variables = Variables({}, ())
    sdk_disabled: bool = False
    service_name: str | None = None
    traces_exporter: tuple[str, ...] = ("otlp",)
    metrics_exporter: tuple[str, ...] = ("otlp", "prometheus")
    logs_exporter: tuple[str, ...] = ("otlp",)
    protocol: OtlpProtocol = "http/protobuf"
    endpoint: str | None = None
    timeout: int = 2000

    def exporters_for(self, signal: Signal) -> tuple[str, ...]:
        """Return the names of a signal's exporters."""
        exporters = {"traces": self.traces_exporter, "metrics": self.metrics_exporter, "logs": self.logs_exporter}
        return exporters[signal]

    def otlp_signals(self) -> tuple[Signal, ...]:
        """Return the signals that are exported over OTLP."""
        return () if self.sdk_disabled else tuple(signal for signal in SIGNALS if "otlp" in self.exporters_for(signal))

    def protocol_for(self, signal: Signal) -> OtlpProtocol:
        """Return the OTLP protocol of a signal."""
        return "grpc" if (self.variables.option(signal, "PROTOCOL") or self.protocol) == "grpc" else "http/protobuf"

    def timeout_for(self, signal: Signal) -> float:
        """Return the seconds that one export attempt of a signal may take."""
        return int(self.variables.option(signal, "TIMEOUT") or self.timeout) / 1000


def read_otel_settings(environ: Mapping[str, str] = os.environ) -> OtelSettings:
    """Read OpenTelemetry's variables.

    Raises:
        SettingsError: a value is invalid.
    """
    variables = read_variables(environ)
    fields = {
        "sdk_disabled": "OTEL_SDK_DISABLED",
        "service_name": "OTEL_SERVICE_NAME",
        "traces_exporter": "OTEL_TRACES_EXPORTER",
        "metrics_exporter": "OTEL_METRICS_EXPORTER",
        "logs_exporter": "OTEL_LOGS_EXPORTER",
        "protocol": "OTEL_EXPORTER_OTLP_PROTOCOL",
        "endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
        "timeout": "OTEL_EXPORTER_OTLP_TIMEOUT",
    }
    values = {field: variables.values[name] for field, name in fields.items() if name in variables.values}
    lists = {field: split_list(value) for field, value in values.items() if field.endswith("_exporter")}
    return OtelSettings.model_validate({**values, **lists, "variables": variables})
