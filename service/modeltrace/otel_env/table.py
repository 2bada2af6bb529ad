"""The table of OpenTelemetry's environment variables.

docs/settings.md has the same table, with defaults, meanings, and examples that a test tries. Source of the names:
OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from modeltrace.otel_env.parsers import (
    Parse,
    attributes,
    boolean,
    choice,
    choices,
    detectors,
    headers,
    integer,
    propagators,
    ratio,
    text,
    timeout,
    unicode_text,
    unsupported,
)

Signal = Literal["traces", "metrics", "logs"]
OtlpProtocol = Literal["http/protobuf", "grpc"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
OTLP_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
SAMPLER_ARGUMENT: Final = "OTEL_TRACES_SAMPLER_ARG"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, possibly with a variant for each signal.

    Attributes:
        name: the variable; the variants of `OTEL_EXPORTER_OTLP_TIMEOUT` are `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`, ….
        parse: parses a value.
        on_invalid: whether an invalid value is ignored or causes an error.
        per_signal: whether it has a variant for each signal.
    """

    name: str
    parse: Parse
    on_invalid: Literal["ignored", "refused"] = "ignored"
    per_signal: bool = False

    def names(self) -> Iterator[str]:
        """Yield the name of the variable, then the names of its variants."""
        yield self.name
        if self.per_signal:
            for signal in SIGNALS:
                yield self.name.replace(OTLP_PREFIX, f"{OTLP_PREFIX}{signal.upper()}_")


_MILLISECONDS: Final = integer(1, "milliseconds")
_LIMIT: Final = integer()
_NO_TIMEOUT: Final = unsupported("has no effect: OTEL_EXPORTER_OTLP_TIMEOUT limits an export")
_ZIPKIN: Final = unsupported("has no effect: there is no Zipkin exporter; send OTLP, which Zipkin's Collector takes")
_PAGE: Final = unsupported("has no effect: /metrics is a page of the service (MODELTRACE_HOST, MODELTRACE_PORT)")
_FILE: Final = unsupported("is not supported: set the variables of docs/settings.md instead of a configuration file")

# Only the SDK implements these limits.
LIMITS: Final = (
    Variable("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", _LIMIT),
    Variable("OTEL_ATTRIBUTE_COUNT_LIMIT", _LIMIT),
    Variable("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", _LIMIT),
    Variable("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", _LIMIT),
    Variable("OTEL_SPAN_EVENT_COUNT_LIMIT", _LIMIT),
    Variable("OTEL_SPAN_LINK_COUNT_LIMIT", _LIMIT),
    Variable("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", _LIMIT),
    Variable("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", _LIMIT),
    Variable("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", _LIMIT),
    Variable("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", _LIMIT),
)
VARIABLES: Final = (
    Variable("OTEL_SDK_DISABLED", boolean),
    Variable("OTEL_SERVICE_NAME", unicode_text),
    Variable("OTEL_RESOURCE_ATTRIBUTES", attributes),
    Variable("OTEL_ENTITIES", unsupported("is not supported: use OTEL_RESOURCE_ATTRIBUTES")),
    Variable("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", detectors),
    Variable("OTEL_LOG_LEVEL", choice("trace", "debug", "info", "warn", "error", "fatal", "none")),
    Variable("OTEL_PROPAGATORS", propagators, "refused"),
    Variable(
        "OTEL_TRACES_SAMPLER",
        choice(
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
    ),
    Variable(SAMPLER_ARGUMENT, ratio),
    Variable("OTEL_CONFIG_FILE", _FILE, "refused"),
    Variable("OTEL_EXPERIMENTAL_CONFIG_FILE", _FILE, "refused"),
    Variable("OTEL_SEMCONV_STABILITY_OPT_IN", text),
    # Exporters.
    Variable("OTEL_TRACES_EXPORTER", choices("otlp", "console"), "refused"),
    Variable("OTEL_METRICS_EXPORTER", choices("otlp", "prometheus", "console"), "refused"),
    Variable("OTEL_LOGS_EXPORTER", choices("otlp", "console"), "refused"),
    # The OTLP exporter.
    Variable(OTLP_PREFIX + "PROTOCOL", choice("http/protobuf", "grpc"), "refused", per_signal=True),
    # Validated last, because the valid values depend on the protocol.
    Variable(OTLP_PREFIX + "ENDPOINT", text, "refused", per_signal=True),
    Variable(OTLP_PREFIX + "INSECURE", boolean, per_signal=True),
    Variable(OTLP_PREFIX + "HEADERS", headers, "refused", per_signal=True),
    Variable(OTLP_PREFIX + "TIMEOUT", timeout, per_signal=True),
    Variable(OTLP_PREFIX + "COMPRESSION", choice("none", "gzip", "deflate"), per_signal=True),
    Variable(OTLP_PREFIX + "CERTIFICATE", text, per_signal=True),
    Variable(OTLP_PREFIX + "CLIENT_CERTIFICATE", text, per_signal=True),
    Variable(OTLP_PREFIX + "CLIENT_KEY", text, per_signal=True),
    Variable(OTLP_PREFIX + "METRICS_TEMPORALITY_PREFERENCE", choice("cumulative", "delta", "lowmemory")),
    Variable(
        OTLP_PREFIX + "METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        choice("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
    ),
    Variable(OTLP_PREFIX + "SPAN_INSECURE", unsupported("is obsolete: use OTEL_EXPORTER_OTLP_TRACES_INSECURE")),
    Variable(OTLP_PREFIX + "METRIC_INSECURE", unsupported("is obsolete: use OTEL_EXPORTER_OTLP_METRICS_INSECURE")),
    # Batches, queues and intervals.
    Variable("OTEL_BSP_SCHEDULE_DELAY", _MILLISECONDS),
    Variable("OTEL_BSP_EXPORT_TIMEOUT", _NO_TIMEOUT),
    Variable("OTEL_BSP_MAX_QUEUE_SIZE", integer(1)),
    Variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", integer(1)),
    Variable("OTEL_BLRP_SCHEDULE_DELAY", _MILLISECONDS),
    Variable("OTEL_BLRP_EXPORT_TIMEOUT", _NO_TIMEOUT),
    Variable("OTEL_BLRP_MAX_QUEUE_SIZE", integer(1)),
    Variable("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", integer(1)),
    Variable("OTEL_METRIC_EXPORT_INTERVAL", _MILLISECONDS),
    Variable("OTEL_METRIC_EXPORT_TIMEOUT", _NO_TIMEOUT),
    Variable("OTEL_METRICS_EXEMPLAR_FILTER", choice("always_on", "always_off", "trace_based")),
    *LIMITS,
    # Exporters that do not exist here.
    Variable("OTEL_EXPORTER_PROMETHEUS_HOST", _PAGE),
    Variable("OTEL_EXPORTER_PROMETHEUS_PORT", _PAGE),
    Variable("OTEL_EXPORTER_ZIPKIN_ENDPOINT", _ZIPKIN),
    Variable("OTEL_EXPORTER_ZIPKIN_TIMEOUT", _ZIPKIN),
    Variable("OTEL_EXPORTER_ZIPKIN_PROTOCOL", _ZIPKIN),
)
