"""What true labels say of a model: figures by time of prediction, and the labels themselves as they arrive."""

from deploy.grafana.source.models import MODEL, VERSION, counted
from deploy.grafana.source.panels import Panels, columns, lines
from deploy.grafana.source.queries import cell, quantile, rate, series, total

NAMED = "{{ml_model_name}} {{ml_model_version}}"
# The mean over classes has no class.
OF_CLASS = f'{MODEL}, ml_evaluation_label!=""'
WARNING, DRIFT = 1, 2


def labels() -> Panels:
    """How right each version is."""
    return [
        lines(
            8,
            "Accuracy",
            "Share of labelled predictions that were right, by version: of those answered within the evaluation's "
            "window, so that labels that come late change no other day.",
            "percentunit",
            series(f"ml_evaluation_accuracy_ratio{{{MODEL}}}", NAMED),
            most=1,
        ),
        lines(
            8,
            "Calibration",
            "Expected calibration error: how far confidence and accuracy are apart, over ten bins of the confidence.",
            "percentunit",
            series(f"ml_evaluation_calibration_error_ratio{{{MODEL}}}", NAMED),
            most=1,
        ),
        lines(
            8,
            "Concept drift",
            "The rate of errors in the order of predictions: 0 stable, 1 a warning, 2 it has risen.",
            "short",
            series(f"ml_concept_drift_level{{{MODEL}}}", NAMED),
            limits=(WARNING, DRIFT),
        ),
    ]


def classes() -> Panels:
    """How each class fares."""
    by = {"ml_model_version": "Version", "ml_evaluation_label": "Class"}
    cells = {
        heading: ("percentunit", cell(f"max by ({', '.join(by)}) (ml_evaluation_{name}_ratio{{{OF_CLASS}}})"))
        for heading, name in (("Precision", "precision"), ("Recall", "recall"), ("F1", "f1"))
    }
    cell_of = f"{VERSION}, ml_feedback_label, ml_prediction_label"
    return [
        columns(12, "Each class", "Precision, recall and F1 over the evaluation's window.", by, cells),
        columns(
            12,
            "Confusion, labels of the last hour",
            "What was true and what was predicted, of the labels that arrived within the hour.",
            {"ml_model_version": "Version", "ml_feedback_label": "True", "ml_prediction_label": "Predicted"},
            {
                "Labels": (
                    "short",
                    cell(
                        "sum by (ml_model_version, ml_feedback_label, ml_prediction_label) "
                        f"({counted('ml_feedback_total', MODEL, cell_of)})"
                    ),
                )
            },
        ),
    ]


def coverage() -> Panels:
    """How many labels there are, and how late."""
    return [
        lines(
            8,
            "Labels",
            "Labels a second, by what was true and what was predicted. Each diamond leads to the trace of the "
            "prediction that the label is of.",
            "short",
            series(
                total(rate("ml_feedback_total", MODEL), "ml_feedback_label, ml_prediction_label"),
                "true {{ml_feedback_label}} · predicted {{ml_prediction_label}}",
                exemplars=True,
            ),
        ),
        lines(
            8,
            "Labelled predictions",
            "Share of the predictions of the evaluation's window that have a label by now.",
            "percentunit",
            series(f"ml_evaluation_label_coverage_ratio{{{MODEL}}}", NAMED),
            most=1,
        ),
        lines(
            8,
            "Delay of labels",
            "Time from a prediction to the arrival of its label.",
            "s",
            series(quantile(0.5, "ml_feedback_delay_seconds", MODEL, VERSION), f"median · {NAMED}"),
            series(quantile(0.95, "ml_feedback_delay_seconds", MODEL, VERSION), f"p95 · {NAMED}"),
        ),
    ]
