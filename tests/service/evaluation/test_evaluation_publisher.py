"""One of several processes exports the metrics of a model; another one takes over when it ends."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from modeltrace.evaluation.baseline_comparison import compare_error_rates
from modeltrace.evaluation.expected_rows import estimate_performance
from modeltrace.evaluation.publisher import RUNS_METRIC, Publisher, PublisherConfig, start_publisher
from modeltrace.settings import read_settings
from modeltrace.store.rows import StoredLabel, to_json
from modeltrace.store.selection import Selection
from modeltrace.store.store import open_store
from modeltrace.telemetry.metrics.model_catalog import Baseline, ModelCatalog
from modeltrace.telemetry.metrics.views import build_views
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.factories import stored_row
from tests.helpers.postgres import Postgres
from tests.helpers.processes import wait_until
from tests.helpers.services import ID_KEY, running_service

pytestmark = pytest.mark.slow

HOUR = 3600 * 10**9
NAME = "churn"


class Replica:
    """A publisher with an in-memory metric reader."""

    def __init__(
        self,
        url: str,
        *,
        names: tuple[str, ...] = (NAME,),
        tolerance: float | None = None,
        baseline: Baseline | None = None,
        expected_window: int = 0,
    ) -> None:
        self._reader = InMemoryMetricReader()
        meter = MeterProvider([self._reader], views=build_views(), shutdown_on_exit=False).get_meter("test")
        self.models = dict.fromkeys(names, ("a", "b"))
        baselines = {(NAME, "1", "f" * 64): baseline} if baseline else {}
        self.publisher = Publisher(
            PublisherConfig(url, lambda: self.models, lambda: baselines, 0.02, HOUR, tolerance, expected_window), meter
        )

    def points(self) -> dict[tuple[str, ...], float]:
        """Return all points, by metric name and attributes except the model's name."""
        data = self._reader.get_metrics_data()
        return {
            (metric.name.removeprefix("ml."), *(str(v) for k, v in point.attributes.items() if k != "ml.model.name")): (
                point.value
            )
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if isinstance(point.value, int | float)
        }

    def publishes(self) -> bool:
        """Return whether there are points of metrics."""
        return any(name.startswith(("evaluation.", "concept_drift.")) for name, *_ in self.points())


@pytest.fixture
def replicas(store_url: str) -> Iterator[list[Replica]]:
    """Two replicas with the same store."""
    open_store(store_url).close()
    both = [Replica(store_url), Replica(store_url)]
    yield both
    for replica in both:
        replica.publisher.stop()
        replica.publisher.close(time.monotonic() + 5)


def store_predictions(
    url: str,
    predictions: Sequence[tuple[Any, Any, float | None]],
    *,
    version: str = "1",
    name: str = NAME,
    age: int = HOUR // 2,
) -> None:
    """Store predictions with labels and confidences, by default of this hour."""
    now = time.time_ns() - age
    model = ModelInfo(name, version, "f" * 64, ())
    rows = [
        stored_row(
            f"{name}-{version}-{age}-{n}",
            time=now + n,
            model=model,
            inputs=None,
            label=None if isinstance(predicted, float) else to_json(predicted),
            value=predicted if isinstance(predicted, float) else None,
            confidence=confidence,
        )
        for n, (predicted, _, confidence) in enumerate(predictions)
    ]
    with open_store(url) as store:
        store.add_predictions(rows)
        store.add_labels(
            [
                StoredLabel(row.prediction_id, true, row.time + 2 * 10**9, row.time)
                for row, (_, true, _) in zip(rows, predictions, strict=True)
                if true is not ...
            ]
        )


def metric_points(replica: Replica) -> dict[tuple[str, ...], float]:
    """Return the points of the metrics, without those that change with every run."""
    return {name: value for name, value in replica.points().items() if name[0] not in (RUNS_METRIC, "evaluation.time")}


