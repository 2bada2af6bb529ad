"""The alert rules of the hub are those of Prometheus, and each is true for telemetry with its fault only."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.proto.metrics.v1.metrics_pb2 import Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum

from modeltrace_hub.alerts import model_rules, objective_rules, service_rules
from modeltrace_hub.alerts.evaluate import evaluate_rules
from modeltrace_hub.alerts.rules import RULES, Condition, compare_text, format_value
from modeltrace_hub.queries.reader import Queries
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.metric_points import CUMULATIVE, SECOND, Attributes, gauge
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender
from tests.helpers.otlp_values import Value, key_values

ROOT = Path(__file__).parents[2]
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
# Alerts that need what the hub does not have: metrics of the machine, of the Collector and of other components of the
# stack.
ONLY_PROMETHEUS = {
    *("HostCpuBusy", "HostMemoryLow", "HostDiskFilling", "HostDiskFull"),
    *("CollectorQueueFilling", "CollectorDroppingTelemetry", "CollectorRefusingTelemetry", "CollectorDown"),
    *("ComponentDown", "NotificationsFailing", "AlertsNotDelivered", "RulesFailing", "ConfigurationNotLoaded"),
}


def prometheus_alerts() -> dict[str, dict[str, Any]]:
    """Return the alerting rules of Prometheus by name."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def test_the_hub_has_the_alerts_of_prometheus() -> None:
    """A new alert is added to the hub, or to the list of those that it does not have."""
    assert RULES.keys() == prometheus_alerts().keys() - ONLY_PROMETHEUS
    assert prometheus_alerts().keys() >= ONLY_PROMETHEUS


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_the_duration_severity_and_team_of_prometheus(name: str) -> None:
    """`for` and the labels."""
    rule, expected = RULES[name], prometheus_alerts()[name]

    assert rule.duration == expected.get("for", "0s")
    assert {"severity": rule.severity, "team": rule.team} == expected["labels"]


def test_thresholds_are_those_of_prometheus() -> None:
    """The expressions of Prometheus contain the numbers of the hub."""
    rules = {name: re.sub(r"\s+", " ", rule["expr"]).strip() for name, rule in prometheus_alerts().items()}
    records = (ROOT / "deploy/prometheus/rules/model.yml").read_text()

    assert f"> {service_rules.MAX_SLOW_SHARE} " in rules["HighLatency"]
    assert f"* 300 > {service_rules.MAX_SLOW_REQUESTS}" in rules["HighLatency"]
    assert f"> {service_rules.MAX_AVERAGE_SECONDS}" in rules["HighAverageLatency"]
    assert f"> {service_rules.MAX_FAILURES}" in rules["RequestFailures"]
    assert f"> {model_rules.MIN_CHANGE} " in rules["AccuracyFell"]
    assert f"> {model_rules.STANDARD_DEVIATIONS} * sqrt(" in rules["AccuracyFell"]
    assert f"< {model_rules.MIN_COVERAGE_SHARE} * avg_over_time" in rules["LabelsMissing"]
    assert f"(ml_evaluation_labels) >= {model_rules.MIN_LABELS}" in records
    assert f"(ml_evaluation_predictions) >= {model_rules.MIN_PREDICTIONS}" in records
    quality = (ROOT / "deploy/prometheus/rules/quality.yml").read_text()
    for name in ("RocAucFell", "CalibrationWorse", "IntervalCoverageLow", "ExpectedAccuracyFell"):
        assert f"> {model_rules.MIN_CHANGE} " in rules[name]
    for name in ("RocAucFell", "IntervalCoverageLow"):
        assert f"> {model_rules.STANDARD_DEVIATIONS} * sqrt(" in rules[name]
    assert f"> sqrt({model_rules.CALIBRATION_FACTOR} / job_model" in rules["CalibrationWorse"]
    assert f"(ml_evaluation_class_labels) >= {model_rules.MIN_CLASS_LABELS}" in quality
    assert f"(ml_evaluation_interval_labels) >= {model_rules.MIN_LABELS}" in quality
    assert service_rules._PREDICTION_ROUTE.pattern in rules["NoPredictions"]
    for name in ("InputDrift", "NewCategories", "MissingValues", "PredictionDrift", "LowConfidence"):
        assert rules[name].endswith("job_model_feature:ml_drift:state == 1")
    zero = ("SdkDroppingTelemetry", "SdkExportsFailing", "TelemetryKeptOnDisk", "SidecarRestarting")
    for name in (*zero, "PredictionsNotStored", "LabelsNotStored"):
        assert rules[name].endswith("> 0")


