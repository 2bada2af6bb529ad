"""Model health: is the data still like the training data, is the model still right, and which predictions say so."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.source import links
from deploy.grafana.source.labels import class_panels, coverage_panels, label_panels
from deploy.grafana.source.models import DRIFT, FEATURE, MODEL, OUTPUTS, VERSION, drift_metric, increase_1h, share
from deploy.grafana.source.panels import (
    Panels,
    build_dashboard,
    query_variable,
    stat_panel,
    table_panel,
    time_series_panel,
)
from deploy.grafana.source.queries import JOB, increase_5m, or_zero, quantile, range_query, rate, sum_by, table_query

UID = "modeltrace-model-health"
# Where alerts begin, without what chance reaches: the rules know how large a sample is.
PSI, JENSEN_SHANNON, KS, NEW_CATEGORIES, MEAN_CHANGE, MISSING, LOW_CONFIDENCE = 0.1, 0.02, 0.1, 0.02, 0.1, 0.02, 0.05
SHARE = "job_model_feature_bin:ml_drift_share:window"
TRAINING = "job_model_feature_bin:ml_drift_training:share"
VERSION_LEGEND = "{{ml_model_name}} {{ml_model_version}}"
CONFIDENCE = "ml_prediction_confidence"


def model_health() -> Dashboard:
    """The dashboard for whoever answers for the model."""
    dashboard = build_dashboard(
        UID,
        "Model health",
        "Whether data and answers are still like those of the training data, and whether the answers are right.",
        {
            "": _summary(),
            "Inputs against the training data, over the last hour": _inputs(),
            "One feature, and the predictions in its bins": _feature(),
            "Data quality": _quality(),
            "Answers": _answers(),
            "True labels, by time of prediction": label_panels(),
            "Classes": class_panels(),
            "Labels as they arrive": coverage_panels(),
        },
    )
    known = f"ml_feature_reference_ratio{{{JOB}}}"
    of_model = f'ml_feature_reference_ratio{{{JOB}, ml_model_name=~"$model"}}'
    bins = f'ml_feature_reference_ratio{{{JOB}, ml_model_name=~"$model", ml_feature_name=~"$feature"}}'
    jobs = "label_values(ml_inference_duration_seconds_count, job)"
    return (
        dashboard.with_variable(query_variable("service", "Service", jobs, multiple=False, regex="/^(?:.+\\/)?(.+)$/"))
        .with_variable(query_variable("model", "Model", f"label_values({known}, ml_model_name)", multiple=True))
        .with_variable(
            query_variable("version", "Version", f"label_values({of_model}, ml_model_version)", multiple=True)
        )
        .with_variable(
            query_variable("feature", "Feature", f"label_values({of_model}, ml_feature_name)", multiple=True)
        )
        .with_variable(query_variable("bin", "Bin", f"label_values({bins}, ml_feature_bin)", multiple=True))
        .links(
            links.dashboard_links(
                "modeltrace-service-health", "Service health", "modeltrace-telemetry-pipeline", "Telemetry pipeline"
            )
        )
    )


def _summary() -> Panels:
    drifting = f'count(count by (ml_feature_name) ({DRIFT}state{{{MODEL}, ml_feature_name!="", window="1h"}} == 1))'
    low = drift_metric("value", "low_confidence", OUTPUTS)
    return [
        stat_panel(
            4,
            "Predictions",
            "Predictions answered, a second.",
            "short",
            range_query(sum_by(rate("ml_predictions_total", MODEL)), ""),
        ),
        stat_panel(
            4,
            "Features that drift",
            "Features of which a statistic exceeds its threshold over the last hour. An alert fires for each.",
            "short",
            range_query(or_zero(drifting), ""),
            limits=(1,),
        ),
        stat_panel(
            4,
            "Missing values",
            "The largest rise of the share of missing values above that of the training data, over the last hour.",
            "percentunit",
            range_query(f"max({drift_metric('value', 'missing', FEATURE)})", ""),
            limits=(MISSING / 2, MISSING),
        ),
        stat_panel(
            4,
            "Low confidence",
            "Share of answers with less confidence than the bundle expects, over the last hour. An alert fires above "
            "5 %, if chance does not explain it.",
            "percentunit",
            range_query(f"max({low})", ""),
            limits=(LOW_CONFIDENCE / 2, LOW_CONFIDENCE),
        ),
        stat_panel(
            4,
            "Accuracy",
            "Share of labelled predictions that were right, by time of prediction: the worst of the versions shown.",
            "percentunit",
            range_query(f"min(ml_evaluation_accuracy_ratio{{{MODEL}}})", ""),
        ),
        stat_panel(
            4,
            "Labelled",
            "Share of the predictions that have a true label by now: the lowest of the versions shown.",
            "percentunit",
            range_query(f"min(ml_evaluation_label_coverage_ratio{{{MODEL}}})", ""),
        ),
    ]


def _inputs() -> Panels:
    by = "ml_model_version, ml_feature_name"
    cells = {
        heading: (unit, table_query(f"max by ({by}) ({drift_metric('value', statistic, FEATURE)})"))
        for heading, unit, statistic in (
            ("PSI", "short", "psi"),
            ("Jensen-Shannon, bits", "short", "jensen_shannon"),
            ("Kolmogorov-Smirnov", "short", "ks"),
            ("Change of mean", "percentunit", "mean_change"),
            ("New categories", "percentunit", "new_categories"),
            ("Missing", "percentunit", "missing"),
        )
    }
    state = f'max by ({by}) ({DRIFT}state{{{FEATURE}, window="1h"}})'
    rows = f'max by ({by}) ({DRIFT}sample{{{FEATURE}, window="1h"}})'
    return [
        time_series_panel(
            12,
            "Population stability index",
            "How far the bins of each feature are from those of the training data. Beside 0.1 it must exceed what "
            "chance makes of so many rows before it counts as drift.",
            "short",
            range_query(drift_metric("value", "psi", FEATURE), "{{ml_feature_name}} · {{ml_model_version}}"),
            limits=(PSI,),
        ),
        time_series_panel(
            12,
            "Change of mean",
            "Change of each feature's mean against the training data, as a share of it.",
            "percentunit",
            range_query(drift_metric("value", "mean_change", FEATURE), "{{ml_feature_name}} · {{ml_model_version}}"),
            limits=(MEAN_CHANGE,),
        ),
        table_panel(
            24,
            "Features",
            "Each statistic over the last hour, the rows it was computed from, and the state: 1 drift, 0 none, -1 not "
            "enough data (fewer than 200 rows), -2 rows repeat, so nothing is known.",
            {"ml_model_version": "Version", "ml_feature_name": "Feature"},
            {"State": ("short", table_query(state)), "Rows": ("short", table_query(rows)), **cells},
        ),
    ]


def _feature() -> Panels:
    bins = f'{FEATURE}, ml_feature_bin=~"$bin"'
    now = f'{SHARE}{{{bins}, window="1h"}}'
    legend = "{{ml_feature_name}} · {{ml_feature_bin}}"
    return [
        time_series_panel(
            12,
            "Share of each bin, last hour",
            "Share of the rows in each bin, and that of the training data.",
            "percentunit",
            range_query(now, legend),
            range_query(f"{TRAINING}{{{bins}}}", f"training · {legend}"),
        ),
        time_series_panel(
            12,
            "Share above that of the training data",
            "By how much each bin has grown against the training data; what shrank is below 0 and not shown.",
            "percentunit",
            range_query(f"{now} - ignoring (window) group_left () {TRAINING}{{{bins}}} > 0", legend),
        ),
        time_series_panel(
            24,
            "Predictions in the bins",
            "Rows a second in each bin. Each diamond is one prediction: it leads to its trace.",
            "short",
            range_query(
                sum_by(rate("ml_feature_observations_total", bins), "ml_feature_name, ml_feature_bin"),
                legend,
                exemplars=True,
            ),
        ),
    ]


def _quality() -> Panels:
    by = "ml_model_version, ml_feature_name, ml_data_violation_reason"
    broken = sum_by(increase_5m("ml_data_violations_total", MODEL), by)
    return [
        time_series_panel(
            12,
            "Violations of the schema in 5 minutes",
            "Values that were missing, of a wrong type, out of range, of an unknown category, or of no known feature, "
            "by feature and reason. Each diamond leads to the trace of a request.",
            "short",
            range_query(
                sum_by(rate("ml_data_violations_total", MODEL), by) + " * 300",
                "{{ml_feature_name}} · {{ml_data_violation_reason}}",
                exemplars=True,
            ),
            links=links.violation_links(),
        ),
        table_panel(
            12,
            "Which features, in 5 minutes",
            "Violations of the last 5 minutes, by feature and reason; without a feature it is none of the model's.",
            {"ml_feature_name": "Feature", "ml_data_violation_reason": "Reason", "ml_model_version": "Version"},
            {
                "Values": (
                    "short",
                    table_query(f"sum by (ml_feature_name, ml_data_violation_reason, ml_model_version) ({broken})"),
                )
            },
        ),
    ]


def _answers() -> Panels:
    answered = increase_1h("ml_predictions_total", MODEL, f"{VERSION}, ml_prediction_label, ml_prediction_bin")
    all_of_them = increase_1h("ml_predictions_total", MODEL, VERSION)
    psi, threshold = (drift_metric(what, "psi", OUTPUTS) for what in ("value", "threshold"))
    return [
        time_series_panel(
            8,
            "Answers, last hour",
            "Share of each label, or of each tenth of a regressor's values before it was served.",
            "percentunit",
            range_query(
                share(answered, all_of_them, VERSION),
                "{{ml_prediction_label}}{{ml_prediction_bin}} · {{ml_model_version}}",
            ),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Drift of answers",
            "Population stability index of the answers, and what it must exceed with so many rows.",
            "short",
            range_query(psi, f"{VERSION_LEGEND}"),
            range_query(threshold, f"threshold · {VERSION_LEGEND}"),
            limits=(PSI,),
        ),
        time_series_panel(
            8,
            "Low confidence, last hour",
            "Share of answers with less confidence than the bundle expects, and what it must exceed.",
            "percentunit",
            range_query(drift_metric("value", "low_confidence", OUTPUTS), VERSION_LEGEND),
            range_query(drift_metric("threshold", "low_confidence", OUTPUTS), f"threshold · {VERSION_LEGEND}"),
            limits=(LOW_CONFIDENCE,),
        ),
        time_series_panel(
            24,
            "Confidence",
            "Quantiles of the probability that the model gave to its answers. Each diamond is one prediction.",
            "percentunit",
            range_query(quantile(0.5, CONFIDENCE, MODEL, VERSION), f"median · {VERSION_LEGEND}", exemplars=True),
            range_query(quantile(0.05, CONFIDENCE, MODEL, VERSION), f"5 % are below · {VERSION_LEGEND}"),
            max_value=1,
        ),
    ]
