"""Telemetry pipeline: does everything that the services hand over arrive, and where is it held up or lost."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.source import links
from deploy.grafana.source.panels import Panels, build_dashboard, query_variable, stat_panel, time_series_panel
from deploy.grafana.source.queries import WORKER, by_process, increase_5m, or_zero, quantile, range_query, rate, sum_by

UID = "modeltrace-telemetry-pipeline"

SIGNALS = {"spans": "Spans", "metric_points": "Metric points", "log_records": "Log records"}
BACKENDS = {"spans": "jaeger", "metric_points": "prometheus", "log_records": "loki"}
# What the SDK calls the signals that it counts; metric points it does not.
SDK_SIGNALS = {"spans": "span", "log_records": "log"}
DISCARDED = "loki_discarded_samples_total"


def telemetry_pipeline() -> Dashboard:
    """The dashboard for whoever wonders whether to believe the others."""
    dashboard = build_dashboard(
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
        dashboard.with_variable(query_variable("service", "Service", jobs, multiple=False, regex="/^(?:.+\\/)?(.+)$/"))
        .with_variable(query_variable("instance", "Worker", workers, multiple=True))
        .links(
            links.dashboard_links(
                "modeltrace-service-health", "Service health", "modeltrace-model-health", "Model health"
            )
        )
    )


def collector_selector(metric: str, labels: str = "", job: str = "otelcol") -> str:
    """Finds a counter of a Collector, whose name ends in `_total` or not, depending on how its metrics are read."""
    return f'__name__=~"otelcol_{metric}(_total)?", job="{job}"{labels}'


def new_counter_increase(metric: str, by: str, like: str) -> str:
    """A counter that the Collector has only once it counts, in 5 minutes: one that is new counts in full."""
    one = f"{{{collector_selector(metric)}}}"
    counted = f"({one} unless {one} offset 5m) or {increase_5m('', collector_selector(metric))}"
    return or_zero(sum_by(counted, by), sum_by(f"{{{collector_selector(like)}}}", by))


def _summary() -> Panels:
    return [
        stat_panel(
            4,
            "Parts down",
            "Parts of the stack whose own metrics Prometheus cannot read.",
            "short",
            range_query('count(up{job!=""} == 0) or vector(0)', ""),
            limits=(1,),
        ),
        stat_panel(
            4,
            "Lost in the services, 5 min",
            "Spans and log records that any service dropped or could not deliver in the last 5 minutes.",
            "short",
            range_query(
                " + ".join(
                    f"({or_zero(sum_by(increase_5m(metric, labels)))})" for metric, labels in _loss_counters("")
                ),
                "",
            ),
            limits=(1,),
        ),
        stat_panel(
            4,
            "Refused by the Collector, 5 min",
            "Spans, points and records that it refused or that failed in it; who sent them tries again.",
            "short",
            range_query(" + ".join(f"({refused})" for refused in _refused_expressions().values()), ""),
            limits=(1,),
        ),
        stat_panel(
            4,
            "Fullest queue",
            "The fullest of the Collector's sending queues. When it is full, what comes is refused.",
            "percentunit",
            range_query("max(otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)", ""),
            limits=(0.5, 0.8),
        ),
        stat_panel(
            4,
            "Spans: stored of handed over",
            "Spans that Jaeger stored in 10 minutes, as a share of those that services handed over. Sampling in the "
            "Collector lowers it on purpose; services that do not report on their SDK raise it.",
            "percentunit",
            range_query(f"{_stored('spans', '10m')} / {_exported('spans', '10m')}", ""),
        ),
        stat_panel(
            4,
            "Records: stored of handed over",
            "Log records that Loki took in 10 minutes, as a share of those that the services handed over.",
            "percentunit",
            range_query(f"{_stored('log_records', '10m')} / {_exported('log_records', '10m')}", ""),
        ),
    ]


def _loss_counters(of: str) -> list[tuple[str, str]]:
    """The counters of what SDKs lose: what did not fit a queue, and what an export gave up."""
    dropped = [
        (f"otel_sdk_processor_{kind}_processed_total", f'{of}error_type="queue_full"') for kind in SDK_SIGNALS.values()
    ]
    failed = [(f"otel_sdk_exporter_{kind}_exported_total", f'{of}error_type!=""') for kind in SDK_SIGNALS.values()]
    return dropped + failed


def _refused_expressions() -> dict[str, str]:
    """What the Collector did not take, by signal and reason."""
    return {
        f"{title}: {why}": or_zero(sum_by(increase_5m("", collector_selector(f"receiver_{why}_{signal}"))))
        for signal, title in SIGNALS.items()
        for why in ("refused", "failed")
    }


def _exported(signal: str, window: str = "$__rate_interval") -> str:
    return f'sum(rate(otel_sdk_exporter_{SDK_SIGNALS[signal]}_exported_total{{error_type=""}}[{window}]))'


def _received(signal: str, window: str = "$__rate_interval") -> str:
    return f"sum(rate({{{collector_selector(f'receiver_accepted_{signal}')}}}[{window}]))"


def _accepted(signal: str, window: str = "$__rate_interval") -> str:
    """What entered the pipelines: received, or made by a connector."""
    return f"sum(rate({{{collector_selector(f'processor_memory_limiter_accepted_{signal}')}}}[{window}]))"


def _sent(signal: str, window: str = "$__rate_interval") -> str:
    of = f', exporter=~".+/{BACKENDS[signal]}"'
    return f"sum(rate({{{collector_selector(f'exporter_sent_{signal}', of)}}}[{window}]))"


def _stored(signal: str, window: str = "$__rate_interval") -> str:
    if signal == "spans":
        return f"sum(rate({{{collector_selector('exporter_sent_spans', job='jaeger')}}}[{window}]))"
    return f"sum(rate(loki_distributor_lines_received_total[{window}]))"


def _hops() -> Panels:
    means = "Lines that part show where something is held up or lost. SDKs report once a minute by default, parts are "
    means += "read every 15 s, so short steps are out of step."
    rates = [
        time_series_panel(
            6,
            f"{SIGNALS[signal]}, hop by hop",
            f"A second: handed over by the SDKs, received by the Collector, sent on, stored. {means}",
            "short",
            range_query(_exported(signal), "handed over"),
            range_query(_received(signal), "received"),
            range_query(_sent(signal), "sent"),
            range_query(_stored(signal), "stored"),
        )
        for signal in SDK_SIGNALS
    ]
    points = time_series_panel(
        6,
        "Metric points, hop by hop",
        "A second: received by the Collector, taken into its pipeline with the span metrics that it makes, sent on. "
        "Prometheus makes several samples of a histogram's point, so what it stores is counted below.",
        "short",
        range_query(_received("metric_points"), "received"),
        range_query(_accepted("metric_points"), "taken"),
        range_query(_sent("metric_points"), "sent"),
    )
    missing = {
        "spans, to the Collector": (_received("spans", "10m"), _exported("spans", "10m")),
        "spans, in it": (_sent("spans", "10m"), _accepted("spans", "10m")),
        "spans, in Jaeger": (_stored("spans", "10m"), _sent("spans", "10m")),
        "points, in the Collector": (_sent("metric_points", "10m"), _accepted("metric_points", "10m")),
        "records, to the Collector": (_received("log_records", "10m"), _exported("log_records", "10m")),
        "records, in it": (_sent("log_records", "10m"), _accepted("log_records", "10m")),
        "records, in Loki": (_stored("log_records", "10m"), _sent("log_records", "10m")),
    }
    shares = [range_query(f"clamp_min(1 - {after} / {before}, 0)", hop) for hop, (after, before) in missing.items()]
    loss = time_series_panel(
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
        range_query(
            f"max by ({by}) (otel_sdk_processor_{kind}_queue_size{{{WORKER}}})"
            f" / max by ({by}) (otel_sdk_processor_{kind}_queue_capacity{{{WORKER}}})",
            "{{host_name}} · {{otel_component_name}}",
        )
        for kind in SDK_SIGNALS.values()
    ]
    every = f"otel_sdk_processor_span_queue_capacity{{{WORKER}}}"
    lost = [
        range_query(or_zero(sum_by(increase_5m(metric, labels), "job"), sum_by(every, "job")), what)
        for (metric, labels), what in zip(
            _loss_counters(of_service),
            ("spans: queue full", "records: queue full", "spans: not delivered", "records: not delivered"),
            strict=True,
        )
    ]
    exported = [
        range_query(
            by_process(rate(f"otel_sdk_exporter_{kind}_exported_total", WORKER)), f"{{{{process_pid}}}} · {kind}s"
        )
        for kind in SDK_SIGNALS.values()
    ]
    attempts = increase_5m("otel_sdk_exporter_operation_duration_seconds_count", f'{of_service}error_type!=""')
    failed = "otel_component_type, error_type"
    duration = quantile(0.95, "otel_sdk_exporter_operation_duration_seconds", WORKER, "otel_component_type")
    return [
        time_series_panel(
            6,
            "Queues in the service",
            "How full the queues of spans and log records are, by worker. What does not fit is dropped.",
            "percentunit",
            *fill,
            limits=(0.5, 0.8),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Lost in the service in 5 minutes",
            "What did not fit a queue or the disk space, and what exports gave up: lost for good.",
            "short",
            *lost,
            limits=(1,),
        ),
        time_series_panel(
            6, "Exported", "Spans and log records exported, a second, by process ID.", "short", *exported
        ),
        time_series_panel(
            6,
            "Duration of exports, p95",
            "Of each attempt, from the first byte sent to the answer, or to the end of patience.",
            "s",
            range_query(duration, "{{otel_component_type}}"),
        ),
        time_series_panel(
            8,
            "Kept on disk",
            "Items that the endpoint has not taken yet, by signal. They go out once it does; the oldest are lost "
            "when the disk space for them is full.",
            "short",
            range_query(
                f"sum by (modeltrace_signal) (modeltrace_sidecar_spooled{{{WORKER}}})", "{{modeltrace_signal}}"
            ),
            limits=(1,),
        ),
        time_series_panel(
            8,
            "Failed attempts in 5 minutes",
            "Exports that failed, by what happened. Predictions are kept and tried again; the stock set-up gives up.",
            "short",
            range_query(
                or_zero(sum_by(attempts, failed), sum_by(every, "job")), "{{otel_component_type}}: {{error_type}}"
            ),
            limits=(1,),
        ),
        time_series_panel(
            8,
            "Sidecars replaced in 5 minutes",
            "The process beside a worker that encodes and delivers died; another one has taken over what it had.",
            "short",
            range_query(
                by_process(increase_5m("modeltrace_sidecar_restarts_total", WORKER)), "{{host_name}} · {{process_pid}}"
            ),
            limits=(1,),
        ),
    ]


def _collector() -> Panels:
    of = "receiver, transport"
    received = [
        range_query(sum_by(rate("", collector_selector(f"receiver_accepted_{s}")), of), f"{{{{receiver}}}} · {t}")
        for s, t in SIGNALS.items()
    ]
    refused = [range_query(expression, what) for what, expression in _refused_expressions().items()]
    sent = [
        range_query(sum_by(rate("", collector_selector(f"exporter_sent_{s}")), "exporter"), "{{exporter}}")
        for s in SIGNALS
    ]
    failed = [
        range_query(
            new_counter_increase(f"exporter_{what}_failed_{signal}", "exporter", f"exporter_sent_{signal}"),
            f"{{{{exporter}}}}: {said}",
        )
        for signal in SIGNALS
        for what, said in (("send", "given up"), ("enqueue", "queue full"))
    ]
    return [
        time_series_panel(8, "Received", "Items a second, by receiver and signal.", "short", *received),
        time_series_panel(
            8,
            "Refused or failed in 5 minutes",
            "Refused: the memory limit or a full queue; the sender tries again, so it is not lost yet. Failed: an "
            "error inside.",
            "short",
            *refused,
            limits=(1,),
        ),
        time_series_panel(8, "Sent", "Items a second, by exporter.", "short", *sent),
        time_series_panel(
            8,
            "Sending queues",
            "How full each exporter's queue on disk is. It fills while a backend is away and is sent afterwards.",
            "percentunit",
            range_query("otelcol_exporter_queue_size / otelcol_exporter_queue_capacity", "{{exporter}}"),
            limits=(0.5, 0.8),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Items in the queues",
            "Items that wait in each exporter's queue.",
            "short",
            range_query("otelcol_exporter_queue_size", "{{exporter}}"),
        ),
        time_series_panel(
            8,
            "Dropped by exporters in 5 minutes",
            "Given up: the backend said no for good. Queue full: it could not be queued. Either way it is lost here.",
            "short",
            *failed,
            limits=(1,),
        ),
        time_series_panel(
            12,
            "Memory",
            "Resident memory of the Collector. At 80 % of its limit it refuses data instead of being ended.",
            "bytes",
            range_query('{__name__=~"otelcol_process_memory_rss(_bytes)?", job="otelcol"}', "{{instance}}"),
        ),
        time_series_panel(
            12,
            "CPU",
            "Processor time of the Collector, in cores.",
            "short",
            range_query(
                'rate({__name__=~"otelcol_process_cpu_seconds(_total)?", job="otelcol"}[$__rate_interval])',
                "{{instance}}",
            ),
        ),
    ]


def _prometheus() -> Panels:
    tsdb = "prometheus_tsdb"
    return [
        time_series_panel(
            6,
            "Samples",
            "Samples stored a second. Those out of order are taken for 30 minutes, e.g. after an outage.",
            "short",
            range_query(sum_by(rate(f"{tsdb}_head_samples_appended_total", "")), "stored"),
            range_query(sum_by(rate(f"{tsdb}_head_out_of_order_samples_appended_total", "")), "of these out of order"),
        ),
        time_series_panel(
            6,
            "Samples refused in 5 minutes",
            "Older than the out-of-order window, outside of what can be stored, or a second value for one time.",
            "short",
            range_query(sum_by(increase_5m(f"{tsdb}_too_old_samples_total", "")), "too old"),
            range_query(sum_by(increase_5m(f"{tsdb}_out_of_bound_samples_total", "")), "out of bounds"),
            range_query(sum_by(increase_5m(f"{tsdb}_out_of_order_samples_total", "")), "out of order"),
            limits=(1,),
        ),
        time_series_panel(
            6,
            "Exemplars",
            "The way from a metric to a trace: stored a second, and refused as out of order.",
            "short",
            range_query(sum_by(rate(f"{tsdb}_exemplar_exemplars_appended_total", "")), "stored"),
            range_query(sum_by(rate(f"{tsdb}_exemplar_out_of_order_exemplars_total", "")), "refused"),
        ),
        time_series_panel(
            6,
            "Series and exemplars kept",
            "Series in memory, and exemplars in their ring, where a new one displaces the oldest.",
            "short",
            range_query(f"{tsdb}_head_series", "series"),
            range_query(f"{tsdb}_exemplar_exemplars_in_storage", "exemplars"),
            range_query(f"{tsdb}_exemplar_max_exemplars", "exemplars at most"),
        ),
    ]


def _loki_and_jaeger() -> Panels:
    lines_received = sum_by("loki_distributor_lines_received_total")
    discarded = f"sum by (reason) (({DISCARDED} unless {DISCARDED} offset 5m) or increase({DISCARDED}[5m] anchored))"
    spans = {
        "received": "receiver_accepted",
        "refused": "receiver_refused",
        "stored": "exporter_sent",
        "not stored": "exporter_send_failed",
    }
    return [
        time_series_panel(
            6,
            "Loki: bytes received",
            "Log records with their structured metadata, a second.",
            "Bps",
            range_query(sum_by(rate("loki_distributor_bytes_received_total", "")), "all"),
            range_query(
                sum_by(rate("loki_distributor_structured_metadata_bytes_received_total", "")), "of these metadata"
            ),
        ),
        time_series_panel(
            6,
            "Loki: records discarded in 5 minutes",
            "By reason: too old, too large, too many attributes, over a limit of rate or streams. They are lost.",
            "short",
            range_query(or_zero(discarded, lines_received), "{{reason}}"),
            limits=(1,),
        ),
        time_series_panel(
            6,
            "Jaeger: spans",
            "Spans a second. Refused ones are tried again by the Collector; those not stored are lost.",
            "short",
            *(
                range_query(sum_by(rate("", collector_selector(f"{name}_spans", job="jaeger"))), said)
                for said, name in spans.items()
            ),
        ),
        time_series_panel(
            6,
            "Jaeger: disk",
            "What Jaeger keeps, in Badger: spans and their index.",
            "bytes",
            range_query(
                "sum(jaeger_storage_badger_size_bytes_lsm) + sum(jaeger_storage_badger_size_bytes_vlog)", "all"
            ),
        ),
    ]