def conditions(hub: InProcessHub, **labels: str) -> dict[str, list[Condition]]:
    """Return the conditions that are true now and have these labels, by rule."""
    found: dict[str, list[Condition]] = {}
    for condition in evaluate_rules(Queries(hub.store), time.time_ns()):
        if labels.items() <= dict(condition.labels).items():
            found.setdefault(condition.rule, []).append(condition)
    return found


def counter(name: str, attributes: Mapping[str, Value], *points: tuple[int, float], start: int) -> Metric:
    """Return a cumulative counter with points (time, value)."""
    data = [
        NumberDataPoint(
            start_time_unix_nano=start, time_unix_nano=at, as_double=value, attributes=key_values(dict(attributes))
        )
        for at, value in points
    ]
    return Metric(name=name, sum=Sum(data_points=data, aggregation_temporality=CUMULATIVE, is_monotonic=True))


def requests(
    fast: int, slow: int, *, status: int = 200, at: int, start: int, route: str = "/predict", seconds: float = 1.0
) -> Metric:
    """Return the histogram of the durations of requests, which took some seconds together."""
    attributes: dict[str, Value] = {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": status,
    }
    point = HistogramDataPoint(
        start_time_unix_nano=start,
        time_unix_nano=at,
        count=fast + slow,
        sum=seconds,
        bucket_counts=[0, fast, slow],
        explicit_bounds=[0.1, 0.3],
        attributes=key_values(attributes),
    )
    histogram = Histogram(data_points=[point], aggregation_temporality=CUMULATIVE)
    return Metric(name="http.server.request.duration", unit="s", histogram=histogram)


def active(at: int) -> Metric:
    """Return the number of active requests."""
    return gauge("http.server.active_requests", "{request}", [((("http.request.method", "POST"),), 0.0)], at)


def test_healthy_telemetry_makes_no_rule_true() -> None:
    """Predictions like the training data, requests that are fast, and counters of losses that are zero."""
    now = time.time_ns()
    start = now - 30 * MINUTE
    with in_process_hub() as hub:
        sender = Sender(str(hub.client.base_url))
        service = ModelService(sender)
        service.start()
        service.predict(1000)
        service.export()
        service.evaluate(accuracy=0.9, labels=500, predictions=600, label_coverage=0.8, baseline_state=0)
        sender.metrics(
            active(now),
            requests(1000, 4, at=now, start=start),
            counter("modeltrace.sidecar.restarts", {}, (now, 0), start=start),
            counter("modeltrace.store.rows", {"modeltrace.outcome": "stored"}, (now, 1000), start=start),
            counter("otel.sdk.processor.span.processed", {}, (now, 1000), start=start),
        )
        assert conditions(hub) == {}


def test_drift_is_found_with_value_threshold_and_link() -> None:
    """The statistic of the page of models, within the windows of an hour and of a day."""
    with in_process_hub() as hub:
        service = ModelService(Sender(str(hub.client.base_url)), features=(Feature("age", shift=3.0),))
        service.start()
        service.predict(2000, lowest=0.3)
        service.export()
        found = conditions(hub, window="1h")
        day = conditions(hub, window="1d")
        statistics = hub_statistics(hub)

    assert found.keys() == {"InputDrift", "LowConfidence"}
    assert day.keys() == found.keys()
    by_statistic = {dict(condition.labels)["ml_drift_statistic"]: condition for condition in found["InputDrift"]}
    assert by_statistic.keys() == {name for name, item in statistics.items() if item["state"] == "drift"}
    for name, condition in by_statistic.items():
        assert condition.value == statistics[name]["value"] > condition.threshold == statistics[name]["threshold"]
        assert dict(condition.labels)["ml_model_name"] == "churn"
        assert condition.path == "models?model=churn&window=1h"


