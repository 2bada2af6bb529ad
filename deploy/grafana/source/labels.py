"""What true labels say of a model: figures by time of prediction, and the labels themselves as they arrive."""

from deploy.grafana.source.models import MODEL, VERSION, increase_1h
from deploy.grafana.source.panels import Panels, table_panel, time_series_panel
from deploy.grafana.source.queries import quantile, range_query, rate, sum_by, table_query

VERSION_LEGEND = "{{ml_model_name}} {{ml_model_version}}"
# The mean over classes has no class.
CLASS_SELECTOR = f'{MODEL}, ml_evaluation_label!=""'
WARNING, DRIFT = 1, 2


def label_panels() -> Panels:
    """How right each version is."""
    return [
        time_series_panel(
            8,
            "Accuracy",
            "Share of labelled predictions that were right, by version: of those answered within the evaluation's "
            "window, so that labels that come late change no other day.",
            "percentunit",
            range_query(f"ml_evaluation_accuracy_ratio{{{MODEL}}}", VERSION_LEGEND),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Calibration",
            "Expected calibration error: how far confidence and accuracy are apart, over ten bins of the confidence.",
            "percentunit",
            range_query(f"ml_evaluation_calibration_error_ratio{{{MODEL}}}", VERSION_LEGEND),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Concept drift",
            "The rate of errors in the order of predictions: 0 stable, 1 a warning, 2 it has risen.",
            "short",
            range_query(f"ml_concept_drift_level{{{MODEL}}}", VERSION_LEGEND),
            limits=(WARNING, DRIFT),
        ),
    ]


def class_panels() -> Panels:
    """How each class fares."""
    by = {"ml_model_version": "Version", "ml_evaluation_label": "Class"}
    cells = {
        heading: (
            "percentunit",
            table_query(f"max by ({', '.join(by)}) (ml_evaluation_{name}_ratio{{{CLASS_SELECTOR}}})"),
        )
        for heading, name in (("Precision", "precision"), ("Recall", "recall"), ("F1", "f1"))
    }
    cell_of = f"{VERSION}, ml_feedback_label, ml_prediction_label"
    return [
        table_panel(12, "Each class", "Precision, recall and F1 over the evaluation's window.", by, cells),
        table_panel(
            12,
            "Confusion, labels of the last hour",
            "What was true and what was predicted, of the labels that arrived within the hour.",
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
    """How many labels there are, and how late."""
    return [
        time_series_panel(
            8,
            "Labels",
            "Labels a second, by what was true and what was predicted. Each diamond leads to the trace of the "
            "prediction that the label is of.",
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
            "Share of the predictions of the evaluation's window that have a label by now.",
            "percentunit",
            range_query(f"ml_evaluation_label_coverage_ratio{{{MODEL}}}", VERSION_LEGEND),
            max_value=1,
        ),
        time_series_panel(
            8,
            "Delay of labels",
            "Time from a prediction to the arrival of its label.",
            "s",
            range_query(quantile(0.5, "ml_feedback_delay_seconds", MODEL, VERSION), f"median · {VERSION_LEGEND}"),
            range_query(quantile(0.95, "ml_feedback_delay_seconds", MODEL, VERSION), f"p95 · {VERSION_LEGEND}"),
        ),
    ]
