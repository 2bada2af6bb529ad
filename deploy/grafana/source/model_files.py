"""The panel that tells apart model files with the same name and version."""

from deploy.grafana.source.models import MODEL, SHOWN_WINDOW, VERSION, share
from deploy.grafana.source.panels import Panels, table_panel
from deploy.grafana.source.queries import table_query

FILE = f"{VERSION}, ml_model_hash"
PROCESS = f"job, instance, {VERSION}"


def model_file_panels() -> Panels:
    """Build the table with a row for each model file."""
    predictions = _increase_by_file("ml_predictions_total")
    columns = {
        "Processes": ("short", f"count by ({FILE}) ({_loaded()})"),
        "Predictions": ("short", predictions),
        "Mean confidence": (
            "percentunit",
            share(
                _increase_by_file("ml_prediction_confidence_sum"),
                _increase_by_file("ml_prediction_confidence_count"),
                FILE,
            ),
        ),
        "Low confidence": (
            "percentunit", share(_increase_by_file("ml_predictions_low_confidence_total"), predictions, FILE)
        ),
        "Schema violations": ("short", _increase_by_file("ml_data_violations_total")),
    }  # fmt: skip
    return [
        table_panel(
            24,
            "Model files, last hour",
            "Figures of each model file. One version should have one file: if it has several, the other panels add "
            "them up, except for true labels, and the alert ModelVersionConflict fires.",
            {"ml_model_name": "Model", "ml_model_version": "Version", "ml_model_hash": "SHA-256"},
            {heading: (unit, table_query(expression)) for heading, (unit, expression) in columns.items()},
        )
    ]


def _loaded() -> str:
    """Return the model files of each process. The newest is used if a process restarted with the same instance ID."""
    times = f"max_over_time(timestamp(ml_model_loaded{{{MODEL}}})[{SHOWN_WINDOW}:1m])"
    recent = f"max by (job, instance, {FILE}) ({times})"
    return f"topk by ({PROCESS}) (1, {recent})"


def _increase_by_file(metric: str) -> str:
    """Return the increase of a counter within the displayed window. Counters have no hash, but their process has."""
    by_process = f"sum by ({PROCESS}) (increase({metric}{{{MODEL}}}[{SHOWN_WINDOW}] anchored))"
    return f"sum by ({FILE}) ({by_process} * on ({PROCESS}) group_left (ml_model_hash) ({_loaded()} * 0 + 1))"
