"""Service health: is it answering, fast enough, with what is it busy, and which requests are the evidence."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.source import links
from deploy.grafana.source.panels import (
    MAX_ERRORS,
    MAX_SLOW_SHARE,
    SLOW_SECONDS,
    TOO_SLOW_SECONDS,
    Panels,
    build_dashboard,
    logs_panel,
    query_variable,
    stat_panel,
    table_panel,
    time_series_panel,
    traces_panel,
)
from deploy.grafana.source.queries import (
    JOB,
    WORKER,
    JaegerSearch,
    by_process,
    increase_5m,
    log_query,
    mean,
    or_zero,
    quantile,
    range_query,
    rate,
    share_above,
    sum_by,
    table_query,
)

UID = "modeltrace-service-health"

HTTP = "http_server_request_duration_seconds"
REQUESTS = f'{WORKER}, http_route=~"$route"'
ERRORS = f'{REQUESTS}, http_response_status_code=~"5.."'
INFERENCE = "ml_inference_duration_seconds"
VERSION = "ml_model_name, ml_model_version"
PROCESS_LEGEND = "{{host_name}} · {{process_pid}}"


def by_route(expression: str) -> str:
    """With a name for what has no route: requests to paths that do not exist."""
    return f'label_replace({expression}, "http_route", "none", "http_route", "")'


def service_health() -> Dashboard:
    """The dashboard for whoever gets paged."""
    dashboard = build_dashboard(
        UID,
        "Service health",
        "Rate, errors, duration and saturation of a model service, with the traces and log records behind them.",
        {
            "": _summary(),
            "Requests": _requests(),
            "Model": _model(),
            "Evidence: traces and log records": _evidence(),
            "Workers": _workers(),
            "Host": _host(),
        },
    )
    jobs = "label_values(ml_inference_duration_seconds_count, job)"
    return (
        dashboard.with_variable(query_variable("service", "Service", jobs, multiple=False, regex="/^(?:.+\\/)?(.+)$/"))
        .with_variable(
            query_variable("instance", "Worker", f"label_values(target_info{{{JOB}}}, instance)", multiple=True)
        )
        .with_variable(
            query_variable("route", "Route", f"label_values({HTTP}_count{{{JOB}}}, http_route)", multiple=True)
        )
        .links(
            links.dashboard_links(
                "modeltrace-model-health", "Model health", "modeltrace-telemetry-pipeline", "Telemetry pipeline"
            )
        )
    )


def _summary() -> Panels:
    errors = or_zero(sum_by(increase_5m(f"{HTTP}_count", ERRORS)))
    return [
        stat_panel(
            4,
            "Requests",
            "Requests answered, a second.",
            "reqps",
            range_query(sum_by(rate(f"{HTTP}_count", REQUESTS)), ""),
        ),
        stat_panel(
            4,
            "Server errors, 5 min",
            "Requests answered with a 5xx status in the last 5 minutes. An alert fires above 5.",
            "short",
            range_query(errors, ""),
            limits=(1, MAX_ERRORS),
        ),
        stat_panel(
            4,
            "Above 300 ms",
            "Share of requests that took longer than 300 ms. An alert fires above 5 %.",
            "percentunit",
            range_query(share_above("0.3", HTTP, REQUESTS), ""),
            limits=(MAX_SLOW_SHARE / 5, MAX_SLOW_SHARE),
        ),
        stat_panel(
            4,
            "Mean duration",
            "Mean duration of a request. An alert fires when it stays above 500 ms for 5 minutes.",
            "s",
            range_query(mean(HTTP, REQUESTS), ""),
            limits=(SLOW_SECONDS, TOO_SLOW_SECONDS),
        ),
        stat_panel(
            4,
            "Predictions",
            "Predictions answered, a second; a batch counts once a row. An alert fires when there are none.",
            "short",
            range_query(sum_by(rate("ml_predictions_total", WORKER)), ""),
        ),
        stat_panel(
            4,
            "Workers",
            "Processes that have reported in the last 5 minutes. One that has ended counts until then.",
            "short",
            range_query(f"count(count by (instance) (target_info{{{WORKER}}}))", ""),
        ),
    ]


def _requests() -> Panels:
    every_route = sum_by(rate(f"{HTTP}_count", REQUESTS), "http_route")
    errors = or_zero(sum_by(increase_5m(f"{HTTP}_count", ERRORS), "http_route"), every_route)
    return [
        time_series_panel(
            8,
            "Rate by status",
            "Requests a second, by HTTP status. 4xx are requests that were refused, 5xx those that failed.",
            "reqps",
            range_query(
                sum_by(rate(f"{HTTP}_count", REQUESTS), "http_response_status_code"),
                "{{http_response_status_code}}",
            ),
            links=links.failed_request_links(),
            stacked=True,
        ),
        time_series_panel(
            8,
            "Server errors in 5 minutes",
            "Requests answered with a 5xx status in the 5 minutes before, by route: what the alert counts.",
            "short",
            range_query(by_route(errors), "{{http_route}}"),
            limits=(MAX_ERRORS,),
            links=links.failed_request_links(),
        ),
        time_series_panel(
            8,
            "Above 300 ms by route",
            "Share of requests that took longer than 300 ms: exact, since 300 ms is a bound of the histogram.",
            "percentunit",
            range_query(by_route(share_above("0.3", HTTP, REQUESTS, "http_route")), "{{http_route}}"),
            limits=(MAX_SLOW_SHARE,),
            links=links.slow_request_links(),
        ),
        time_series_panel(
            12,
            "Duration",
            "Quantiles and mean. Each diamond is one request: it leads to its trace. A quantile is no sharper than "
            "the bounds of its histogram, among them 300 and 500 ms.",
            "s",
            range_query(quantile(0.99, HTTP, REQUESTS), "p99", exemplars=True),
            range_query(quantile(0.95, HTTP, REQUESTS), "p95"),
            range_query(quantile(0.5, HTTP, REQUESTS), "p50"),
            range_query(mean(HTTP, REQUESTS), "mean"),
            limits=(SLOW_SECONDS, TOO_SLOW_SECONDS),
            links=links.slow_request_links(),
        ),
        table_panel(
            12,
            "Routes",
            "Each route, now; none is for paths that do not exist.",
            {"http_route": "Route"},
            {
                "Rate": ("reqps", table_query(by_route(every_route))),
                "5xx, 5 min": (
                    "short",
                    table_query(by_route(errors)),
                ),
                "p50": ("s", table_query(by_route(quantile(0.5, HTTP, REQUESTS, "http_route")))),
                "p95": ("s", table_query(by_route(quantile(0.95, HTTP, REQUESTS, "http_route")))),
                "p99": ("s", table_query(by_route(quantile(0.99, HTTP, REQUESTS, "http_route")))),
                "Above 300 ms": (
                    "percentunit",
                    table_query(by_route(share_above("0.3", HTTP, REQUESTS, "http_route"))),
                ),
            },
        ),
    ]


def _model() -> Panels:
    calls = sum_by(rate(f"{INFERENCE}_count", WORKER), VERSION)
    failed = sum_by(increase_5m(f"{INFERENCE}_count", f'{WORKER}, error_type!=""'), VERSION)
    legend = "{{ml_model_name}} {{ml_model_version}}"
    return [
        time_series_panel(
            6,
            "Predictions by version and label",
            "Predictions a second. A label that takes over, or a version that takes none, shows here first.",
            "short",
            range_query(
                sum_by(rate("ml_predictions_total", WORKER), f"{VERSION}, ml_prediction_label"),
                f"{legend} · {{{{ml_prediction_label}}}}",
            ),
            stacked=True,
        ),
        time_series_panel(
            6,
            "Inference, p95 by version",
            "Duration of one call of the model, for all its rows. What a request takes above this is not the model.",
            "s",
            range_query(quantile(0.95, INFERENCE, WORKER, VERSION), legend, exemplars=True),
            limits=(SLOW_SECONDS, TOO_SLOW_SECONDS),
            links=links.slow_request_links(),
        ),
        time_series_panel(
            6,
            "Failed calls of the model in 5 minutes",
            "Calls that raised, by version, in the 5 minutes before. The span `inference` says with what.",
            "short",
            range_query(or_zero(failed, calls), legend),
            limits=(MAX_ERRORS,),
            links=links.failed_request_links(),
        ),
        table_panel(
            6,
            "Versions",
            "Each version that answers now; a rollout shows two.",
            {"ml_model_name": "Model", "ml_model_version": "Version"},
            {
                "Calls/s": ("short", table_query(calls)),
                "p95": ("s", table_query(quantile(0.95, INFERENCE, WORKER, VERSION))),
                "Failed, 5 min": ("short", table_query(or_zero(failed, calls))),
            },
        ),
    ]


def _evidence() -> Panels:
    streams = '{service_name="$service"} | service_instance_id=~"$instance"'
    return [
        traces_panel(
            8,
            "Traces above 300 ms",
            "Up to 20 traces in which a span took longer than 300 ms, the longest first.",
            JaegerSearch(min_duration="300ms"),
            "No trace above 300 ms",
        ),
        traces_panel(
            8,
            "Failed traces",
            "Up to 20 traces with a span that failed, the longest first. Refused requests (4xx) did not fail.",
            JaegerSearch(tags="error=true"),
            "No failed trace",
        ),
        time_series_panel(
            8,
            "Log records by severity",
            "Log records, a second.",
            "short",
            log_query(f"sum by (severity_text) (rate({streams} [$__auto]))", "{{severity_text}}"),
            stacked=True,
        ),
        logs_panel(
            24,
            "Warnings and errors",
            "Records of severity WARN and above, the newest first. `trace_id` among the fields leads to the trace.",
            log_query(f"{streams} | severity_number >= 13"),
        ),
    ]


def _workers() -> Panels:
    return [
        time_series_panel(
            8,
            "Requests by worker",
            "Requests a second, by host and process ID. A kept connection stays with one worker.",
            "reqps",
            range_query(by_process(rate(f"{HTTP}_count", WORKER)), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "Requests in flight",
            "Requests that a worker is busy with. It grows when they arrive faster than they are answered.",
            "short",
            range_query(by_process(f"http_server_active_requests{{{WORKER}}}"), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "CPU",
            "Processor time, in cores. One worker uses little more than one: Python runs one thread at a time.",
            "short",
            range_query(by_process(rate("process_cpu_time_seconds_total", WORKER)), PROCESS_LEGEND),
            limits=(1,),
        ),
        time_series_panel(
            8,
            "Memory",
            "Resident memory. Growth without end is a leak.",
            "bytes",
            range_query(by_process(f"process_memory_usage_bytes{{{WORKER}}}"), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "Threads",
            "Threads of each worker.",
            "short",
            range_query(by_process(f"process_thread_count{{{WORKER}}}"), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "Open files",
            "Open file descriptors, connections among them.",
            "short",
            range_query(by_process(f"process_open_file_descriptor_count{{{WORKER}}}"), PROCESS_LEGEND),
        ),
    ]


def _host() -> Panels:
    busy = '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'
    waiting = "sum by (instance) (rate(node_pressure_%s_waiting_seconds_total[$__rate_interval]))"
    disks = '{fstype!~"tmpfs|ramfs|squashfs|overlay|fuse.*"}'
    free = f"node_filesystem_avail_bytes{disks} / node_filesystem_size_bytes{disks}"
    return [
        time_series_panel(
            6,
            "CPU",
            "Share of the host's processor time that is used.",
            "percentunit",
            range_query(busy, "{{instance}}"),
            limits=(0.8, 0.9),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Memory",
            "Share of the host's memory that is not available.",
            "percentunit",
            range_query("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}"),
            limits=(0.8, 0.9),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Disk",
            "Share of each file system that is used.",
            "percentunit",
            range_query(f"1 - min by (instance, mountpoint) ({free})", "{{mountpoint}}"),
            limits=(0.8, 0.9),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Pressure",
            "Share of time in which something had to wait for processor, memory or disk (PSI of the kernel).",
            "percentunit",
            *(range_query(waiting % what, f"{what} {{{{instance}}}}") for what in ("cpu", "memory", "io")),
        ),
    ]
