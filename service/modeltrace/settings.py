"""The service's settings: one frozen object, read once from the environment and passed down.

`modeltrace.otel_env` reads OpenTelemetry's own variables as the specification defines them. The SDK reads some of them
itself (sampler, queue sizes, export intervals, resource attributes); `modeltrace.otel_settings` has those that select
the exporters. docs/settings.md lists all settings; a test compares it with this module.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, ValidationError

from modeltrace.errors import SettingsError
from modeltrace.http_settings import MIN_KEY_LENGTH, CommaSeparated, HttpSettings
from modeltrace.onnx_providers import CPU_PROVIDER, NVIDIA_PROVIDERS
from modeltrace.otel_settings import OtelSettings, read_otel_settings
from modeltrace.printable import validation_message
from modeltrace.tag_names import check_tag_names


def data_dir() -> Path:
    """Return the user's data folder, which contains bundles, keys and the hub's database."""
    return platformdirs.user_data_path("modeltrace")


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
        description="SHA-256 of the bundle's `model.json`, which pins the whole bundle; any other bundle is rejected.",
    )
    reload_interval: float = Field(
        5.0,
        ge=0,
        description="Seconds between two checks for a new version in the source, which then replaces the current one "
        "while the service runs; 0: check at the start and at SIGHUP only.",
    )
    challenger: str | None = Field(
        None,
        description="A second version to compare: its bundle, as in `MODELTRACE_BUNDLE`, or, with `shadow`, the "
        "address of another service: `http://…`.",
    )
    challenger_mode: Literal["shadow", "split"] = Field(
        "shadow",
        description="`shadow`: it predicts requests that were answered, and its predictions are only recorded; "
        "`split`: it answers a share of the requests.",
    )
    challenger_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The share of requests for the challenger, 0 to 1; unset: 1 with `shadow`, 0.1 with `split`.",
    )
    challenger_key: str | None = Field(
        None,
        description="The request header whose value selects these requests (e.g. `x-user-id`); unset, or without that "
        "header: the trace ID.",
    )
    challenger_api_key: SecretStr | None = Field(
        None, description="The API key of a challenger that is another service; unset: no key is sent."
    )
    trust_pickle: bool = Field(
        default=False, description="Load joblib and pickle artifacts, which can run any code. Only for your own."
    )
    trust_code: bool = Field(
        default=False, description="Import the modules in a bundle (`pack --code`), which can run any code."
    )
    trusted_types: CommaSeparated = Field(
        (), description="Types beyond scikit-learn's own that a skops artifact may contain, e.g. `mylib.steps.Clip`."
    )
    engine: Literal["sklearn", "onnx"] = Field(
        "sklearn",
        description="scikit-learn, or ONNX Runtime (the extra `onnx`) for a bundle packed with `--onnx`.",
    )
    onnx_providers: CommaSeparated = Field(
        (CPU_PROVIDER,),
        min_length=1,
        description="The execution providers of ONNX Runtime, the preferred first, e.g. `CUDAExecutionProvider`: see "
        "[GPUs](bundles.md#gpus).",
    )
    gpu_metrics: bool | None = Field(
        None,
        description="Report the NVIDIA GPUs of the host as `hw.gpu.*`, with the extra `gpu`; unset: if ONNX Runtime "
        "computes with them.",
    )

    inference_threads: int = Field(4, ge=1, le=256, description="Requests that a worker predicts at the same time.")
    inline_threshold: float = Field(
        0.002,
        ge=0,
        description="Seconds; a model that predicts one row faster, and only computes, runs on the event loop. Other "
        "models run on a thread; 0: all models.",
    )
    probabilities: Literal["on_request", "always", "never"] = Field(
        "on_request",
        description="Whether responses of classifiers have `probabilities`, by class: if the request has "
        "`?probabilities=true`; always, except with `?probabilities=false`; or never, for models with many classes.",
    )
    tags: Annotated[CommaSeparated, AfterValidator(check_tag_names)] = Field(
        (),
        description="Names of tags that requests may have, e.g. `country,channel`: at most 16, each with up to 32 "
        "lower-case letters, digits and `_`.",
    )
    batching: bool = Field(default=False, description="Combine concurrent requests into one model call.")
    max_batch_requests: int = Field(64, ge=2, description="The most requests that share a model call.")
    max_queue_size: int = Field(
        1024, ge=1, description="Requests that may wait for the model; further requests are answered with 503."
    )
    max_batch_rows: int = Field(
        20_000, ge=1, description="The most rows of a batch, and labels of a list; larger ones are answered with 413."
    )
    drain_timeout: float = Field(2.0, ge=0, description="Seconds that running requests may take to finish at shutdown.")
    flush_timeout: float = Field(2.0, ge=0, description="Seconds that telemetry may take to flush at shutdown.")

    instrumentation: Literal["sidecar", "sdk"] = Field(
        "sidecar",
        description="`sidecar`: a sidecar process of each worker encodes and exports the telemetry of predictions; "
        "`sdk`: OpenTelemetry's SDK and its FastAPI instrumentation record it while the request waits.",
    )
    spool_dir: Path | None = Field(
        None,
        description="The folder that stores telemetry which cannot be delivered; unset: `spool` in the user's data "
        "folder.",
    )
    spool_max_bytes: int = Field(
        256 * 2**20,
        ge=0,
        description="The most bytes of each worker in this folder; 0: keep telemetry in memory, up to "
        "`MODELTRACE_EXPORT_QUEUE_MAX_BYTES` per signal.",
    )
    export_queue_max_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        description="The most bytes of telemetry that wait in memory: in each worker until the sidecar has delivered "
        "or stored them, and in the sidecar per signal.",
    )

    store: SecretStr | None = Field(
        None,
        description="The prediction store: a path, `postgresql+psycopg://…`, or `none`; unset: `predictions.db` in "
        "the user's data folder.",
    )
    store_retention_days: float = Field(30, ge=0, description="Predictions older than this are deleted; 0: keep all.")
    store_max_bytes: int = Field(
        8 * 2**30, ge=0, description="SQLite only: above this size the oldest predictions are deleted; 0: no limit."
    )
    store_max_classes: int = Field(
        32, ge=0, le=1000, description="The most classes of a model whose probabilities are stored; 0: never."
    )
    store_intervals: bool = Field(
        default=True,
        description="Compute and store the prediction interval of each prediction of a regressor; `false`: only of "
        "requests that ask for it, which is faster with quantile models and predicted standard deviations.",
    )

    evaluation_interval: float = Field(
        60,
        ge=0,
        description="Seconds between two evaluations (accuracy and other metrics), which one of all workers and "
        "replicas computes; 0: never.",
    )
    evaluation_window_hours: float = Field(
        168, gt=0, description="Hours, by the time of prediction, that an evaluation covers."
    )
    evaluation_expected_hours: float = Field(
        0,
        ge=0,
        description="Hours before now of whose newest 20,000 predictions the accuracy is estimated without labels; "
        "0: no estimate.",
    )
    evaluation_tolerance: float | None = Field(
        None,
        ge=0,
        description="Regressors only: a larger absolute error counts as an error in concept drift detection; unset: "
        "the size of the errors is observed.",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The lowest level logged.")
    log_file: Path | None = Field(None, description="A rotating file for the JSON log lines, in addition to stdout.")
    log_file_max_bytes: int = Field(64 * 2**20, ge=4096, description="The size at which the log file rotates.")
    log_file_backup_count: int = Field(3, ge=0, description="The number of rotated log files to keep.")

    id_key: SecretStr | None = Field(
        None,
        min_length=MIN_KEY_LENGTH,
        description="The secret that signs prediction IDs, the same for every replica; unset: `id.key` in the user's "
        "data folder.",
    )

    otel: OtelSettings = Field(
        default_factory=read_otel_settings, exclude=True, description="OpenTelemetry's variables."
    )

    def bundle_source(self) -> str:
        """Return the source of the bundle, as `modeltrace.bundles.registry` reads it.

        Raises:
            SettingsError: `bundle` is not set.
        """
        if self.bundle is None:
            raise SettingsError("no bundle to serve: name its folder, or set MODELTRACE_BUNDLE")
        return self.bundle

    def reports_gpus(self) -> bool:
        """Return whether the metrics of GPUs are reported, with the default of the engine."""
        if self.gpu_metrics is None:
            return self.engine == "onnx" and not NVIDIA_PROVIDERS.isdisjoint(self.onnx_providers)
        return self.gpu_metrics

    def remote_challenger_url(self) -> str | None:
        """Return the address of a challenger that is another service; `None` if it is a bundle, or there is none.

        Raises:
            SettingsError: the mode is `split`; only a load balancer can split requests between two services.
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
        """Return the share of requests for the challenger, with the default of its mode."""
        if self.challenger_share is None:
            return 1.0 if self.challenger_mode == "shadow" else 0.1
        return self.challenger_share

    def store_url(self) -> str | None:
        """Return the path or URL of the prediction store, which may contain a password; `None` if it is disabled."""
        url = self.store.get_secret_value() if self.store else str(data_dir() / "predictions.db")
        return None if url == "none" else url


def read_settings(**overrides: Any) -> Settings:  # noqa: ANN401  values are validated by the model
    """Read the settings from the environment; `overrides` that are not `None` take precedence.

    Raises:
        SettingsError: a value is invalid; the message names the variable.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(format_validation_error(error, prefix="MODELTRACE_")) from None


def format_validation_error(error: ValidationError, prefix: str) -> str:
    """Return which variables are invalid and why, without their values, which may be secret."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = str(item["loc"][0]) if item["loc"] else "settings"
        lines.append(f"{name if name.isupper() else prefix + name.upper()}: {validation_message(item['msg'])}")
    return "; ".join(lines)