@pytest.mark.parametrize(("earlier", "arrived", "state"), [(400, 0, 0), (200, 0, -1), (400, 60, 1)])
def test_the_accuracy_that_is_expected_without_labels(store_url: str, earlier: int, arrived: int, state: int) -> None:
    """It equals `estimate_performance`, and is published only if it can be trusted."""
    confidences = [0.6, 0.7, 0.8, 0.9]
    labelled = [("a", "a" if n % 10 < 6 + n % 4 else "b", confidences[n % 4]) for n in range(earlier)]
    store_predictions(store_url, labelled, age=3 * HOUR)
    recent = [("a", "b" if n < arrived else ..., 0.6 if n % 3 else 0.9) for n in range(300)]
    store_predictions(store_url, recent)
    with open_store(store_url) as store:
        selection = Selection(since=time.time_ns() - HOUR, include_synthetic=False)
        (expected,) = estimate_performance(store, selection)
        (newest,) = estimate_performance(store, selection, max_predictions=100)
    replica = Replica(store_url, expected_window=HOUR)
    try:
        wait_until(replica.publishes, description="metrics")
        points = metric_points(replica)
    finally:
        replica.publisher.stop()
        replica.publisher.close(time.monotonic() + 5)

    prefix = "evaluation.expected."
    found = {key[0].removeprefix(prefix): value for key, value in points.items() if key[0].startswith(prefix)}
    assert found.pop("state") == state
    assert newest.predictions == 100
    if state:
        assert found == {}
    else:
        assert expected.accuracy is not None
        estimate, low, high = expected.accuracy.estimate, expected.accuracy.low, expected.accuracy.high
        assert found == pytest.approx({"accuracy": estimate, "accuracy.low": low, "accuracy.high": high}, abs=1e-9)
        assert low < estimate < high


def test_one_replica_publishes_and_the_other_takes_over(store_url: str, replicas: list[Replica]) -> None:
    """The second replica has no series until the first one has ended, and then the same points."""
    store_predictions(store_url, [("a", "a", 0.9)] * 3 + [("a", "b", 0.6)])
    first = wait_until(
        lambda: next((replica for replica in replicas if replica.publishes()), None), description="metrics"
    )
    (second,) = (replica for replica in replicas if replica is not first)
    wait_until(lambda: first.points().get((RUNS_METRIC, "done"), 0) > 5, description="several runs")
    before = metric_points(first)

    assert second.points() == {}

    first.publisher.stop()
    wait_until(second.publishes, description="metrics of the other replica")
    assert metric_points(second) == before


def test_a_model_that_is_served_later_is_published_too(store_url: str) -> None:
    """A later model has its own name and classes; metrics of the earlier model continue, as labels may still arrive."""
    store_predictions(store_url, [("a", "a", 0.9)])
    store_predictions(store_url, [("c", "c", 0.9)], name="another")
    replica = Replica(store_url)
    wait_until(replica.publishes, description="metrics")
    assert ("evaluation.f1", "1", "c") not in replica.points()

    replica.models = {**replica.models, "another": ("c",)}
    wait_until(lambda: ("evaluation.f1", "1", "c") in replica.points(), description="metrics of the other model")
    assert ("evaluation.f1", "1", "a") in replica.points()
    replica.publisher.stop()


