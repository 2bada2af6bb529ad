"""Telemetry pipeline: does everything that the services hand over arrive, and where is it held up or lost."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.source import links
from deploy.grafana.source.panels import Panels, board, choice, lines, number
from deploy.grafana.source.queries import WORKER, by_process, count, or_zero, quantile, rate, series, total

UID = "modeltrace-telemetry-pipeline"

SIGNALS = {"spans": "Spans", "metric_points": "Metric points", "log_records": "Log records"}
BACKENDS = {"spans": "jaeger", "metric_points": "prometheus", "log_records": "loki"}
# What the SDK calls the signals that it counts; metric points it does not.
OF_SDK = {"spans": "span", "log_records": "log"}
DISCARDED = "loki_discarded_samples_total"


def telemetry_pipeline() -> Dashboard:
    """The dashboard for whoever wonders whether to believe the others."""
    dashboard = board(
        UID,
        "Telemetry pipeline",
        "From the services through the Collector to Jaeger, Prometheus and Loki: throughput, queues, drops, loss.",
        {
            "": _summary(),
            "Hop by hop: what was handed over, taken, sent on and stored": _hops(),
            "In the services": _services(),
            "Collector": _collector(),
            "Prometheus": _prometheus(),
            "Loki and Jaeger": _loki_and_jaeger(),
        },
    )
    jobs = "label_values(otel_sdk_processor_span_queue_capacity, job)"
    workers = 'label_values(otel_sdk_processor_span_queue_capacity{job=~"(.+/)?$service"}, instance)'
    return (
        dashboard.with_variable(choice("service", "Service", jobs, every=False, regex="/^(?:.+\\/)?(.+)$/"))
        .with_variable(choice("instance", "Worker", workers, every=True))
        .links(links.above("modeltrace-service-health", "Service health", "modeltrace-model-health", "Model health"))
    )


def otelcol(metric: str, labels: str = "", of: str = "otelcol") -> str:
    """Finds a counter of a Collector, whose name ends in `_total` or not, depending on how its metrics are read."""
    return f'__name__=~"otelcol_{metric}(_total)?", job="{of}"{labels}'


def trouble(metric: str, by: str, like: str) -> str:
    """A counter that the Collector has only once it counts, in 5 minutes: one that is new counts in full."""
    one = f"{{{otelcol(metric)}}}"
    counted = f"({one} unless {one} offset 5m) or {count('', otelcol(metric))}"
    return or_zero(total(counted, by), total(f"{{{otelcol(like)}}}", by))


def _summary() -> Panels:
    return [
        number(
            4,
            "Parts down",
            "Parts of the stack whose own metrics Prometheus cannot read.",
            "short",
            series('count(up{job!=""} == 0) or vector(0)', ""),
            limits=(1,),
        ),
        number(
            4,
            "Lost in the services, 5 min",
            "Spans and log records that any service dropped or could not deliver in the last 5 minutes.",
            "short",
            series(" + ".join(f"({or_zero(total(count(metric, labels)))})" for metric, labels in _losses("")), ""),
            limits=(1,),
        ),
        number(
            4,
            "Refused by the Collector, 5 min",
            "Spans, points and records that it refused or that failed in it; who sent them tries again.",
            "short",
            series(" + ".join(f"({refused})" for refused in _refusals().values()), ""),
            limits=(1,),
        ),
        number(
            4,
            "Fullest queue",
            "The fullest of the Collector's sending queues. When it is full, what comes is refused.",
            "percentunit",
            series("max(otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)", ""),
            limits=(0.5, 0.8),
        ),
        number(
            4,
            "Spans: stored of handed over",
            "Spans that Jaeger stored in 10 minutes, as a share of those that services handed over. Sampling in the "
            "Collector lowers it on purpose; services that do not report on their SDK raise it.",
            "percentunit",
            series(f"{_stored('spans', '10m')} / {_handed_over('spans', '10m')}", ""),
        ),
        number(
            4,
            "Records: stored of handed over",
            "Log records that Loki took in 10 minutes, as a share of those that the services handed over.",
            "percentunit",
            series(f"{_stored('log_records', '10m')} / {_handed_over('log_records', '10m')}", ""),
        ),
    ]


def _losses(of: str) -> list[tuple[str, str]]:
    """The counters of what SDKs lose: what did not fit a queue, and what an export gave up."""
    dropped = [
        (f"otel_sdk_processor_{kind}_processed_total", f'{of}error_type="queue_full"') for kind in OF_SDK.values()
    ]
    failed = [(f"otel_sdk_exporter_{kind}_exported_total", f'{of}error_type!=""') for kind in OF_SDK.values()]
    return dropped + failed


def _refusals() -> dict[str, str]:
    """What the Collector did not take, by signal and reason."""
    return {
        f"{title}: {why}": or_zero(total(count("", otelcol(f"receiver_{why}_{signal}"))))
        for signal, title in SIGNALS.items()
        for why in ("refused", "failed")
    }


def _handed_over(signal: str, window: str = "$__rate_interval") -> str:
    return f'sum(rate(otel_sdk_exporter_{OF_SDK[signal]}_exported_total{{error_type=""}}[{window}]))'


def _received(signal: str, window: str = "$__rate_interval") -> str:
    return f"sum(rate({{{otelcol(f'receiver_accepted_{signal}')}}}[{window}]))"


def _taken(signal: str, window: str = "$__rate_interval") -> str:
    """What entered the pipelines: received, or made by a connector."""
    return f"sum(rate({{{otelcol(f'processor_memory_limiter_accepted_{signal}')}}}[{window}]))"


def _sent(signal: str, window: str = "$__rate_interval") -> str:
    of = f', exporter=~".+/{BACKENDS[signal]}"'
    return f"sum(rate({{{otelcol(f'exporter_sent_{signal}', of)}}}[{window}]))"


def _stored(signal: str, window: str = "$__rate_interval") -> str:
    if signal == "spans":
        return f"sum(rate({{{otelcol('exporter_sent_spans', of='jaeger')}}}[{window}]))"
    return f"sum(rate(loki_distributor_lines_received_total[{window}]))"


def _hops() -> Panels:
    means = "Lines that part show where something is held up or lost. SDKs report once a minute by default, parts are "
    means += "read every 15 s, so short steps are out of step."
    rates = [
        lines(
            6,
            f"{SIGNALS[signal]}, hop by hop",
            f"A second: handed over by the SDKs, received by the Collector, sent on, stored. {means}",
            "short",
            series(_handed_over(signal), "handed over"),
            series(_received(signal), "received"),
            series(_sent(signal), "sent"),
            series(_stored(signal), "stored"),
        )
        for signal in OF_SDK
    ]
    points = lines(
        6,
        "Metric points, hop by hop",
        "A second: received by the Collector, taken into its pipeline with the span metrics that it makes, sent on. "
        "Prometheus makes several samples of a histogram's point, so what it stores is counted below.",
        "short",
        series(_received("metric_points"), "received"),
        series(_taken("metric_points"), "taken"),
        series(_sent("metric_points"), "sent"),
    )
    missing = {
        "spans, to the Collector": (_received("spans", "10m"), _handed_over("spans", "10m")),
        "spans, in it": (_sent("spans", "10m"), _taken("spans", "10m")),
        "spans, in Jaeger": (_stored("spans", "10m"), _sent("spans", "10m")),
        "points, in the Collector": (_sent("metric_points", "10m"), _taken("metric_points", "10m")),
        "records, to the Collector": (_received("log_records", "10m"), _handed_over("log_records", "10m")),
        "records, in it": (_sent("log_records", "10m"), _taken("log_records", "10m")),
        "records, in Loki": (_stored("log_records", "10m"), _sent("log_records", "10m")),
    }
    shares = [series(f"clamp_min(1 - {after} / {before}, 0)", hop) for hop, (after, before) in missing.items()]
    loss = lines(
        6,
        "Missing after each hop",
        "Share of what went into a hop in 10 minutes and has not come out of it: queued, sampled away or lost. Up to a "
        "few per cent are clocks out of step.",
        "percentunit",
        *shares,
        limits=(0.05,),
    )
    return [*rates, points, loss]


def _services() -> Panels:
    of_service = f"{WORKER}, "
    by = "job, instance, host_name, otel_component_name"
    fill = [
        series(
            f"max by ({by}) (otel_sdk_processor_{kind}_queue_size{{{WORKER}}})"
            f" / max by ({by}) (otel_sdk_processor_{kind}_queue_capacity{{{WORKER}}})",
            "{{host_name}} · {{otel_component_name}}",
        )
        for kind in OF_SDK.values()
    ]
    every = f"otel_sdk_processor_span_queue_capacity{{{WORKER}}}"
    lost = [
        series(or_zero(total(count(metric, labels), "job"), total(every, "job")), what)
        for (metric, labels), what in zip(
            _losses(of_service),
            ("spans: queue full", "records: queue full", "spans: not delivered", "records: not delivered"),
            strict=True,
        )
    ]
    exported = [
        series(by_process(rate(f"otel_sdk_exporter_{kind}_exported_total", WORKER)), f"{{{{process_pid}}}} · {kind}s")
        for kind in OF_SDK.values()
    ]
    attempts = count("otel_sdk_exporter_operation_duration_seconds_count", f'{of_service}error_type!=""')
    failed = "otel_component_type, error_type"
    duration = quantile(0.95, "otel_sdk_exporter_operation_duration_seconds", WORKER, "otel_component_type")
    return [
        lines(
            6,
            "Queues in the service",
            "How full the queues of spans and log records are, by worker. What does not fit is dropped.",
            "percentunit",
            *fill,
            limits=(0.5, 0.8),
            most=1,
        ),
        lines(
            6,
            "Lost in the service in 5 minutes",
            "What did not fit a queue or the disk space, and what exports gave up: lost for good.",
            "short",
            *lost,
            limits=(1,),
        ),
        lines(6, "Exported", "Spans and log records exported, a second, by process ID.", "short", *exported),
        lines(
            6,
            "Duration of exports, p95",
            "Of each attempt, from the first byte sent to the answer, or to the end of patience.",
            "s",
            series(duration, "{{otel_component_type}}"),
        ),
        lines(
            8,
            "Kept on disk",
            "Items that the endpoint has not taken yet, by signal. They go out once it does; the oldest are lost "
            "when the disk space for them is full.",
            "short",
            series(f"sum by (modeltrace_signal) (modeltrace_sidecar_spooled{{{WORKER}}})", "{{modeltrace_signal}}"),
            limits=(1,),
        ),
        lines(
            8,
            "Failed attempts in 5 minutes",
            "Exports that failed, by what happened. Predictions are kept and tried again; the stock set-up gives up.",
            "short",
            series(or_zero(total(attempts, failed), total(every, "job")), "{{otel_component_type}}: {{error_type}}"),
            limits=(1,),
        ),
        lines(
            8,
            "Sidecars replaced in 5 minutes",
            "The process beside a worker that encodes and delivers died; another one has taken over what it had.",
            "short",
            series(by_process(count("modeltrace_sidecar_restarts_total", WORKER)), "{{host_name}} · {{process_pid}}"),
            limits=(1,),
        ),
    ]


def _collector() -> Panels:
    of = "receiver, transport"
    received = [
        series(total(rate("", otelcol(f"receiver_accepted_{s}")), of), f"{{{{receiver}}}} · {t}")
        for s, t in SIGNALS.items()
    ]
    refused = [series(expression, what) for what, expression in _refusals().items()]
    sent = [series(total(rate("", otelcol(f"exporter_sent_{s}")), "exporter"), "{{exporter}}") for s in SIGNALS]
    failed = [
        series(
            trouble(f"exporter_{what}_failed_{signal}", "exporter", f"exporter_sent_{signal}"),
            f"{{{{exporter}}}}: {said}",
        )
        for signal in SIGNALS
        for what, said in (("send", "given up"), ("enqueue", "queue full"))
    ]
    return [
        lines(8, "Received", "Items a second, by receiver and signal.", "short", *received),
        lines(
            8,
            "Refused or failed in 5 minutes",
            "Refused: the memory limit or a full queue; the sender tries again, so it is not lost yet. Failed: an "
            "error inside.",
            "short",
            *refused,
            limits=(1,),
        ),
        lines(8, "Sent", "Items a second, by exporter.", "short", *sent),
        lines(
            8,
            "Sending queues",
            "How full each exporter's queue on disk is. It fills while a backend is away and is sent afterwards.",
            "percentunit",
            series("otelcol_exporter_queue_size / otelcol_exporter_queue_capacity", "{{exporter}}"),
            limits=(0.5, 0.8),
            most=1,
        ),
        lines(
            8,
            "Items in the queues",
            "Items that wait in each exporter's queue.",
            "short",
            series("otelcol_exporter_queue_size", "{{exporter}}"),
        ),
        lines(
            8,
            "Dropped by exporters in 5 minutes",
            "Given up: the backend said no for good. Queue full: it could not be queued. Either way it is lost here.",
            "short",
            *failed,
            limits=(1,),
        ),
        lines(
            12,
            "Memory",
            "Resident memory of the Collector. At 80 % of its limit it refuses data instead of being ended.",
            "bytes",
            series('{__name__=~"otelcol_process_memory_rss(_bytes)?", job="otelcol"}', "{{instance}}"),
        ),
        lines(
            12,
            "CPU",
            "Processor time of the Collector, in cores.",
            "short",
            series(
                'rate({__name__=~"otelcol_process_cpu_seconds(_total)?", job="otelcol"}[$__rate_interval])',
                "{{instance}}",
            ),
        ),
    ]


def _prometheus() -> Panels:
    tsdb = "prometheus_tsdb"
    return [
        lines(
            6,
            "Samples",
            "Samples stored a second. Those out of order are taken for 30 minutes, e.g. after an outage.",
            "short",
            series(total(rate(f"{tsdb}_head_samples_appended_total", "")), "stored"),
            series(total(rate(f"{tsdb}_head_out_of_order_samples_appended_total", "")), "of these out of order"),
        ),
        lines(
            6,
            "Samples refused in 5 minutes",
            "Older than the out-of-order window, outside of what can be stored, or a second value for one time.",
            "short",
            series(total(count(f"{tsdb}_too_old_samples_total", "")), "too old"),
            series(total(count(f"{tsdb}_out_of_bound_samples_total", "")), "out of bounds"),
            series(total(count(f"{tsdb}_out_of_order_samples_total", "")), "out of order"),
            limits=(1,),
        ),
        lines(
            6,
            "Exemplars",
            "The way from a metric to a trace: stored a second, and refused as out of order.",
            "short",
            series(total(rate(f"{tsdb}_exemplar_exemplars_appended_total", "")), "stored"),
            series(total(rate(f"{tsdb}_exemplar_out_of_order_exemplars_total", "")), "refused"),
        ),
        lines(
            6,
            "Series and exemplars kept",
            "Series in memory, and exemplars in their ring, where a new one displaces the oldest.",
            "short",
            series(f"{tsdb}_head_series", "series"),
            series(f"{tsdb}_exemplar_exemplars_in_storage", "exemplars"),
            series(f"{tsdb}_exemplar_max_exemplars", "exemplars at most"),
        ),
    ]


def _loki_and_jaeger() -> Panels:
    lines_received = total("loki_distributor_lines_received_total")
    discarded = f"sum by (reason) (({DISCARDED} unless {DISCARDED} offset 5m) or increase({DISCARDED}[5m] anchored))"
    spans = {
        "received": "receiver_accepted",
        "refused": "receiver_refused",
        "stored": "exporter_sent",
        "not stored": "exporter_send_failed",
    }
    return [
        lines(
            6,
            "Loki: bytes received",
            "Log records with their structured metadata, a second.",
            "Bps",
            series(total(rate("loki_distributor_bytes_received_total", "")), "all"),
            series(total(rate("loki_distributor_structured_metadata_bytes_received_total", "")), "of these metadata"),
        ),
        lines(
            6,
            "Loki: records discarded in 5 minutes",
            "By reason: too old, too large, too many attributes, over a limit of rate or streams. They are lost.",
            "short",
            series(or_zero(discarded, lines_received), "{{reason}}"),
            limits=(1,),
        ),
        lines(
            6,
            "Jaeger: spans",
            "Spans a second. Refused ones are tried again by the Collector; those not stored are lost.",
            "short",
            *(series(total(rate("", otelcol(f"{name}_spans", of="jaeger"))), said) for said, name in spans.items()),
        ),
        lines(
            6,
            "Jaeger: disk",
            "What Jaeger keeps, in Badger: spans and their index.",
            "bytes",
            series("sum(jaeger_storage_badger_size_bytes_lsm) + sum(jaeger_storage_badger_size_bytes_vlog)", "all"),
        ),
    ]
