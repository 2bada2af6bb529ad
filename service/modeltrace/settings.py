"""The service's settings: one frozen object, read once from the environment and handed down.

OpenTelemetry's own variables mean what its specification says; `modeltrace.otel_env` reads them. Those that the SDK
reads by
itself (sampler, queue sizes, export intervals, resource attributes) are left to it; `OtelSettings` holds the few that
decide which exporters are built. docs/settings.md lists every one; a test holds the two together.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from modeltrace.errors import SettingsError
from modeltrace.http_settings import MIN_KEY_LENGTH, CommaSeparated, HttpSettings, split_list
from modeltrace.otel_env.table import SIGNALS, Signal
from modeltrace.otel_env.variables import Variables, read_variables
from modeltrace.printable import validation_message

Protocol = Literal["http/protobuf", "grpc"]


def data_dir() -> Path:
    """The user's data folder: bundles, keys and the hub's database live below it."""
    return platformdirs.user_data_path("modeltrace")


class OtelSettings(BaseModel):
    """What OpenTelemetry's variables say of where telemetry goes.

    `variables` holds all of them as they were read; `endpoint`, `protocol` and `timeout` are those of all signals.
    """

    model_config = ConfigDict(frozen=True)

    variables: Variables = Variables({}, ())
    sdk_disabled: bool = False
    service_name: str | None = None
    traces_exporter: tuple[str, ...] = ("otlp",)
    metrics_exporter: tuple[str, ...] = ("otlp", "prometheus")
    logs_exporter: tuple[str, ...] = ("otlp",)
    protocol: Protocol = "http/protobuf"
    endpoint: str | None = None
    timeout: int = 2000

    def exporters_for(self, signal: Signal) -> tuple[str, ...]:
        """Where a signal goes."""
        chosen = {"traces": self.traces_exporter, "metrics": self.metrics_exporter, "logs": self.logs_exporter}
        return chosen[signal]

    def otlp_signals(self) -> tuple[Signal, ...]:
        """The signals that go over OTLP."""
        return () if self.sdk_disabled else tuple(signal for signal in SIGNALS if "otlp" in self.exporters_for(signal))

    def protocol_for(self, signal: Signal) -> Protocol:
        """The protocol of a signal."""
        return "grpc" if (self.variables.option(signal, "PROTOCOL") or self.protocol) == "grpc" else "http/protobuf"

    def timeout_for(self, signal: Signal) -> float:
        """The seconds that one attempt of a signal may take."""
        return int(self.variables.option(signal, "TIMEOUT") or self.timeout) / 1000


def read_otel_settings(environ: Mapping[str, str] = os.environ) -> OtelSettings:
    """Read OpenTelemetry's variables.

    Raises:
        SettingsError: a value is refused.
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
    given = {field: variables.values[name] for field, name in fields.items() if name in variables.values}
    lists = {field: split_list(value) for field, value in given.items() if field.endswith("_exporter")}
    return OtelSettings.model_validate({**given, **lists, "variables": variables})


