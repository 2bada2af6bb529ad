"""Panels about the Collector, Prometheus, Loki and Jaeger."""

from deploy.grafana.source.panels import Panels, time_series_panel
from deploy.grafana.source.queries import increase_5m, or_zero, range_query, rate, sum_by

SIGNALS = {"spans": "Spans", "metric_points": "Metric points", "log_records": "Log records"}
DISCARDED = "loki_discarded_samples_total"


def collector_selector(metric: str, labels: str = "", job: str = "otelcol") -> str:
    """Return the selector of a Collector counter, with or without the suffix `_total`, which depends on the scrape."""
    return f'__name__=~"otelcol_{metric}(_total)?", job="{job}"{labels}'


def new_counter_increase(metric: str, by: str, like: str) -> str:
    """Return the increase in 5 minutes of a counter that exists only after its first event, with its first value."""
    selector = f"{{{collector_selector(metric)}}}"
    counted = f"({selector} unless {selector} offset 5m) or {increase_5m('', collector_selector(metric))}"
    return or_zero(sum_by(counted, by), sum_by(f"{{{collector_selector(like)}}}", by))


def refused_expressions() -> dict[str, str]:
    """Return the increase of refused and failed items in the Collector, by signal and reason."""
    return {
        f"{title}: {why}": or_zero(sum_by(increase_5m("", collector_selector(f"receiver_{why}_{signal}"))))
        for signal, title in SIGNALS.items()
        for why in ("refused", "failed")
    }


def collector_panels() -> Panels:
    """Build the panels about the Collector."""
    of = "receiver, transport"
    received = [
        range_query(sum_by(rate("", collector_selector(f"receiver_accepted_{s}")), of), f"{{{{receiver}}}} · {t}")
        for s, t in SIGNALS.items()
    ]
    refused = [range_query(expression, what) for what, expression in refused_expressions().items()]
    sent = [
        range_query(sum_by(rate("", collector_selector(f"exporter_sent_{s}")), "exporter"), "{{exporter}}")
        for s in SIGNALS
    ]
    failed = [
        range_query(
            new_counter_increase(f"exporter_{operation}_failed_{signal}", "exporter", f"exporter_sent_{signal}"),
            f"{{{{exporter}}}}: {legend}",
        )
        for signal in SIGNALS
        for operation, legend in (("send", "given up"), ("enqueue", "queue full"))
    ]
    return [
        time_series_panel(8, "Received", "Items per second, by receiver and signal.", "short", *received),
        time_series_panel(
            8,
            "Refused or failed in 5 minutes",
            "Refused: by the memory limit or a full queue; the sender retries, so it is not lost yet. Failed: an "
            "internal error.",
            "short",
            *refused,
            limits=(1,),
        ),
        time_series_panel(8, "Sent", "Items per second, by exporter.", "short", *sent),
        time_series_panel(
            8,
            "Sending queues",
            "Usage of the disk queue of each exporter. It fills while a backend is unavailable and is sent afterwards.",
            "percentunit",
            range_query("otelcol_exporter_queue_size / otelcol_exporter_queue_capacity", "{{exporter}}"),
            limits=(0.5, 0.8),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Items in the queues",
            "Items in the queue of each exporter.",
            "short",
            range_query("otelcol_exporter_queue_size", "{{exporter}}"),
        ),
        time_series_panel(
            8,
            "Dropped by exporters in 5 minutes",
            "Given up: the backend rejected items permanently. Queue full: they could not be queued. Both are lost.",
            "short",
            *failed,
            limits=(1,),
        ),
        time_series_panel(
            12,
            "Memory",
            "Resident memory of the Collector. At 80 % of its limit it refuses data to avoid being killed.",
            "bytes",
            range_query('{__name__=~"otelcol_process_memory_rss(_bytes)?", job="otelcol"}', "{{instance}}"),
        ),
        time_series_panel(
            12,
            "CPU",
            "CPU time of the Collector, in cores.",
            "short",
            range_query(
                'rate({__name__=~"otelcol_process_cpu_seconds(_total)?", job="otelcol"}[$__rate_interval])',
                "{{instance}}",
            ),
        ),
    ]


def prometheus_panels() -> Panels:
    """Build the panels about Prometheus."""
    tsdb = "prometheus_tsdb"
    return [
        time_series_panel(
            6,
            "Samples",
            "Stored samples per second. Out-of-order samples are accepted for 30 minutes, e.g. after an outage.",
            "short",
            range_query(sum_by(rate(f"{tsdb}_head_samples_appended_total", "")), "stored"),
            range_query(sum_by(rate(f"{tsdb}_head_out_of_order_samples_appended_total", "")), "out of order"),
        ),
        time_series_panel(
            6,
            "Samples refused in 5 minutes",
            "Older than the out-of-order window, outside the storable range, or a second value for one timestamp.",
            "short",
            range_query(sum_by(increase_5m(f"{tsdb}_too_old_samples_total", "")), "too old"),
            range_query(sum_by(increase_5m(f"{tsdb}_out_of_bound_samples_total", "")), "out of bounds"),
            range_query(sum_by(increase_5m(f"{tsdb}_out_of_order_samples_total", "")), "out of order"),
            limits=(1,),
        ),
        time_series_panel(
            6,
            "Exemplars",
            "Exemplars link metrics to traces: stored per second, and refused because they are out of order.",
            "short",
            range_query(sum_by(rate(f"{tsdb}_exemplar_exemplars_appended_total", "")), "stored"),
            range_query(sum_by(rate(f"{tsdb}_exemplar_out_of_order_exemplars_total", "")), "refused"),
        ),
        time_series_panel(
            6,
            "Series and exemplars in memory",
            "Series in memory, and exemplars in their ring buffer, where a new one replaces the oldest.",
            "short",
            range_query(f"{tsdb}_head_series", "series"),
            range_query(f"{tsdb}_exemplar_exemplars_in_storage", "exemplars"),
            range_query(f"{tsdb}_exemplar_max_exemplars", "maximum exemplars"),
        ),
    ]


def loki_and_jaeger_panels() -> Panels:
    """Build the panels about Loki and Jaeger."""
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
            "Bytes of log records and their structured metadata, per second.",
            "Bps",
            range_query(sum_by(rate("loki_distributor_bytes_received_total", "")), "all"),
            range_query(sum_by(rate("loki_distributor_structured_metadata_bytes_received_total", "")), "metadata"),
        ),
        time_series_panel(
            6,
            "Loki: records discarded in 5 minutes",
            "By reason: too old, too large, too many attributes, above a rate or stream limit. They are lost.",
            "short",
            range_query(or_zero(discarded, lines_received), "{{reason}}"),
            limits=(1,),
        ),
        time_series_panel(
            6,
            "Jaeger: spans",
            "Spans per second. The Collector retries refused spans; spans that are not stored are lost.",
            "short",
            *(
                range_query(sum_by(rate("", collector_selector(f"{name}_spans", job="jaeger"))), legend)
                for legend, name in spans.items()
            ),
        ),
        time_series_panel(
            6,
            "Jaeger: disk",
            "Size of the Badger store of Jaeger: spans and their index.",
            "bytes",
            range_query(
                "sum(jaeger_storage_badger_size_bytes_lsm) + sum(jaeger_storage_badger_size_bytes_vlog)", "all"
            ),
        ),
    ]
