"""The dashboard "Model health": drift of features and outputs, data quality, and accuracy against true labels."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.source import links
from deploy.grafana.source.labels import class_panels, coverage_panels, label_panels, quality_panels
from deploy.grafana.source.model_files import model_file_panels
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
from modeltrace.monitoring.drift import LOCATION, LOW_CONFIDENCE, MIN_EFFECT, MISSING_VALUES, PSI

UID = "modeltrace-model-health"
SHARE = "job_model_feature_bin:ml_drift_share:window"
TRAINING = "job_model_feature_bin:ml_drift_training:share"
VERSION_LEGEND = "{{ml_model_name}} {{ml_model_version}}"
CONFIDENCE = "ml_prediction_confidence"
LOW_CONFIDENCE_REFERENCE = "job_model:ml_prediction_low_confidence:reference"


def model_health() -> Dashboard:
    """Build the dashboard for the owner of a model."""
    dashboard = build_dashboard(
        UID,
        "Model health",
        "Whether features and predictions still resemble the training data, and whether the predictions are correct.",
        {
            "": _summary(),
            "Features compared with the training data, last hour": _features(),
            "Bins of the selected features": _bins(),
            "Data quality": _quality(),
            "Predictions": _predictions(),
            "True labels, by time of prediction": label_panels(),
            "Probabilities and intervals": quality_panels(),
            "Classes": class_panels(),
            "Labels as they arrive": coverage_panels(),
            "Versions and their model files": model_file_panels(),
        },
    )
    all_models = f"ml_feature_reference_ratio{{{JOB}}}"
    of_model = f'ml_feature_reference_ratio{{{JOB}, ml_model_name=~"$model"}}'
    bins = f'ml_feature_reference_ratio{{{JOB}, ml_model_name=~"$model", ml_feature_name=~"$feature"}}'
    jobs = "label_values(ml_inference_duration_seconds_count, job)"
    return (
        dashboard.with_variable(query_variable("service", "Service", jobs, multiple=False, regex="/^(?:.+\\/)?(.+)$/"))
        .with_variable(query_variable("model", "Model", f"label_values({all_models}, ml_model_name)", multiple=True))
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
            "Predictions per second.",
            "short",
            range_query(sum_by(rate("ml_predictions_total", MODEL)), ""),
        ),
        stat_panel(
            4,
            "Drifting features",
            "Features with a statistic above its threshold in the last hour. An alert fires for each.",
            "short",
            range_query(or_zero(drifting), ""),
            limits=(1,),
        ),
        stat_panel(
            4,
            "Missing values",
            "Largest change of the share of missing values from that of the training data, in the last hour.",
            "percentunit",
            range_query(f"max(abs({drift_metric('value', 'missing', FEATURE)}))", ""),
            limits=(MIN_EFFECT[MISSING_VALUES] / 2, MIN_EFFECT[MISSING_VALUES]),
        ),
        stat_panel(
            4,
            "Increase of low confidence",
            "Increase of the share of predictions below the confidence threshold of the bundle, in the last hour, over "
            "that of held-out rows. An alert fires above 3 percentage points if chance does not explain it.",
            "percentunit",
            range_query(f"max({low} - on (job, {VERSION}) group_left () {LOW_CONFIDENCE_REFERENCE})", ""),
            limits=(MIN_EFFECT[LOW_CONFIDENCE] / 2, MIN_EFFECT[LOW_CONFIDENCE]),
        ),
        stat_panel(
            4,
            "Accuracy",
            "Share of correct labelled predictions, by time of prediction: the lowest of the selected versions.",
            "percentunit",
            range_query(f"min(ml_evaluation_accuracy_ratio{{{MODEL}}})", ""),
        ),
        stat_panel(
            4,
            "Labelled",
            "Share of predictions with a true label: the lowest of the selected versions.",
            "percentunit",
            range_query(f"min(ml_evaluation_label_coverage_ratio{{{MODEL}}})", ""),
        ),
    ]


def _features() -> Panels:
    by = "ml_model_version, ml_feature_name"
    cells = {
        heading: (unit, table_query(f"max by ({by}) ({drift_metric('value', statistic, FEATURE)})"))
        for heading, unit, statistic in (
            ("PSI", "short", "psi"),
            ("Jensen-Shannon, bits", "short", "jensen_shannon"),
            ("Kolmogorov-Smirnov", "short", "ks"),
            ("Location", "short", "location"),
            ("Spread", "short", "spread"),
            ("Share of a category", "percentunit", "share_change"),
            ("Unseen categories", "percentunit", "new_categories"),
            ("Missing", "percentunit", "missing"),
        )
    }
    state = f'max by ({by}) ({DRIFT}state{{{FEATURE}, window="1h"}})'
    rows = f'max by ({by}) ({DRIFT}sample{{{FEATURE}, window="1h"}})'
    return [
        time_series_panel(
            12,
            "Population stability index",
            "Distance of the bins of each feature from those of the training data. It counts as drift if it exceeds "
            "0.1 and what chance explains for the number of rows.",
            "short",
            range_query(drift_metric("value", "psi", FEATURE), "{{ml_feature_name}} · {{ml_model_version}}"),
            limits=(MIN_EFFECT[PSI],),
        ),
        time_series_panel(
            12,
            "Location",
            "Change of the location of each numeric feature from the training data, in standard deviations.",
            "short",
            range_query(drift_metric("value", "location", FEATURE), "{{ml_feature_name}} · {{ml_model_version}}"),
            limits=(MIN_EFFECT[LOCATION],),
        ),
        table_panel(
            24,
            "Features",
            "Each statistic over the last hour, its number of rows, and the state: 1 drift, 0 no drift, -1 too few "
            "rows (fewer than 200), -2 rows repeat, -3 reference too small (fewer than 250 rows).",
            {"ml_model_version": "Version", "ml_feature_name": "Feature"},
            {"State": ("short", table_query(state)), "Rows": ("short", table_query(rows)), **cells},
        ),
    ]


def _bins() -> Panels:
    bins = f'{FEATURE}, ml_feature_bin=~"$bin"'
    now = f'{SHARE}{{{bins}, window="1h"}}'
    legend = "{{ml_feature_name}} · {{ml_feature_bin}}"
    return [
        time_series_panel(
            12,
            "Share of each bin, last hour",
            "Share of the rows in each bin, now and in the training data.",
            "percentunit",
            range_query(now, legend),
            range_query(f"{TRAINING}{{{bins}}}", f"training · {legend}"),
        ),
        time_series_panel(
            12,
            "Increase over the training data",
            "Increase of the share of each bin over the training data. Decreases are not shown.",
            "percentunit",
            range_query(f"{now} - ignoring (window) group_left () {TRAINING}{{{bins}}} > 0", legend),
        ),
        time_series_panel(
            24,
            "Predictions by bin",
            "Rows per second in each bin. Each diamond is an exemplar that links to the trace of a prediction.",
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
    violations = sum_by(increase_5m("ml_data_violations_total", MODEL), by)
    return [
        time_series_panel(
            12,
            "Schema violations in 5 minutes",
            "Missing values, wrong types, values out of range, unknown categories and unknown features, by feature and "
            "reason. Each diamond is an exemplar that links to the trace of a request.",
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
            "Violations by feature, 5 minutes",
            "Violations of the last 5 minutes, by feature and reason. An empty feature is unknown to the model.",
            {"ml_feature_name": "Feature", "ml_data_violation_reason": "Reason", "ml_model_version": "Version"},
            {
                "Values": (
                    "short",
                    table_query(f"sum by (ml_feature_name, ml_data_violation_reason, ml_model_version) ({violations})"),
                )
            },
        ),
    ]


def _predictions() -> Panels:
    by_label = increase_1h("ml_predictions_total", MODEL, f"{VERSION}, ml_prediction_label, ml_prediction_bin")
    all_predictions = increase_1h("ml_predictions_total", MODEL, VERSION)
    psi, threshold = (drift_metric(field, "psi", OUTPUTS) for field in ("value", "threshold"))
    return [
        time_series_panel(
            8,
            "Distribution of predictions, last hour",
            "Share of each label. For a regressor: share of each decile bin of the reference predictions.",
            "percentunit",
            range_query(
                share(by_label, all_predictions, VERSION),
                "{{ml_prediction_label}}{{ml_prediction_bin}} · {{ml_model_version}}",
            ),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Prediction drift",
            "Population stability index of the predictions and of each named output, and its threshold for the number "
            "of rows.",
            "short",
            range_query(psi, f"{VERSION_LEGEND} {{{{ml_output_name}}}}"),
            range_query(threshold, f"threshold · {VERSION_LEGEND} {{{{ml_output_name}}}}"),
            limits=(MIN_EFFECT[PSI],),
        ),
        time_series_panel(
            8,
            "Low confidence, last hour",
            "Share of predictions below the confidence threshold of the bundle, the share of held-out rows, and the "
            "threshold of the share.",
            "percentunit",
            range_query(drift_metric("value", "low_confidence", OUTPUTS), VERSION_LEGEND),
            range_query(drift_metric("threshold", "low_confidence", OUTPUTS), f"threshold · {VERSION_LEGEND}"),
            range_query(f"{LOW_CONFIDENCE_REFERENCE}{{{MODEL}}}", f"held-out rows · {VERSION_LEGEND}"),
        ),
        time_series_panel(
            24,
            "Confidence",
            "Quantiles of the probability of the predicted label. Each diamond is an exemplar: one prediction.",
            "percentunit",
            range_query(quantile(0.5, CONFIDENCE, MODEL, VERSION), f"median · {VERSION_LEGEND}", exemplars=True),
            range_query(quantile(0.05, CONFIDENCE, MODEL, VERSION), f"p5 · {VERSION_LEGEND}"),
            max_value=1,
        ),
    ]
