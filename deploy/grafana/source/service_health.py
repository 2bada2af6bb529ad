"""The dashboard "Service health": rate, errors, duration and saturation, with the traces and logs behind them."""

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
from deploy.grafana.source.processes import HTTP, host_panels, worker_panels
from deploy.grafana.source.queries import (
    JOB,
    WORKER,
    JaegerSearch,
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

REQUESTS = f'{WORKER}, http_route=~"$route"'
ERRORS = f'{REQUESTS}, http_response_status_code=~"5.."'
INFERENCE = "ml_inference_duration_seconds"
VERSION = "ml_model_name, ml_model_version"


def by_route(expression: str) -> str:
    """Name the route of requests to unknown paths `none`."""
    return f'label_replace({expression}, "http_route", "none", "http_route", "")'


def service_health() -> Dashboard:
    """Build the dashboard for the engineer on call."""
    dashboard = build_dashboard(
        UID,
        "Service health",
        "Rate, errors, duration and saturation of a model service, with the traces and log records behind them.",
        {
            "": _summary(),
            "Requests": _requests(),
            "Model": _model(),
            "Drill-down: traces and log records": _drilldown(),
            "Workers": worker_panels(),
            "Host": host_panels(),
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
            "Answered requests per second.",
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
            "Mean duration of a request. An alert fires if it stays above 500 ms for 5 minutes.",
            "s",
            range_query(mean(HTTP, REQUESTS), ""),
            limits=(SLOW_SECONDS, TOO_SLOW_SECONDS),
        ),
        stat_panel(
            4,
            "Predictions",
            "Predictions per second; each row of a batch counts. An alert fires if there are none.",
            "short",
            range_query(sum_by(rate("ml_predictions_total", WORKER)), ""),
        ),
        stat_panel(
            4,
            "Workers",
            "Processes that have exported metrics in the last 5 minutes, including those that have ended since then.",
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
            "Requests per second, by HTTP status. 4xx: rejected requests. 5xx: failed requests.",
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
            "Requests answered with a 5xx status in the last 5 minutes, by route. The alert uses the same count.",
            "short",
            range_query(by_route(errors), "{{http_route}}"),
            limits=(MAX_ERRORS,),
            links=links.failed_request_links(),
        ),
        time_series_panel(
            8,
            "Above 300 ms by route",
            "Share of requests that took longer than 300 ms. It is exact, because 300 ms is a bucket bound.",
            "percentunit",
            range_query(by_route(share_above("0.3", HTTP, REQUESTS, "http_route")), "{{http_route}}"),
            limits=(MAX_SLOW_SHARE,),
            links=links.slow_request_links(),
        ),
        time_series_panel(
            12,
            "Duration",
            "Quantiles and mean. Each diamond is an exemplar that links to the trace of a request. Quantiles are as "
            "precise as the bucket bounds of the histogram, which include 300 and 500 ms.",
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
            "Current values of each route. `none` stands for unknown paths.",
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
            "Predictions per second. Shows a label that becomes dominant, or a version without predictions.",
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
            "Duration of one call of the model for all its rows. The rest of a request's duration is not the model.",
            "s",
            range_query(quantile(0.95, INFERENCE, WORKER, VERSION), legend, exemplars=True),
            limits=(SLOW_SECONDS, TOO_SLOW_SECONDS),
            links=links.slow_request_links(),
        ),
        time_series_panel(
            6,
            "Failed calls of the model in 5 minutes",
            "Calls that raised an exception in the last 5 minutes, by version. The span `inference` records it.",
            "short",
            range_query(or_zero(failed, calls), legend),
            limits=(MAX_ERRORS,),
            links=links.failed_request_links(),
        ),
        table_panel(
            6,
            "Versions",
            "Each version that predicts now; during a rollout there are two.",
            {"ml_model_name": "Model", "ml_model_version": "Version"},
            {
                "Calls/s": ("short", table_query(calls)),
                "p95": ("s", table_query(quantile(0.95, INFERENCE, WORKER, VERSION))),
                "Failed, 5 min": ("short", table_query(or_zero(failed, calls))),
            },
        ),
    ]


def _drilldown() -> Panels:
    streams = '{service_name="$service"} | service_instance_id=~"$instance"'
    return [
        traces_panel(
            8,
            "Traces above 300 ms",
            "Up to 20 traces with a span longer than 300 ms, longest first.",
            JaegerSearch(min_duration="300ms"),
            "No trace above 300 ms",
        ),
        traces_panel(
            8,
            "Failed traces",
            "Up to 20 traces with a failed span, longest first. Rejected requests (4xx) are not failed.",
            JaegerSearch(tags="error=true"),
            "No failed trace",
        ),
        time_series_panel(
            8,
            "Log records by severity",
            "Log records per second.",
            "short",
            log_query(f"sum by (severity_text) (rate({streams} [$__auto]))", "{{severity_text}}"),
            stacked=True,
        ),
        logs_panel(
            24,
            "Warnings and errors",
            "Records of severity WARN and above, newest first. The field `trace_id` links to the trace.",
            log_query(f"{streams} | severity_number >= 13"),
        ),
    ]