def hub_statistics(hub: InProcessHub) -> dict[str, Any]:
    """Return the statistics of the feature age, as the API has them."""
    (version,) = httpx.get(f"{hub.page_url}/api/models/churn", params={"window": "1h"}).json()["versions"]
    statistics: dict[str, Any] = version["features"][0]["statistics"]
    return statistics


def test_figures_of_an_evaluation() -> None:
    """Worse than held-out rows, concept drift that is new, and two models with one version."""
    with in_process_hub() as hub:
        service = ModelService(Sender(str(hub.client.base_url)))
        service.evaluate(
            accuracy=0.7, labels=500, predictions=600, label_coverage=0.8, concept_drift_level=1,
            baseline_state=1, baseline_increase=0.2, baseline_threshold=0.05,
        )  # fmt: skip
        loaded = [((*service.model, ("ml.model.hash", digit * 64)), 1.0) for digit in "ab"]
        service.sender.metrics(gauge("ml.model.loaded", "{model}", loaded, time.time_ns()))
        found = conditions(hub)

    assert found.keys() == {"WorseThanHeldOut", "ConceptDrift", "ModelVersionConflict"}
    (worse,), (conflict,) = found["WorseThanHeldOut"], found["ModelVersionConflict"]
    assert (worse.value, worse.threshold) == (0.2, 0.05)
    assert conflict.value == 2


def test_concept_drift_is_reported_for_a_day() -> None:
    """As in Prometheus, the level must have been lower a day before."""
    with in_process_hub() as hub:
        sender = Sender(str(hub.client.base_url))
        model = (("ml.model.name", "churn"), ("ml.model.version", "1"))
        for age in (0, 24 * HOUR):
            sender.metrics(gauge("ml.concept_drift.level", "1", [(model, 1.0)], time.time_ns() - age - MINUTE))
        assert conditions(hub) == {}


WEEK = {
    "accuracy": 0.9,
    "label_coverage": 0.9,
    "labels": 2000.0,
    "predictions": 2200.0,
    "roc_auc__macro": 0.9,
    "calibration_error": 0.03,
    "class_labels__a": 5000.0,
    "class_labels__b": 400.0,
}
INTERVALS = {"interval.labels": 1000.0, "interval.level": 0.9}
# A model's figures of the week before and of now, and the alert. The cases are those of deploy/prometheus/tests. Three
# standard deviations of the share of 210 labels are 6.2 points.
COMPARED: dict[str, tuple[dict[str, float], dict[str, float], set[str]]] = {
    "fell": (WEEK, {**WEEK, "accuracy": 0.8}, {"AccuracyFell"}),
    "little": (WEEK, {**WEEK, "accuracy": 0.86}, set()),
    "by chance": (WEEK, {**WEEK, "accuracy": 0.84, "labels": 210}, set()),
    "not by chance": (WEEK, {**WEEK, "accuracy": 0.83, "labels": 210}, {"AccuracyFell"}),
    "few labels": (WEEK, {**WEEK, "accuracy": 0.5, "labels": 199}, set()),
    "few before": ({**WEEK, "labels": 199}, {**WEEK, "accuracy": 0.5}, set()),
    "missing": (WEEK, {**WEEK, "label_coverage": 0.4}, {"LabelsMissing"}),
    "fewer": (WEEK, {**WEEK, "label_coverage": 0.5}, set()),
    "few predictions": (WEEK, {**WEEK, "label_coverage": 0.4, "predictions": 199}, set()),
    "same": (WEEK, WEEK, set()),
    "area": (WEEK, {**WEEK, "roc_auc__macro": 0.8}, {"RocAucFell"}),
    "small area": (WEEK, {**WEEK, "roc_auc__macro": 0.86}, set()),
    "other area": (WEEK, {**WEEK, "roc_auc__weighted": 0.1}, set()),
    "rare class": (WEEK, {**WEEK, "roc_auc__macro": 0.5, "class_labels__b": 29}, set()),
    "area by chance": (WEEK, {**WEEK, "roc_auc__macro": 0.8, "class_labels__b": 60}, set()),
    "calibration": (WEEK, {**WEEK, "calibration_error": 0.13}, {"CalibrationWorse"}),
    "small error": (WEEK, {**WEEK, "calibration_error": 0.07}, set()),
    "error by chance": (WEEK, {**WEEK, "calibration_error": 0.13, "labels": 240}, set()),
    "narrow": ({}, {**INTERVALS, "interval.coverage": 0.8}, {"IntervalCoverageLow"}),
    "a little narrow": ({}, {**INTERVALS, "interval.coverage": 0.86}, set()),
    "wide": ({}, {**INTERVALS, "interval.coverage": 0.99}, set()),
    "narrow by chance": ({}, {**INTERVALS, "interval.coverage": 0.84, "interval.labels": 200}, set()),
    "few intervals": ({}, {**INTERVALS, "interval.coverage": 0.5, "interval.labels": 199}, set()),
    "expected": (WEEK, {**WEEK, "expected.accuracy": 0.8, "expected.accuracy.high": 0.82}, {"ExpectedAccuracyFell"}),
    "not expected": (WEEK, {**WEEK, "expected.accuracy": 0.86, "expected.accuracy.high": 0.87}, set()),
    "uncertain": (WEEK, {**WEEK, "expected.accuracy": 0.8, "expected.accuracy.high": 0.95}, set()),
}


