"""How models are asked about: selectors, and the statistics that Prometheus' rules record."""

from deploy.grafana.source.queries import JOB, sum_by

MODEL = f'{JOB}, ml_model_name=~"$model", ml_model_version=~"$version"'
FEATURE = f'{MODEL}, ml_feature_name=~"$feature"'
# What a model answers has no feature's name.
OUTPUTS = f'{MODEL}, ml_feature_name=""'
VERSION = "ml_model_name, ml_model_version"
DRIFT = "job_model_feature:ml_drift:"
# The window that is shown of those that the rules slide.
SHOWN_WINDOW = "1h"


def increase_1h(metric: str, labels: str, by: str) -> str:
    """How much within that window, exactly."""
    return sum_by(f"increase({metric}{{{labels}}}[{SHOWN_WINDOW}] anchored)", by)


def share(part: str, whole: str, by: str) -> str:
    """What part of a whole, by labels that both have."""
    return f"{part} / on ({by}) group_left () {whole}"


def drift_metric(field: str, statistic: str, labels: str) -> str:
    """A statistic's `value`, `threshold` or `sample`, as rules/drift.yml records it."""
    return f'{DRIFT}{field}{{{labels}, ml_drift_statistic="{statistic}", window="{SHOWN_WINDOW}"}}'