def test_gauges_of_a_classifier(store_url: str) -> None:
    """There are points of each version of the model, of no other model, and only of the bundle's classes."""
    store_predictions(store_url, [("a", "a", 0.75)] * 3 + [("b", "a", 0.75), ("b", "b", 0.25), ("c", ..., 0.5)])
    store_predictions(store_url, [("a", "c", None)], version="2")
    store_predictions(store_url, [("a", "a", None)], name="another")

    baseline = Baseline(100, 0.25)
    replica = Replica(store_url, baseline=baseline)
    started = time.time()
    wait_until(replica.publishes, description="metrics")
    replica.publisher.stop()

    assert started <= replica.points()["evaluation.time", "1"] <= time.time()
    points = metric_points(replica)
    comparison = compare_error_rates(0.2, 5, baseline)
    assert {name: value for name, value in points.items() if name[1] == "1"} == pytest.approx(
        {
            ("evaluation.accuracy", "1"): 0.8,
            ("evaluation.balanced_accuracy", "1"): 0.875,
            ("evaluation.matthews_correlation", "1"): 0.375**0.5,
            ("evaluation.precision", "1", "weighted"): 0.9,
            ("evaluation.recall", "1", "weighted"): 0.8,
            ("evaluation.f1", "1", "weighted"): (4 * 6 / 7 + 2 / 3) / 5,
            ("evaluation.precision", "1", "macro"): 0.75,
            ("evaluation.precision", "1", "a"): 1.0,
            ("evaluation.precision", "1", "b"): 0.5,
            ("evaluation.recall", "1", "macro"): 0.875,
            ("evaluation.recall", "1", "a"): 0.75,
            ("evaluation.recall", "1", "b"): 1.0,
            ("evaluation.f1", "1", "macro"): (6 / 7 + 2 / 3) / 2,
            ("evaluation.f1", "1", "a"): 6 / 7,
            ("evaluation.f1", "1", "b"): 2 / 3,
            ("evaluation.class_labels", "1", "a"): 4,
            ("evaluation.class_labels", "1", "b"): 1,
            ("evaluation.calibration_error", "1"): 0.15,
            ("evaluation.top_label_brier_score", "1"): (3 * 0.25**2 + 2 * 0.75**2) / 5,
            ("evaluation.baseline.error", "1"): 0.25,
            ("evaluation.baseline.increase", "1"): -0.05,
            ("evaluation.baseline.standard_error", "1"): comparison.increase_standard_error,
            ("evaluation.baseline.threshold", "1"): comparison.threshold,
            ("evaluation.baseline.state", "1"): -1,
            ("evaluation.window", "1"): 3600,
            ("evaluation.predictions", "1"): 6,
            ("evaluation.labels", "1"): 5,
            ("evaluation.label_coverage", "1"): 5 / 6,
            ("evaluation.label_delay", "1", "0.5"): 2.0,
            ("evaluation.label_delay", "1", "0.95"): 2.0,
            ("concept_drift.level", "1"): 0,
            ("concept_drift.error_rate", "1"): 0.2,
        }
    )
    assert {name for name in points if name[1] == "2" and len(name) > 2} == {
        *(
            (f"evaluation.{name}", "2", label)
            for name in ("precision", "recall", "f1") for label in ("a", "macro", "weighted")
        ),
        ("evaluation.class_labels", "2", "a"),
        ("evaluation.label_delay", "2", "0.5"), ("evaluation.label_delay", "2", "0.95"),
    }  # fmt: skip
    assert {name[1] for name in points} == {"1", "2"}


def test_gauges_of_a_regressor(store_url: str) -> None:
    """Without a tolerance there is a level of drift, but no error rate."""
    store_predictions(store_url, [(1.0, 2.0, None), (2.0, 2.0, None), (3.0, 5.0, None)])
    plain = Replica(store_url, baseline=Baseline(100, 0.5, 0.5))
    wait_until(plain.publishes, description="metrics")
    plain.publisher.stop()
    plain.publisher.close(time.monotonic() + 5)
    with_tolerance = Replica(store_url, tolerance=1.0)
    wait_until(with_tolerance.publishes, description="metrics")
    with_tolerance.publisher.stop()

    points = plain.points()
    assert points["evaluation.mean_absolute_error", "1"] == pytest.approx(1.0)
    assert points["evaluation.root_mean_squared_error", "1"] == pytest.approx((5 / 3) ** 0.5)
    assert points["evaluation.r2", "1"] == pytest.approx(1 - 5 / 6)
    assert points["evaluation.bias", "1"] == pytest.approx(-1.0)
    assert points["evaluation.mean_absolute_percentage_error", "1"] == pytest.approx((1 / 2 + 0 + 2 / 5) / 3)
    assert points["evaluation.absolute_error", "1", "0.5"] == pytest.approx(1.0)
    assert points["evaluation.absolute_error", "1", "0.95"] == pytest.approx(1.9)
    assert points["evaluation.baseline.increase", "1"] == pytest.approx(0.5)
    assert points["evaluation.baseline.state", "1"] == -1
    assert points["concept_drift.level", "1"] == 0
    assert ("concept_drift.error_rate", "1") not in points
    assert with_tolerance.points()["concept_drift.error_rate", "1"] == pytest.approx(1 / 3)


