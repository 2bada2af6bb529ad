"""The alert rules of the hub. Names, thresholds, durations and labels are those of Prometheus' alert rules.

deploy/prometheus/rules has the rules for Prometheus, and docs/runbooks.md what to do about each alert. A test compares
the two lists.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from modeltrace_hub.durations import parse_duration_ns

# The maximum number of conditions of a rule.
MAX_CONDITIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert rule.

    Attributes:
        name: the name of the alert.
        duration: how long the condition must be true before the alert fires, such as `5m`; `0s`: at once.
        severity: `page` needs action now, `ticket` on the next working day.
        team: who is responsible.
    """

    name: str
    duration: str
    severity: Literal["page", "ticket"]
    team: Literal["ml", "sre"]

    @property
    def duration_ns(self) -> int:
        """The duration in nanoseconds."""
        return parse_duration_ns(self.duration) or 0


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a rule that is true now.

    Attributes:
        rule: the name of the rule.
        labels: what the condition applies to, with the names of Prometheus' labels, sorted by name.
        value: the value that exceeds the threshold.
        threshold: the threshold; None if the rule compares a state.
        summary: one sentence about it.
        path: the page of the hub that shows it, relative to the root of the hub.
    """

    rule: str
    labels: tuple[tuple[str, str], ...]
    value: float
    threshold: float | None
    summary: str
    path: str


# Drift of features and predictions: a statistic in the state "drift".
INPUT_DRIFT: Final = Rule("InputDrift", "5m", "ticket", "ml")
NEW_CATEGORIES: Final = Rule("NewCategories", "5m", "ticket", "ml")
MISSING_VALUES: Final = Rule("MissingValues", "5m", "ticket", "ml")
PREDICTION_DRIFT: Final = Rule("PredictionDrift", "5m", "ticket", "ml")
LOW_CONFIDENCE: Final = Rule("LowConfidence", "5m", "ticket", "ml")

# Figures that a service computes from true labels.
MODEL_VERSION_CONFLICT: Final = Rule("ModelVersionConflict", "10m", "ticket", "ml")
ACCURACY_FELL: Final = Rule("AccuracyFell", "10m", "ticket", "ml")
WORSE_THAN_HELD_OUT: Final = Rule("WorseThanHeldOut", "10m", "ticket", "ml")
CONCEPT_DRIFT: Final = Rule("ConceptDrift", "5m", "page", "ml")
ROC_AUC_FELL: Final = Rule("RocAucFell", "10m", "ticket", "ml")
CALIBRATION_WORSE: Final = Rule("CalibrationWorse", "10m", "ticket", "ml")
INTERVAL_COVERAGE_LOW: Final = Rule("IntervalCoverageLow", "10m", "ticket", "ml")
EXPECTED_ACCURACY_FELL: Final = Rule("ExpectedAccuracyFell", "10m", "ticket", "ml")
LABELS_MISSING: Final = Rule("LabelsMissing", "1h", "ticket", "ml")

# Requests of services.
HIGH_LATENCY: Final = Rule("HighLatency", "1m", "page", "sre")
HIGH_AVERAGE_LATENCY: Final = Rule("HighAverageLatency", "5m", "page", "sre")
REQUEST_FAILURES: Final = Rule("RequestFailures", "0s", "page", "sre")
SERVICE_DOWN: Final = Rule("ServiceDown", "0s", "page", "sre")
NO_PREDICTIONS: Final = Rule("NoPredictions", "5m", "ticket", "ml")
BUDGET_BURNS_FAST: Final = Rule("ErrorBudgetBurnsFast", "1m", "page", "sre")
BUDGET_BURNS_SLOWLY: Final = Rule("ErrorBudgetBurnsSlowly", "15m", "ticket", "sre")

# Telemetry, predictions and labels that a service loses.
SDK_DROPPING: Final = Rule("SdkDroppingTelemetry", "0s", "ticket", "sre")
SDK_EXPORTS_FAILING: Final = Rule("SdkExportsFailing", "0s", "ticket", "sre")
KEPT_ON_DISK: Final = Rule("TelemetryKeptOnDisk", "5m", "ticket", "sre")
SIDECAR_RESTARTING: Final = Rule("SidecarRestarting", "0s", "ticket", "sre")
PREDICTIONS_NOT_STORED: Final = Rule("PredictionsNotStored", "0s", "page", "sre")
LABELS_NOT_STORED: Final = Rule("LabelsNotStored", "0s", "ticket", "ml")
METRIC_OVERFLOW: Final = Rule("MetricOverflow", "1m", "ticket", "ml")

RULES: Final = {
    rule.name: rule
    for rule in (
        *(INPUT_DRIFT, NEW_CATEGORIES, MISSING_VALUES, PREDICTION_DRIFT, LOW_CONFIDENCE),
        *(MODEL_VERSION_CONFLICT, ACCURACY_FELL, WORSE_THAN_HELD_OUT, CONCEPT_DRIFT, LABELS_MISSING),
        *(ROC_AUC_FELL, CALIBRATION_WORSE, INTERVAL_COVERAGE_LOW, EXPECTED_ACCURACY_FELL),
        *(HIGH_LATENCY, HIGH_AVERAGE_LATENCY, REQUEST_FAILURES, SERVICE_DOWN, NO_PREDICTIONS),
        *(BUDGET_BURNS_FAST, BUDGET_BURNS_SLOWLY),
        *(SDK_DROPPING, SDK_EXPORTS_FAILING, KEPT_ON_DISK, SIDECAR_RESTARTING),
        *(PREDICTIONS_NOT_STORED, LABELS_NOT_STORED, METRIC_OVERFLOW),
    )
}


def make_labels(**labels: str | None) -> tuple[tuple[str, str], ...]:
    """Return labels sorted by name, without those that have no value."""
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def format_value(value: float, digits: int = 3) -> str:
    """Format a value for a text: whole and large numbers with all digits, other ones with significant digits."""
    if abs(value) < 1e15 and (value == int(value) or abs(value) >= 10 ** (digits - 1)):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def compare_text(summary: str, value: float, threshold: float | None) -> str:
    """Return a sentence with the value and its threshold, if there is one."""
    if threshold is None:
        return f"{summary}."
    return f"{summary}: {format_value(value)}, threshold {format_value(threshold)}."


def limit_conditions(
    conditions: Iterable[Condition], known: Mapping[str, int] = MappingProxyType({})
) -> tuple[list[Condition], dict[str, int]]:
    """Return at most `MAX_CONDITIONS` conditions of each rule, and the number of the others by rule.

    Args:
        conditions: new conditions.
        known: the number of other conditions by rule, which count.
    """
    counts = Counter(known)
    accepted: list[Condition] = []
    left_out: Counter[str] = Counter()
    for condition in conditions:
        if counts[condition.rule] < MAX_CONDITIONS:
            counts[condition.rule] += 1
            accepted.append(condition)
        else:
            left_out[condition.rule] += 1
    return accepted, dict(left_out)
