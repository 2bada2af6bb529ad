"""The table of OpenTelemetry's environment variables.

docs/settings.md has the same table, with examples that a test tries. Source of names and defaults: OpenTelemetry
specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from modeltrace.otel_env.values import (
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
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
OTLP_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
SAMPLER_ARGUMENT: Final = "OTEL_TRACES_SAMPLER_ARG"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, possibly with a variant for each signal.

    Attributes:
        name: the variable; the variants of `OTEL_EXPORTER_OTLP_TIMEOUT` are `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`, ….
        default: the value if it is not set.
        parse: parses a value.
        meaning: its effect, for docs/settings.md.
        on_invalid: whether an invalid value is ignored or causes an error.
        per_signal: whether it has a variant for each signal.
    """

    name: str
    default: str
    parse: Parse
    meaning: str
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
_SDK_ONLY: Final = "Selects `MODELTRACE_INSTRUMENTATION=sdk`."

GENERAL: Final = (
    Variable("OTEL_SDK_DISABLED", "false", boolean, "Export no telemetry; propagators still work."),
    Variable("OTEL_SERVICE_NAME", "modeltrace", unicode_text, "`service.name`; overrides `OTEL_RESOURCE_ATTRIBUTES`."),
    Variable(
        "OTEL_RESOURCE_ATTRIBUTES",
        "unset",
        attributes,
        "Attributes of all telemetry: `KEY=VALUE,…`, values percent-encoded; invalid entries are left out. "
        "With several workers, each adds its process ID to a given `service.instance.id`.",
    ),
    Variable("OTEL_ENTITIES", "unset", unsupported("is not supported: use OTEL_RESOURCE_ATTRIBUTES"), "Not supported."),
    Variable(
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "unset", detectors, "Further detectors, from packages of the SDK."
    ),
    Variable(
        "OTEL_LOG_LEVEL",
        "info",
        choice("trace", "debug", "info", "warn", "error", "fatal", "none"),
        "The lowest level of the SDK's own log records.",
    ),
    Variable(
        "OTEL_PROPAGATORS",
        "tracecontext,baggage",
        propagators,
        "Propagators of trace context; others than these two need a package of the SDK.",
        "refused",
    ),
    Variable(
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        choice(
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
        "The sampler of traces.",
    ),
    Variable(SAMPLER_ARGUMENT, "1.0", ratio, "The share of traces that the two ratio samplers keep."),
    Variable("OTEL_CONFIG_FILE", "unset", _FILE, "Declarative configuration is not supported.", "refused"),
    Variable("OTEL_EXPERIMENTAL_CONFIG_FILE", "unset", _FILE, "The former name of `OTEL_CONFIG_FILE`.", "refused"),
    Variable("OTEL_SEMCONV_STABILITY_OPT_IN", "http", text, "The semantic conventions of the SDK's HTTP telemetry."),
)
EXPORTERS: Final = (
    Variable(
        "OTEL_TRACES_EXPORTER", "otlp", choices("otlp", "console"), "Exporters of spans; a list, or `none`.", "refused"
    ),
    Variable(
        "OTEL_METRICS_EXPORTER",
        "otlp,prometheus",
        choices("otlp", "prometheus", "console"),
        "Exporters of metrics (`prometheus`: the `/metrics` page); a list, or `none`.",
        "refused",
    ),
    Variable(
        "OTEL_LOGS_EXPORTER",
        "otlp",
        choices("otlp", "console"),
        "Exporters of log records, in addition to stdout; a list, or `none`.",
        "refused",
    ),
)
OTLP_EXPORTER: Final = (
    Variable(
        OTLP_PREFIX + "PROTOCOL",
        "http/protobuf",
        choice("http/protobuf", "grpc"),
        "The protocol of OTLP.",
        "refused",
        per_signal=True,
    ),
    # Validated last, because the valid values depend on the protocol.
    Variable(
        OTLP_PREFIX + "ENDPOINT",
        "unset",
        text,
        "The receiver of OTLP. HTTP: a URL; the path of the signal (`/v1/traces`) is appended, except to a "
        "signal's own URL. gRPC: a URL, or a target such as `host:4317` if `OTEL_EXPORTER_OTLP_INSECURE` is "
        "set. Unset: port 4318 (gRPC: 4317) of this machine.",
        "refused",
        per_signal=True,
    ),
    Variable(
        OTLP_PREFIX + "INSECURE",
        "false",
        boolean,
        "Whether a gRPC target without `http://` or `https://` is reached without TLS.",
        per_signal=True,
    ),
    Variable(
        OTLP_PREFIX + "HEADERS",
        "unset",
        headers,
        "Headers of each request: `NAME=VALUE,…`, values percent-encoded. They are never logged.",
        "refused",
        per_signal=True,
    ),
    Variable(
        OTLP_PREFIX + "TIMEOUT",
        "2000",
        timeout,
        "Milliseconds that one attempt may take (the specification's default is 10000); 0: no limit.",
        per_signal=True,
    ),
    Variable(
        OTLP_PREFIX + "COMPRESSION",
        "none",
        choice("none", "gzip", "deflate"),
        "Compression of requests.",
        per_signal=True,
    ),
    Variable(
        OTLP_PREFIX + "CERTIFICATE",
        "unset",
        text,
        "A file with the certificates that verify the receiver's certificate. It is read when telemetry is "
        "sent; errors are logged.",
        per_signal=True,
    ),
    Variable(OTLP_PREFIX + "CLIENT_CERTIFICATE", "unset", text, "A file with the client certificate.", per_signal=True),
    Variable(
        OTLP_PREFIX + "CLIENT_KEY",
        "unset",
        text,
        "A file with the client's private key; unset: it is in the certificate's file.",
        per_signal=True,
    ),
    Variable(
        OTLP_PREFIX + "METRICS_TEMPORALITY_PREFERENCE",
        "cumulative",
        choice("cumulative", "delta", "lowmemory"),
        "Whether counters report totals, or the increase since the previous export.",
    ),
    Variable(
        OTLP_PREFIX + "METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "explicit_bucket_histogram",
        choice("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
        "The aggregation of histograms without fixed bounds.",
    ),
    Variable(
        OTLP_PREFIX + "SPAN_INSECURE",
        "unset",
        unsupported("is obsolete: use OTEL_EXPORTER_OTLP_TRACES_INSECURE"),
        "Obsolete, and without effect.",
    ),
    Variable(
        OTLP_PREFIX + "METRIC_INSECURE",
        "unset",
        unsupported("is obsolete: use OTEL_EXPORTER_OTLP_METRICS_INSECURE"),
        "Obsolete, and without effect.",
    ),
)
PROCESSORS: Final = (
    Variable(
        "OTEL_BSP_SCHEDULE_DELAY",
        "500",
        _MILLISECONDS,
        "Milliseconds for which predictions are batched (the specification's default is 5000).",
    ),
    Variable("OTEL_BSP_EXPORT_TIMEOUT", "unset", _NO_TIMEOUT, "Without effect: each attempt has its own limit."),
    Variable(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "131072",
        integer(1),
        "The maximum number of queued spans per worker; a prediction request has four. The SDK's own spans "
        "have a separate queue, of 2048 if this is unset.",
    ),
    Variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", integer(1), "Maximum of the SDK's own per export request."),
    Variable("OTEL_BLRP_SCHEDULE_DELAY", "1000", _MILLISECONDS, "Milliseconds for which the SDK batches log records."),
    Variable("OTEL_BLRP_EXPORT_TIMEOUT", "unset", _NO_TIMEOUT, "Without effect: each attempt has its own limit."),
    Variable(
        "OTEL_BLRP_MAX_QUEUE_SIZE",
        "32768",
        integer(1),
        "The maximum number of queued log records of predictions per worker, one for each predicted row. "
        "Other log records have a separate queue, of 2048 if this is unset.",
    ),
    Variable("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "512", integer(1), "Maximum of the SDK's own per export request."),
    Variable("OTEL_METRIC_EXPORT_INTERVAL", "60000", _MILLISECONDS, "Milliseconds between two exports of metrics."),
    Variable("OTEL_METRIC_EXPORT_TIMEOUT", "unset", _NO_TIMEOUT, "Without effect: each attempt has its own limit."),
    Variable(
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "trace_based",
        choice("always_on", "always_off", "trace_based"),
        "Which measurements may become exemplars.",
    ),
)
LIMITS: Final = (
    Variable("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "unset", _LIMIT, f"Characters of an attribute's value. {_SDK_ONLY}"),
    Variable("OTEL_ATTRIBUTE_COUNT_LIMIT", "unset", _LIMIT, f"Attributes of a span, an event, … {_SDK_ONLY}"),
    Variable("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "unset", _LIMIT, f"The same for spans alone. {_SDK_ONLY}"),
    Variable("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "unset", _LIMIT, f"The same for spans alone. {_SDK_ONLY}"),
    Variable("OTEL_SPAN_EVENT_COUNT_LIMIT", "unset", _LIMIT, f"Events of a span. {_SDK_ONLY}"),
    Variable("OTEL_SPAN_LINK_COUNT_LIMIT", "unset", _LIMIT, f"Links of a span. {_SDK_ONLY}"),
    Variable("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "unset", _LIMIT, f"Attributes of an event. {_SDK_ONLY}"),
    Variable("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "unset", _LIMIT, f"Attributes of a link. {_SDK_ONLY}"),
    Variable("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "unset", _LIMIT, f"The same for log records. {_SDK_ONLY}"),
    Variable("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "unset", _LIMIT, f"The same for log records. {_SDK_ONLY}"),
)
OTHERS: Final = (
    Variable("OTEL_EXPORTER_PROMETHEUS_HOST", "unset", _PAGE, "Without effect: `/metrics` is a page of the service."),
    Variable("OTEL_EXPORTER_PROMETHEUS_PORT", "unset", _PAGE, "The same."),
    Variable("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "unset", _ZIPKIN, "Without effect: there is no Zipkin exporter."),
    Variable("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "unset", _ZIPKIN, "The same."),
    Variable("OTEL_EXPORTER_ZIPKIN_PROTOCOL", "unset", _ZIPKIN, "The same."),
)
VARIABLES: Final = (*GENERAL, *EXPORTERS, *OTLP_EXPORTER, *PROCESSORS, *LIMITS, *OTHERS)
