"""The dashboard "Telemetry pipeline": whether exported telemetry arrives, and where it is delayed or lost."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.source import links
from deploy.grafana.source.backends import (
    SIGNALS,
    collector_panels,
    collector_selector,
    loki_and_jaeger_panels,
    prometheus_panels,
    refused_expressions,
)
from deploy.grafana.source.panels import Panels, build_dashboard, query_variable, stat_panel, time_series_panel
from deploy.grafana.source.queries import WORKER, by_process, increase_5m, or_zero, quantile, range_query, rate, sum_by

UID = "modeltrace-telemetry-pipeline"

BACKENDS = {"spans": "jaeger", "metric_points": "prometheus", "log_records": "loki"}
# The names of the signals in the metrics of the SDK, which does not count metric points.
SDK_SIGNALS = {"spans": "span", "log_records": "log"}


def telemetry_pipeline() -> Dashboard:
    """Build the dashboard that shows whether the data of the other dashboards is complete."""
    dashboard = build_dashboard(
        UID,
        "Telemetry pipeline",
        "From the services through the Collector to Jaeger, Prometheus and Loki: throughput, queues and losses.",
        {
            "": _summary(),
            "Hop by hop: exported, received, sent and stored": _hops(),
            "In the services": _services(),
            "Collector": collector_panels(),
            "Prometheus": prometheus_panels(),
            "Loki and Jaeger": loki_and_jaeger_panels(),
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


def _summary() -> Panels:
    return [
        stat_panel(
            4,
            "Components down",
            "Components of the stack whose metrics Prometheus cannot scrape.",
            "short",
            range_query('count(up{job!=""} == 0) or vector(0)', ""),
            limits=(1,),
        ),
        stat_panel(
            4,
            "Lost in the services, 5 min",
            "Spans and log records that the services dropped or could not deliver in the last 5 minutes.",
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
            "Spans, metric points and log records that the Collector refused or failed to process. Senders retry them.",
            "short",
            range_query(" + ".join(f"({refused})" for refused in refused_expressions().values()), ""),
            limits=(1,),
        ),
        stat_panel(
            4,
            "Fullest queue",
            "Usage of the fullest sending queue of the Collector. A full queue refuses new items.",
            "percentunit",
            range_query("max(otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)", ""),
            limits=(0.5, 0.8),
        ),
        stat_panel(
            4,
            "Spans: stored / exported",
            "Spans that Jaeger stored in 10 minutes, as a share of those that services exported. Sampling in the "
            "Collector lowers it; services without SDK metrics raise it.",
            "percentunit",
            range_query(f"{_stored('spans', '10m')} / {_exported('spans', '10m')}", ""),
        ),
        stat_panel(
            4,
            "Log records: stored / exported",
            "Log records that Loki received in 10 minutes, as a share of those that the services exported.",
            "percentunit",
            range_query(f"{_stored('log_records', '10m')} / {_exported('log_records', '10m')}", ""),
        ),
    ]


def _loss_counters(of: str) -> list[tuple[str, str]]:
    """Return the counters of losses in the SDKs: full queues and failed exports."""
    dropped = [
        (f"otel_sdk_processor_{kind}_processed_total", f'{of}error_type="queue_full"') for kind in SDK_SIGNALS.values()
    ]
    failed = [(f"otel_sdk_exporter_{kind}_exported_total", f'{of}error_type!=""') for kind in SDK_SIGNALS.values()]
    return dropped + failed


def _exported(signal: str, window: str = "$__rate_interval") -> str:
    return f'sum(rate(otel_sdk_exporter_{SDK_SIGNALS[signal]}_exported_total{{error_type=""}}[{window}]))'


def _received(signal: str, window: str = "$__rate_interval") -> str:
    return f"sum(rate({{{collector_selector(f'receiver_accepted_{signal}')}}}[{window}]))"


def _accepted(signal: str, window: str = "$__rate_interval") -> str:
    """Return the rate of items that entered the pipelines: received, or created by a connector."""
    return f"sum(rate({{{collector_selector(f'processor_memory_limiter_accepted_{signal}')}}}[{window}]))"


def _sent(signal: str, window: str = "$__rate_interval") -> str:
    of = f', exporter=~".+/{BACKENDS[signal]}"'
    return f"sum(rate({{{collector_selector(f'exporter_sent_{signal}', of)}}}[{window}]))"


def _stored(signal: str, window: str = "$__rate_interval") -> str:
    if signal == "spans":
        return f"sum(rate({{{collector_selector('exporter_sent_spans', job='jaeger')}}}[{window}]))"
    return f"sum(rate(loki_distributor_lines_received_total[{window}]))"


def _hops() -> Panels:
    note = "Diverging lines show where items are delayed or lost. SDKs export metrics once a minute by default and "
    note += "components are scraped every 15 s, so short changes appear at different times."
    rates = [
        time_series_panel(
            6,
            f"{SIGNALS[signal]}, hop by hop",
            f"Per second: exported by the SDKs, received by the Collector, sent, stored. {note}",
            "short",
            range_query(_exported(signal), "exported"),
            range_query(_received(signal), "received"),
            range_query(_sent(signal), "sent"),
            range_query(_stored(signal), "stored"),
        )
        for signal in SDK_SIGNALS
    ]
    points = time_series_panel(
        6,
        "Metric points, hop by hop",
        "Per second: received by the Collector, accepted by its pipeline (with the span metrics that it creates), "
        "sent. A histogram point is several samples in Prometheus, so stored samples are shown below.",
        "short",
        range_query(_received("metric_points"), "received"),
        range_query(_accepted("metric_points"), "accepted"),
        range_query(_sent("metric_points"), "sent"),
    )
    hops = {
        "spans, to the Collector": (_received("spans", "10m"), _exported("spans", "10m")),
        "spans, in the Collector": (_sent("spans", "10m"), _accepted("spans", "10m")),
        "spans, in Jaeger": (_stored("spans", "10m"), _sent("spans", "10m")),
        "points, in the Collector": (_sent("metric_points", "10m"), _accepted("metric_points", "10m")),
        "records, to the Collector": (_received("log_records", "10m"), _exported("log_records", "10m")),
        "records, in the Collector": (_sent("log_records", "10m"), _accepted("log_records", "10m")),
        "records, in Loki": (_stored("log_records", "10m"), _sent("log_records", "10m")),
    }
    shares = [range_query(f"clamp_min(1 - {after} / {before}, 0)", hop) for hop, (after, before) in hops.items()]
    loss = time_series_panel(
        6,
        "Missing after each hop",
        "Share of the items that entered a hop in 10 minutes and did not leave it: queued, sampled out or lost. A few "
        "percent are due to different scrape times.",
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
            "Usage of the queues of spans and log records, by worker. Items that do not fit are dropped.",
            "percentunit",
            *fill,
            limits=(0.5, 0.8),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Lost in the service in 5 minutes",
            "Items that did not fit a queue or the spool, and items of failed exports. They are lost.",
            "short",
            *lost,
            limits=(1,),
        ),
        time_series_panel(
            6, "Exported", "Exported spans and log records per second, by process ID.", "short", *exported
        ),
        time_series_panel(
            6,
            "Duration of exports, p95",
            "Duration of each attempt, from the first byte sent to the response or the timeout.",
            "s",
            range_query(duration, "{{otel_component_type}}"),
        ),
        time_series_panel(
            8,
            "Spooled on disk",
            "Items that the endpoint has not accepted yet, by signal. They are sent when it does. If the spool is "
            "full, the oldest items are lost.",
            "short",
            range_query(
                f"sum by (modeltrace_signal) (modeltrace_sidecar_spooled{{{WORKER}}})", "{{modeltrace_signal}}"
            ),
            limits=(1,),
        ),
        time_series_panel(
            8,
            "Failed attempts in 5 minutes",
            "Failed exports, by error. The sidecar keeps the items and retries; the SDK exporters drop them.",
            "short",
            range_query(
                or_zero(sum_by(attempts, failed), sum_by(every, "job")), "{{otel_component_type}}: {{error_type}}"
            ),
            limits=(1,),
        ),
        time_series_panel(
            8,
            "Sidecar restarts in 5 minutes",
            "Sidecars that ended unexpectedly. A new sidecar takes over their items.",
            "short",
            range_query(
                by_process(increase_5m("modeltrace_sidecar_restarts_total", WORKER)), "{{host_name}} · {{process_pid}}"
            ),
            limits=(1,),
        ),
    ]