class Settings(HttpSettings):
    """The service's own settings. Environment variables have the prefix `MODELTRACE_`."""

    bundle: str | None = Field(
        None,
        description="The bundle to serve: its folder, a folder of bundles (with or without `@VERSION`), or a model of "
        "an MLflow registry, `models:/NAME@ALIAS` or `models:/NAME/NUMBER`.",
    )
    expect_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the bundle's `model.json`, which pins all of it; any other bundle is refused.",
    )
    reload_interval: float = Field(
        5.0,
        ge=0,
        description="Seconds between two looks at whether the source means another bundle by now, which then takes "
        "over while the service runs; 0: only at SIGHUP.",
    )
    challenger: str | None = Field(
        None,
        description="Another version beside the one that answers: its bundle, as in `MODELTRACE_BUNDLE`, or, with "
        "`shadow`, the address of another service: `http://…`.",
    )
    challenger_mode: Literal["shadow", "split"] = Field(
        "shadow",
        description="`shadow`: it sees what was answered, and what it says is only recorded; `split`: it answers.",
    )
    challenger_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The share of requests that it sees or answers, 0 to 1; unset: 1 with `shadow`, 0.1 with `split`.",
    )
    challenger_key: str | None = Field(
        None,
        description="The request header whose value decides which requests these are (`x-user-id`); unset, or without "
        "that header: the trace ID.",
    )
    challenger_api_key: SecretStr | None = Field(
        None, description="The API key of a challenger that is another service; unset: none is sent."
    )
    trust_pickle: bool = Field(
        default=False,
        description="Load joblib and pickle artifacts, which can run any code: only your own.",
    )
    trusted_types: CommaSeparated = Field(
        (), description="Types beyond scikit-learn's own that a skops artifact may hold, e.g. `mylib.steps.Clip`."
    )
    engine: Literal["sklearn", "onnx"] = Field(
        "sklearn",
        description="What answers: scikit-learn, or ONNX Runtime (the extra `onnx`) for a bundle packed with `--onnx`.",
    )

    inference_threads: int = Field(4, ge=1, le=256, description="Requests that a worker puts to the model at a time.")
    inline_threshold: float = Field(
        0.002,
        ge=0,
        description="A model that only computes, and answers one row in less, is asked on the event loop; others, and "
        "with 0 all, on a thread.",
    )
    batching: bool = Field(
        default=False, description="Requests that are there at the same time share one call of the model."
    )
    max_batch_requests: int = Field(64, ge=2, description="The most requests that share a call.")
    max_queue_size: int = Field(
        1024, ge=1, description="Requests that may wait for the model before the answer is 503."
    )
    max_batch_rows: int = Field(
        20_000, ge=1, description="A batch of more rows, or a list of more labels, is answered with 413."
    )
    drain_timeout: float = Field(2.0, ge=0, description="Seconds that requests in flight may take to finish at a stop.")
    flush_timeout: float = Field(2.0, ge=0, description="Seconds that telemetry may take to flush at a stop.")

    instrumentation: Literal["sidecar", "sdk"] = Field(
        "sidecar",
        description="`sidecar`: a sidecar process beside each worker encodes and exports the telemetry of predictions; "
        "`sdk`: OpenTelemetry's SDK and its FastAPI instrumentation record it while the request waits.",
    )
    spool_dir: Path | None = Field(
        None,
        description="The folder that keeps telemetry which cannot be delivered; unset: one in the user's data folder.",
    )
    spool_max_bytes: int = Field(
        256 * 2**20,
        ge=0,
        description="The most that a worker keeps there; 0 keeps it in memory, up to "
        "`MODELTRACE_EXPORT_QUEUE_MAX_BYTES` a signal.",
    )
    export_queue_max_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        description="The most telemetry that waits in memory: in a worker until its sidecar has delivered it or put it "
        "on disk, and in the sidecar for each signal.",
    )

    store: SecretStr | None = Field(
        None,
        description="Where every answered prediction is kept: a path, `postgresql+psycopg://…`, or `none`; unset: "
        "`predictions.db` in the user's data folder.",
    )
    store_retention_days: float = Field(
        30, ge=0, description="Predictions older than this are deleted; 0 keeps them for good."
    )
    store_max_bytes: int = Field(
        8 * 2**30, ge=0, description="SQLite only: above this size the oldest are deleted; 0 sets no limit."
    )

    evaluation_interval: float = Field(
        60,
        ge=0,
        description="Seconds until one of all workers and replicas computes accuracy and the like anew; 0: never.",
    )
    evaluation_window_hours: float = Field(
        168, gt=0, description="Hours, by the time of prediction, that these figures are about."
    )
    evaluation_tolerance: float | None = Field(
        None,
        ge=0,
        description="Regressors only: what is further off counts as an error in the search for concept drift; unset: "
        "none is searched for.",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The lowest level logged.")
    log_file: Path | None = Field(None, description="A file that gets the JSON log lines too; it rotates.")
    log_file_max_bytes: int = Field(64 * 2**20, ge=4096, description="The size at which the log file rotates.")
    log_file_backup_count: int = Field(3, ge=0, description="Rotated log files that are kept.")

    id_key: SecretStr | None = Field(
        None,
        min_length=MIN_KEY_LENGTH,
        description="The secret that signs prediction IDs, the same for every replica; unset: one kept in the user's "
        "data folder.",
    )

    otel: OtelSettings = Field(
        default_factory=read_otel_settings, exclude=True, description="OpenTelemetry's variables."
    )

    def bundle_source(self) -> str:
        """Where the bundle to serve comes from, as `modeltrace.bundles.registry` reads it.

        Raises:
            SettingsError: none was named.
        """
        if self.bundle is None:
            raise SettingsError("no bundle to serve: name its folder, or set MODELTRACE_BUNDLE")
        return self.bundle

    def remote_challenger_url(self) -> str | None:
        """The address of a challenger that is another service.

        Raises:
            SettingsError: it cannot answer a share: what divides requests between services stands before them.
        """
        if self.challenger is None or not self.challenger.startswith(("http://", "https://")):
            return None
        if self.challenger_mode == "split":
            raise SettingsError(
                "MODELTRACE_CHALLENGER_MODE=split needs a bundle as MODELTRACE_CHALLENGER: between two services a load "
                "balancer divides requests"
            )
        return self.challenger

    def effective_challenger_share(self) -> float:
        """The share of requests that are the challenger's."""
        if self.challenger_share is None:
            return 1.0 if self.challenger_mode == "shadow" else 0.1
        return self.challenger_share

    def store_url(self) -> str | None:
        """Where predictions are kept, a path or a URL that may hold a password; `None`: nowhere."""
        said = self.store.get_secret_value() if self.store else str(data_dir() / "predictions.db")
        return None if said == "none" else said


def read_settings(**overrides: Any) -> Settings:  # noqa: ANN401  values are validated by the model
    """Read the environment once; `overrides` (what the command line says) win over it, `None` says nothing.

    Raises:
        SettingsError: a value does not make sense; the message names the variable.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(format_validation_error(error, prefix="MODELTRACE_")) from None


def format_validation_error(error: ValidationError, prefix: str) -> str:
    """Say which variable is wrong and why, without repeating its value, which may be secret."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = str(item["loc"][0]) if item["loc"] else "settings"
        lines.append(f"{name if name.isupper() else prefix + name.upper()}: {validation_message(item['msg'])}")
    return "; ".join(lines)