def evaluation_gauge(name: str, model: Attributes, value: float, at: int) -> Metric:
    """Return a gauge; `name__macro` is a mean over classes, `name__a` the value of the class a."""
    name, _, part = name.partition("__")
    key = "ml.evaluation.average" if part in ("macro", "weighted") else "ml.evaluation.label"
    return gauge(f"ml.evaluation.{name}", "1", [((*model, (key, part)) if part else model, value)], at)


def test_figures_are_compared_with_the_week_before() -> None:
    """The mean over the evaluations of seven days that ended a day ago. Few labels are no evidence."""
    with in_process_hub() as hub:
        sender = Sender(str(hub.client.base_url))
        for model, (before, now, _) in COMPARED.items():
            attributes: Attributes = (("ml.model.name", model), ("ml.model.version", "1"))
            for age, figures in ((3 * 24 * HOUR, before), (2 * 24 * HOUR, before), (MINUTE, now)):
                at = time.time_ns() - age
                sender.metrics(*(evaluation_gauge(name, attributes, value, at) for name, value in figures.items()))
        found = conditions(hub)

    alerts = {(rule, dict(item.labels)["ml_model_name"]) for rule, items in found.items() for item in items}
    assert alerts == {(rule, model) for model, (_, _, rules) in COMPARED.items() for rule in rules}


def test_texts_have_whole_numbers_and_the_figures_that_are_compared() -> None:
    """1,840 instead of 1.84e+03; a difference is shown with both figures."""
    texts = {
        rule.name: compare_text(text.format(name="churn"), value, threshold)
        for mean, figures, _ in (COMPARED["not by chance"], COMPARED["narrow"])
        for rule, value, threshold, text in model_rules._comparisons(parse(figures), parse(mean))
        if value > threshold
    }

    assert [format_value(value) for value in (1840, 40750.0, 999.7, 7.0, 0.05, 0.04567, 1e-9, 1e20)] == [
        *("1,840", "40,750", "1,000", "7", "0.05", "0.0457", "1e-09", "1e+20")
    ]
    assert format_value(float("inf")) == "inf"
    assert "enclose the share 0.8 of the labels, nominal share 0.9" in texts["IntervalCoverageLow"]
    assert "is 0.83 (mean of the week before: 0.9); the fall: 0.07" in texts["AccuracyFell"]