def test_a_challenger_of_another_name_is_published_too(store_url: str) -> None:
    """Each model name has its own leader lock."""
    store_predictions(store_url, [("a", "a", None)], version="1")
    store_predictions(store_url, [("a", "b", None)], version="2", name="another")

    both = Replica(store_url, names=(NAME, "another"))
    wait_until(both.publishes, description="metrics")
    both.publisher.stop()

    points = both.points()
    assert (points["evaluation.accuracy", "1"], points["evaluation.accuracy", "2"]) == (1.0, 0.0)


def test_an_unavailable_store_is_logged_once_and_counted(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    """Metrics are not exported until the store is available again."""
    url = postgres.url(postgres.create_database())
    store_predictions(url, [("a", "a", 0.9)])
    replica = Replica(url)
    wait_until(replica.publishes, description="metrics")
    with caplog.at_level(logging.WARNING, "modeltrace.evaluation"):
        postgres.stop()
        try:
            wait_until(
                lambda: any(name[:2] == (RUNS_METRIC, "failed") for name in replica.points()), description="a failure"
            )
            wait_until(lambda: not replica.publishes(), description="no metrics")
        finally:
            postgres.start()
        wait_until(replica.publishes, description="metrics again")
        replica.publisher.stop()  # it logs after it has published

    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("no metrics of models for now: the prediction store the PostgreSQL database")
    assert messages[1] == "metrics of models are computed again"


def test_no_publisher_starts_without_a_store_or_an_interval() -> None:
    """There is no thread and there are no gauges."""
    meter = MeterProvider(shutdown_on_exit=False).get_meter("test")

    assert start_publisher(read_settings(store="none"), ModelCatalog(), meter) is None
    assert start_publisher(read_settings(evaluation_interval=0), ModelCatalog(), meter) is None


@pytest.mark.parametrize(
    ("instrumentation", "store_url"), [("sidecar", "sqlite"), ("sdk", "postgresql")], indirect=["store_url"]
)
def test_a_second_service_takes_over_from_a_killed_one(
    instrumentation: str, store_url: str, example: Path, rows: list[dict[str, float]]
) -> None:
    """It exports the same accuracy, and stops in time."""
    env = {
        "MODELTRACE_STORE": store_url, "MODELTRACE_EVALUATION_INTERVAL": "0.2",
        "MODELTRACE_INSTRUMENTATION": instrumentation, "MODELTRACE_ID_KEY": ID_KEY,
        "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "prometheus", "OTEL_LOGS_EXPORTER": "none",
    }  # fmt: skip
    with ExitStack() as stack:
        urls = {}
        for _ in range(2):
            process, url = stack.enter_context(running_service(example, seconds=300, **env))
            urls[url] = process
        label_everything(next(iter(urls)), store_url, rows[:40])

        first = wait_until(lambda: next((url for url in urls if accuracy(url) == 0.75), None), description="accuracy")
        (second,) = urls.keys() - {first}
        assert accuracy(second) is None
        urls[first].popen.kill()

        wait_until(lambda: accuracy(second) == 0.75, description="accuracy from the other service")
        urls[second].stop()


def label_everything(url: str, store_url: str, rows: list[dict[str, float]]) -> None:
    """Predict rows and store labels; every fourth label differs from the prediction."""
    predictions = httpx.post(f"{url}/predict/batch", json={"rows": rows}).json()["predictions"]
    other = {"benign": "malignant", "malignant": "benign"}
    now = time.time_ns()
    with open_store(store_url) as store:
        store.add_labels(
            [
                StoredLabel(row["prediction_id"], row["label"] if n % 4 else other[row["label"]], now, now)
                for n, row in enumerate(predictions)
            ]
        )
        wait_until(lambda: store.counts().predictions == len(rows), description="the rows")


def accuracy(url: str) -> float | None:
    """Return the gauge from `/metrics`, or `None` if there is none."""
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        if family.name == "ml_evaluation_accuracy":
            (sample,) = family.samples
            return sample.value
    return None
