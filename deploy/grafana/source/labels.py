"""Panels about true labels: metrics by time of prediction, and the labels as they arrive."""

from deploy.grafana.source.models import MODEL, VERSION, increase_1h
from deploy.grafana.source.panels import Panels, table_panel, time_series_panel
from deploy.grafana.source.queries import quantile, range_query, rate, sum_by, table_query

# The hash is empty unless several models have the same name and version.
VERSION_LEGEND = "{{ml_model_name}} {{ml_model_version}} {{ml_model_hash}}"
# The mean over all classes has no class label.
CLASS_SELECTOR = f'{MODEL}, ml_evaluation_label!=""'


def label_panels() -> Panels:
    """Build the panels about the accuracy of each version."""
    return [
        time_series_panel(
            6,
            "Accuracy",
            "Share of correct labelled predictions, by version, among the predictions made in the evaluation window. "
            "A late label counts for the time of its prediction.",
            "percentunit",
            range_query(f"ml_evaluation_accuracy_ratio{{{MODEL}}}", VERSION_LEGEND),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Calibration",
            "Expected calibration error: the mean difference between confidence and accuracy over ten bins.",
            "percentunit",
            range_query(f"ml_evaluation_calibration_error_ratio{{{MODEL}}}", VERSION_LEGEND),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Errors above those for held-out rows",
            "Increase of the error over that for rows that the model was not fitted on, divided by its threshold. "
            "Above 1 the model is worse, if there are at least 50 labels. An alert fires then.",
            "short",
            range_query(
                f"ml_evaluation_baseline_increase_ratio{{{MODEL}}} / ml_evaluation_baseline_threshold_ratio{{{MODEL}}}",
                VERSION_LEGEND,
            ),
            limits=(1,),
        ),
        time_series_panel(
            6,
            "Concept drift",
            "Change of the errors in the order of predictions: 0 stable, 1 drift (the errors have increased).",
            "short",
            range_query(f"ml_concept_drift_level{{{MODEL}}}", VERSION_LEGEND),
            limits=(1,),
        ),
    ]


def quality_panels() -> Panels:
    """Build the panels about probabilities, prediction intervals and the estimate without labels."""
    expected = f"ml_evaluation_expected_accuracy_ratio{{{MODEL}}}"
    return [
        time_series_panel(
            8,
            "ROC AUC",
            "Area under the ROC curve, the mean over classes, and its mean of the week that ended yesterday. An alert "
            "fires if it is 5 points lower and chance does not explain it.",
            "short",
            range_query(f'ml_evaluation_roc_auc_ratio{{{MODEL}, ml_evaluation_average="macro"}}', VERSION_LEGEND),
            range_query(f"job_model:ml_evaluation_roc_auc:mean7d{{{MODEL}}}", f"week before · {VERSION_LEGEND}"),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Expected accuracy, without labels",
            "Accuracy of the newest predictions, estimated from their probabilities, with its 95 % interval, and the "
            "mean accuracy of the week that ended yesterday. Set MODELTRACE_EVALUATION_EXPECTED_HOURS to see it.",
            "percentunit",
            range_query(expected, VERSION_LEGEND),
            range_query(f"ml_evaluation_expected_accuracy_low_ratio{{{MODEL}}}", f"low · {VERSION_LEGEND}"),
            range_query(f"ml_evaluation_expected_accuracy_high_ratio{{{MODEL}}}", f"high · {VERSION_LEGEND}"),
            range_query(f"job_model:ml_evaluation_accuracy:mean7d{{{MODEL}}}", f"week before · {VERSION_LEGEND}"),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Coverage of prediction intervals",
            "Share of the labels of a regressor that are inside of the prediction interval, with its 95 % interval, "
            "and the share that should be.",
            "percentunit",
            range_query(f"ml_evaluation_interval_coverage_ratio{{{MODEL}}}", VERSION_LEGEND),
            range_query(f"ml_evaluation_interval_coverage_low_ratio{{{MODEL}}}", f"low · {VERSION_LEGEND}"),
            range_query(f"ml_evaluation_interval_coverage_high_ratio{{{MODEL}}}", f"high · {VERSION_LEGEND}"),
            range_query(f"ml_evaluation_interval_level_ratio{{{MODEL}}}", f"should be · {VERSION_LEGEND}"),
            max_value=1,
        ),
    ]


def class_panels() -> Panels:
    """Build the panels about each class."""
    by = {"ml_model_version": "Version", "ml_model_hash": "SHA-256", "ml_evaluation_label": "Class"}
    cells = {
        heading: (
            "percentunit",
            table_query(f"max by ({', '.join(by)}) (ml_evaluation_{name}_ratio{{{CLASS_SELECTOR}}})"),
        )
        for heading, name in (("Precision", "precision"), ("Recall", "recall"), ("F1", "f1"))
    }
    cell_of = f"{VERSION}, ml_feedback_label, ml_prediction_label"
    return [
        table_panel(12, "Classes", "Precision, recall and F1 over the evaluation window.", by, cells),
        table_panel(
            12,
            "Confusion matrix, labels of the last hour",
            "True and predicted labels, for the labels that arrived in the last hour.",
            {"ml_model_version": "Version", "ml_feedback_label": "True", "ml_prediction_label": "Predicted"},
            {
                "Labels": (
                    "short",
                    table_query(
                        "sum by (ml_model_version, ml_feedback_label, ml_prediction_label) "
                        f"({increase_1h('ml_feedback_total', MODEL, cell_of)})"
                    ),
                )
            },
        ),
    ]


def coverage_panels() -> Panels:
    """Build the panels about the number and the delay of labels."""
    return [
        time_series_panel(
            8,
            "Labels",
            "Labels per second, by true and predicted label. Each diamond is an exemplar that links to the trace of "
            "the labelled prediction.",
            "short",
            range_query(
                sum_by(rate("ml_feedback_total", MODEL), "ml_feedback_label, ml_prediction_label"),
                "true {{ml_feedback_label}} · predicted {{ml_prediction_label}}",
                exemplars=True,
            ),
        ),
        time_series_panel(
            8,
            "Labelled predictions",
            "Share of the predictions in the evaluation window that have a label.",
            "percentunit",
            range_query(f"ml_evaluation_label_coverage_ratio{{{MODEL}}}", VERSION_LEGEND),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Label delay",
            "Time from a prediction to the arrival of its label.",
            "s",
            range_query(quantile(0.5, "ml_feedback_delay_seconds", MODEL, VERSION), f"median · {VERSION_LEGEND}"),
            range_query(quantile(0.95, "ml_feedback_delay_seconds", MODEL, VERSION), f"p95 · {VERSION_LEGEND}"),
        ),
    ]