def parse(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures without the parts of their names."""
    return {name.partition("__")[0]: value for name, value in figures.items()}


LOSSES: list[tuple[str, Callable[[int, int], list[Metric]], float]] = [
    ("HighLatency", lambda at, start: [requests(54, 6, at=at, start=start, route="/feedback")], 0.1),
    (
        "HighAverageLatency",
        lambda at, start: [requests(10, 0, seconds=6.0, at=at, start=start, route="/docs")],
        0.6,
    ),
    ("RequestFailures", lambda at, start: [requests(6, 0, status=503, at=at, start=start, route="/model")], 6),
    ("NoPredictions", lambda at, start: [requests(7, 0, status=422, at=at, start=start)], 7),
    (
        "SdkDroppingTelemetry",
        lambda at, start: [
            counter("otel.sdk.processor.log.processed", {"error.type": "queue_full"}, (at, 3), start=start)
        ],
        3,
    ),
    (
        "SdkExportsFailing",
        lambda at, start: [counter("otel.sdk.exporter.span.exported", {"error.type": "503"}, (at, 4), start=start)],
        4,
    ),
    (
        "TelemetryKeptOnDisk",
        lambda at, _: [gauge("modeltrace.sidecar.spooled", "1", [((("modeltrace.signal", "traces"),), 9.0)], at)],
        9,
    ),
    ("SidecarRestarting", lambda at, start: [counter("modeltrace.sidecar.restarts", {}, (at, 2), start=start)], 2),
    (
        "PredictionsNotStored",
        lambda at, start: [counter("modeltrace.store.rows", {"modeltrace.outcome": "lost"}, (at, 5), start=start)],
        5,
    ),
    (
        "LabelsNotStored",
        lambda at, start: [counter("ml.feedback.rejected", {"error.type": "store_unavailable"}, (at, 6), start=start)],
        6,
    ),
    (
        "MetricOverflow",
        lambda at, start: [counter("shop.orders", {"otel.metric.overflow": True}, (at, 6), start=start)],
        1,
    ),
]


def test_a_fault_of_a_service_makes_its_rule_true() -> None:
    """That rule only, with the value, for the service that has the fault only, and only while it is recent."""
    now = time.time_ns()
    with in_process_hub() as hub:
        url = str(hub.client.base_url)
        Sender(url, service="healthy").metrics(active(now), requests(100, 0, at=now, start=now - HOUR, route="/model"))
        for rule, metrics, _ in LOSSES:
            Sender(url, service=rule).metrics(active(now), *metrics(now - SECOND, now - 2 * MINUTE))
            Sender(url, service="earlier").metrics(active(now), *metrics(now - 30 * MINUTE, now - 32 * MINUTE))
        found = [item for items in conditions(hub).values() for item in items]

    assert sorted((item.rule, dict(item.labels)["job"], item.value) for item in found) == sorted(
        (rule, rule, value) for rule, _, value in LOSSES
    )


def test_burn_rates_are_those_of_prometheus() -> None:
    """The factors, the windows, the objectives and the smallest number of requests."""
    alerts = prometheus_alerts()
    windows = {5 * MINUTE: "5m", 30 * MINUTE: "30m", 24 * HOUR: "1d", 72 * HOUR: "3d"}
    windows |= {hours * HOUR: f"{hours}h" for hours in (1, 2, 6)}
    for name, burns in (
        ("ErrorBudgetBurnsFast", objective_rules.FAST),
        ("ErrorBudgetBurnsSlowly", objective_rules.SLOW),
    ):
        factor = r"ratio_rate(\w+) > on \(slo\) group_left \(\) (?:([\d.]+) \* )?\("
        assert [(window, float(rate or 1)) for window, rate in re.findall(factor, alerts[name]["expr"])] == [
            (windows[length], burn.rate) for burn in burns for length in (burn.long_ns, burn.short_ns)
        ]
        assert f"increase6h >= {objective_rules.MIN_REQUESTS}" in alerts[name]["expr"]
    records = (ROOT / "deploy/prometheus/rules/objectives.yml").read_text()
    for objective, share in objective_rules.OBJECTIVES.items():
        assert re.search(rf"labels: {{slo: {objective}}}\s+expr: vector\({share}\)", records)


# Requests of a service: age of the export in hours, fast, slow and failed ones; and the objectives that each rule is
# true for. The error budget is 0.1 % of failures and 1 % of slow requests.
BUDGETS: dict[str, tuple[list[tuple[float, int, int, int]], set[tuple[str, str]]]] = {
    "within": ([(0, 9960, 40, 0)], set()),
    "few": ([(0, 49, 25, 25)], set()),
    "fast": ([(0, 980, 0, 20)], {("ErrorBudgetBurnsFast", "availability"), ("ErrorBudgetBurnsSlowly", "availability")}),
    "slow requests": ([(0, 800, 200, 0)], {("ErrorBudgetBurnsFast", "latency"), ("ErrorBudgetBurnsSlowly", "latency")}),
    "ended": ([(3, 500, 0, 500), (0, 1000, 0, 0)], {("ErrorBudgetBurnsSlowly", "availability")}),
    "slowly": ([(20, 9900, 0, 40), (1.5, 9900, 0, 40), (0, 100, 0, 0)], {("ErrorBudgetBurnsSlowly", "availability")}),
    "days ago": ([(30, 100, 0, 900), (0, 1000, 0, 0)], set()),
}


def test_error_budgets_burn_in_a_long_and_a_short_window() -> None:
    """A problem that has ended pages nobody, and a service with few requests has no share."""
    now = time.time_ns()
    with in_process_hub() as hub:
        for service, (exports, _) in BUDGETS.items():
            sender = Sender(str(hub.client.base_url), service=service)
            start = now - 40 * HOUR
            totals = [0, 0, 0]
            # An export before the six hours: without it, the first value in them is no increase.
            for age, *counts in sorted([(6.5, 0, 0, 0), *exports], reverse=True):
                totals = [before + count for before, count in zip(totals, counts, strict=True)]
                at = now - round(age * HOUR) - SECOND
                sender.metrics(
                    active(now),
                    requests(*totals[:2], at=at, start=start, route="/model"),
                    requests(totals[2], 0, status=503, at=at, start=start, route="/model"),
                )
        found = conditions(hub)

    budgets = [item for name in found for item in found[name] if name.startswith("ErrorBudget")]
    assert {(item.rule, dict(item.labels)["job"], dict(item.labels)["slo"]) for item in budgets} == {
        (rule, service, objective) for service, (_, expected) in BUDGETS.items() for rule, objective in expected
    }
    assert all(item.value > (item.threshold or 0) for item in budgets)


def test_services_with_the_same_instance_id_do_not_share_their_faults() -> None:
    """Instance IDs that are equal or empty: only the service that has the faults is reported."""
    now = time.time_ns()
    for instance in ("1", ""):
        with in_process_hub() as hub:
            url = str(hub.client.base_url)
            for service in ("healthy", "faulty"):
                metrics = [active(now), requests(100, 0, at=now, start=now - HOUR, route="/model")]
                if service == "faulty":
                    metrics += [item for _, create, _ in LOSSES for item in create(now - SECOND, now - 2 * MINUTE)]
                Sender(url, service=service, shared_instance_id=instance).metrics(*metrics)
            found = [item for items in conditions(hub).values() for item in items]

        assert {dict(item.labels)["job"] for item in found} == {"faulty"}
        assert len({item.rule for item in found}) > 5


def test_a_service_that_sends_no_metrics_is_down() -> None:
    """For an hour."""
    now = time.time_ns()
    with in_process_hub() as hub:
        url = str(hub.client.base_url)
        for name, age in (("running", MINUTE), ("down", 10 * MINUTE), ("forgotten", 2 * HOUR)):
            Sender(url, service=name).metrics(active(now - age))
        found = conditions(hub)

    assert {rule: [dict(item.labels)["job"] for item in items] for rule, items in found.items()} == {
        "ServiceDown": ["down"]
    }


def test_a_service_that_stops_predicting_is_reported() -> None:
    """Predictions within the hour, and none within ten minutes."""
    now = time.time_ns()
    model: dict[str, Value] = {"ml.model.name": "churn", "ml.model.version": "1"}
    with in_process_hub() as hub:
        url = str(hub.client.base_url)
        points = ((now - 20 * MINUTE, 50), (now, 50))
        Sender(url, service="idle").metrics(
            active(now), counter("ml.predictions", model, *points, start=now - 30 * MINUTE)
        )
        points = ((now - 20 * MINUTE, 50), (now, 60))
        Sender(url, service="busy").metrics(
            active(now), counter("ml.predictions", model, *points, start=now - 30 * MINUTE)
        )
        found = conditions(hub)

    assert [dict(item.labels)["job"] for item in found["NoPredictions"]] == ["idle"]
