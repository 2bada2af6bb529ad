"""Selectors of models and features, and queries of the drift statistics that recording rules compute."""

from deploy.grafana.source.queries import JOB, sum_by

MODEL = f'{JOB}, ml_model_name=~"$model", ml_model_version=~"$version"'
FEATURE = f'{MODEL}, ml_feature_name=~"$feature"'
# Statistics of the outputs of a model have no feature name.
OUTPUTS = f'{MODEL}, ml_feature_name=""'
VERSION = "ml_model_name, ml_model_version"
DRIFT = "job_model_feature:ml_drift:"
# The displayed window. The rules compute several.
SHOWN_WINDOW = "1h"


def increase_1h(metric: str, labels: str, by: str) -> str:
    """Return the exact increase of a counter within the displayed window."""
    return sum_by(f"increase({metric}{{{labels}}}[{SHOWN_WINDOW}] anchored)", by)


def share(part: str, whole: str, by: str) -> str:
    """Return the ratio of a part to a whole, matched by labels that both have."""
    return f"{part} / on ({by}) group_left () {whole}"


def drift_metric(field: str, statistic: str, labels: str) -> str:
    """Return the series of a statistic in rules/drift.yml; `field` is `value`, `threshold` or `sample`."""
    return f'{DRIFT}{field}{{{labels}, ml_drift_statistic="{statistic}", window="{SHOWN_WINDOW}"}}'
