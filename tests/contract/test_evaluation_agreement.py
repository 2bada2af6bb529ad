"""`modeltrace evaluate`, the gauges in Prometheus' format, the hub and scikit-learn on an export have equal metrics."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import app
from modeltrace.evaluation.concept_drift import detect_drift
from modeltrace.evaluation.publisher import start_publisher
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import model_info
from modeltrace.monitoring.reference_gauges import reference_metrics
from modeltrace.settings import read_settings
from modeltrace.store.rows import StoredLabel, to_json
from modeltrace.store.store import open_store
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.views import build_views
from modeltrace_hub.web.format import number, percent
from tests.helpers.factories import stored_row
from tests.helpers.held_out import set_held_out
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.processes import wait_until

pytestmark = pytest.mark.slow

SECOND = 10**9


class Published(NamedTuple):
    """The metrics of one evaluation."""

    hub: dict[str, Any]  # the evaluation of the hub's API
    drift: str  # the level of concept drift in the hub's API
    prometheus: dict[tuple[str, ...], float]  # by name, and class, average or quantile
    page: str  # HTML


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """Yield a hub in memory."""
    with in_process_hub() as hub:
        yield hub


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the store that the commands read."""
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "s.db"))
    return tmp_path / "s.db"


def publish(model: Model, store: Path, hub: InProcessHub) -> Published:
    """Evaluate the predictions in a store as a service does, and export the metrics in both ways."""
    registry = CollectorRegistry()
    exporter = OTLPMetricExporter(f"http://127.0.0.1:{hub.settings.http_port}/v1/metrics")
    to_hub = PeriodicExportingMetricReader(exporter, export_interval_millis=10**9)
    readers = [to_hub, PrometheusMetricReader(registry=registry)]
    provider = MeterProvider(readers, views=build_views(), shutdown_on_exit=False)
    meter, catalog, info = provider.get_meter("test"), ModelCatalog(), model_info(model)
    catalog.add(info, reference_metrics(model))
    # The hub lists models that have predictions.
    meter.create_counter("ml.predictions").add(1, {"ml.model.name": info.name, "ml.model.version": info.version})
    publisher = start_publisher(read_settings(store=str(store), evaluation_interval=0.05), catalog, meter)
    assert publisher is not None
    wait_until(lambda: ("ml_evaluation_labels",) in samples(registry), description="metrics")
    publisher.stop()
    publisher.close(time.monotonic() + 10)
    assert to_hub.force_flush()
    answer = httpx.get(f"{hub.page_url}/api/models/{info.name}", params={"window": "15m"}, timeout=30)
    assert answer.status_code == 200, answer.text
    (version,) = answer.json()["versions"]
    page = httpx.get(f"{hub.page_url}/models", params={"model": info.name, "window": "15m"}, timeout=30).text
    result = Published(version["evaluation"], version["concept_drift"]["level"], samples(registry), page)
    provider.shutdown()
    return result


def samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return the samples by name, and class, average or quantile."""
    keys = ("ml_evaluation_label", "ml_evaluation_average", "quantile")
    return {
        (sample.name, *(sample.labels[key] for key in keys if sample.labels.get(key))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def run(*arguments: object) -> str:
    """Run a command of `modeltrace` and return its output."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def store_predictions(store: Path, model: Model, labels: Sequence[Any], outputs: Sequence[dict[str, Any]]) -> None:
    """Store predictions of the last minutes with their labels; `None` is no label."""
    start, info = time.time_ns() - len(outputs) * SECOND, model_info(model)
    rows = [stored_row(f"{n:04}", time=start + n * SECOND, model=info, **output) for n, output in enumerate(outputs)]
    with open_store(str(store)) as opened:
        opened.add_predictions(rows)
        opened.add_labels(
            [
                StoredLabel(row.prediction_id, label, row.time + SECOND, row.time)
                for row, label in zip(rows, labels, strict=True)
                if label is not None
            ]
        )


def export_labelled(store: Path) -> list[dict[str, Any]]:
    """Return the labelled rows of an export."""
    file = store.with_name("export.jsonl")
    run("audit", "export", file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row for row in rows if row["true_label"] is not None]


def assert_all_equal(*figures: Sequence[float]) -> None:
    """Check that the values of each figure are equal to 1e-9."""
    for expected, *others in figures:
        assert others == pytest.approx([expected] * len(others), rel=1e-9, abs=1e-9)


def test_metrics_of_a_classifier_agree(hub: InProcessHub, store: Path) -> None:
    """Compares scores, means, metrics of classes, held-out rows and concept drift."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(300, 2)), columns=["x", "y"])
    estimator = LogisticRegression().fit(table, np.where(table.x > 0.5, "c", np.where(table.y > 0, "b", "a")))
    bundle = pack(estimator, table, name="letters", out=store.with_name("letters"))
    model = load_bundle(set_held_out(bundle, rows=800, accuracy=0.95))
    true = rng.choice(list("abc"), 700, p=[0.6, 0.3, 0.1])
    wrong = rng.random(700) < np.where(np.arange(700) < 400, 0.05, 0.5)
    predicted = np.where(wrong, np.where(true == "a", "b", "a"), true)
    labels = [str(label) if n % 7 else None for n, label in enumerate(true)]
    probabilities = rng.dirichlet([1, 1, 1], 700).round(2)
    probabilities[:, 0] = 1 - probabilities[:, 1:].sum(axis=1)
    outputs = [
        {"label": to_json(str(label)), "confidence": c, "probabilities": to_json([*zip("abc", row, strict=True)])}
        for label, c, row in zip(predicted, rng.uniform(0.4, 1, 700).tolist(), probabilities.tolist(), strict=True)
    ]
    store_predictions(store, model, labels, outputs)

    exported = export_labelled(store)
    (evaluated,) = json.loads(run("evaluate", "--bundle", bundle, "--json"))
    gauges, in_hub, page = (published := publish(model, store, hub)).prometheus, published.hub, published.page

    y_true, y_pred = [row["true_label"] for row in exported], [row["label"] for row in exported]
    correct, confidence = np.equal(y_true, y_pred), np.array([row["confidence"] for row in exported])
    accuracy = metrics.accuracy_score(y_true, y_pred)
    proba = np.array([[value for _, value in row["probabilities"]] for row in exported])
    scores = evaluated["classification"]
    calibration, comparison = scores["calibration"], evaluated["baseline"]
    assert_all_equal(
        (len(exported), evaluated["labels"], gauges["ml_evaluation_labels",], in_hub["labels"]),
        (700, evaluated["predictions"], gauges["ml_evaluation_predictions",], in_hub["predictions"]),
        (accuracy, scores["accuracy"], gauges["ml_evaluation_accuracy",], in_hub["accuracy"]),
        (
            metrics.brier_score_loss(correct, confidence),
            calibration["top_label_brier_score"],
            gauges["ml_evaluation_top_label_brier_score",],
            in_hub["top_label_brier_score"],
        ),
        (
            calibration["expected_calibration_error"],
            gauges["ml_evaluation_calibration_error",],
            in_hub["calibration_error"],
        ),
        (0.05, comparison["baseline_error"], *baseline_values("error", gauges, in_hub)),
        (1 - accuracy - 0.05, comparison["increase"], *baseline_values("increase", gauges, in_hub)),
        (comparison["threshold"], *baseline_values("threshold", gauges, in_hub)),
        (comparison["increase_standard_error"], *baseline_values("standard_error", gauges, in_hub)),
        (detect_drift(1.0 - correct).mean_error or 0, evaluated["concept_drift"]["error_rate"]),
        (evaluated["concept_drift"]["error_rate"], gauges["ml_concept_drift_error_rate",]),
    )
    in_store = scores["probabilities"]
    expected_scores = {
        "balanced_accuracy": (scores["balanced_accuracy"], metrics.balanced_accuracy_score(y_true, y_pred)),
        "matthews_correlation": (scores["matthews_correlation"], metrics.matthews_corrcoef(y_true, y_pred)),
        "log_loss": (in_store["log_loss"], metrics.log_loss(y_true, y_proba=proba)),
        "brier_score": (in_store["brier_score"], metrics.brier_score_loss(y_true, proba)),
    }
    assert_all_equal(
        *((*values, gauges[f"ml_evaluation_{name}",], in_hub[name]) for name, values in expected_scores.items()),
        *(
            (
                function(average),
                in_store[average][name],
                gauges[f"ml_evaluation_{name}", average],
                in_hub[average][name],
            )
            for average in ("macro", "weighted")
            for name, function in (
                ("roc_auc", lambda mean: metrics.roc_auc_score(y_true, proba, multi_class="ovr", average=mean)),
                (
                    "average_precision",
                    lambda mean: metrics.average_precision_score(
                        np.equal.outer(y_true, list("abc")), proba, average=mean
                    ),
                ),
            )
        ),
    )
    for average, names in ((None, list("abc")), ("macro", ["macro"]), ("weighted", ["weighted"])):
        expected = metrics.precision_recall_fscore_support(y_true, y_pred, average=average)
        for column, score in enumerate(("precision", "recall", "f1")):
            by_class = {entry["label"]: entry[score] for entry in scores["classes"]}
            by_class |= {mean: scores[mean][score] for mean in ("macro", "weighted")}
            hub_scores = {**in_hub["classes"], "macro": in_hub["macro"], "weighted": in_hub["weighted"]}
            assert_all_equal(
                *(
                    (value, by_class[name], gauges[f"ml_evaluation_{score}", name], hub_scores[name][score])
                    for name, value in zip(names, np.atleast_1d(expected[column]), strict=True)
                )
            )
    assert comparison["state"] == in_hub["baseline"]["state"] == "worse"
    assert gauges["ml_evaluation_baseline_state",] == 1
    assert evaluated["concept_drift"]["level"] == published.drift == "drift"
    assert gauges["ml_concept_drift_level",] == 1
    assert f"Accuracy <strong>{number(accuracy)}</strong>" in page
    assert f"ROC AUC macro <strong>{number(in_store['macro']['roc_auc'])}</strong>" in " ".join(page.split())
    assert f"error rate {percent(1 - accuracy)}, held-out {percent(0.05)}" in page


def test_metrics_of_a_regressor_agree(hub: InProcessHub, store: Path) -> None:
    """Compares errors and their quantiles, held-out rows and concept drift."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(300, 2)), columns=["x", "y"])
    estimator = LinearRegression().fit(table, 1000 * table.x)
    bundle = pack(estimator, table, name="prices", out=store.with_name("prices"))
    model = load_bundle(set_held_out(bundle, rows=800, mean_absolute_error=900.0, absolute_error_deviation=1000.0))
    true = rng.normal(0, 5000, 600)
    values = true + rng.exponential(np.where(np.arange(600) < 300, 800, 4000))
    widths = rng.uniform(500, 3000, (2, 600))
    intervals = [(*bounds, 0.8) for bounds in zip(values - widths[0], values + widths[1], strict=True)]
    outputs = [
        {"value": value, "label": None, "confidence": None, "interval": interval if n % 5 else ()}
        for n, (value, interval) in enumerate(zip(values.tolist(), intervals, strict=True))
    ]
    store_predictions(store, model, [label if n % 7 else None for n, label in enumerate(true.tolist())], outputs)

    exported = export_labelled(store)
    (evaluated,) = json.loads(run("evaluate", "--bundle", bundle, "--json"))
    gauges, in_hub, page = (published := publish(model, store, hub)).prometheus, published.hub, published.page

    y_true, y_pred = (np.array([row[column] for row in exported]) for column in ("true_label", "value"))
    bounds = np.array([(row["interval_low"], row["interval_high"]) for row in exported], dtype=float)
    has_interval = ~np.isnan(bounds[:, 0])
    inside = ((bounds[:, 0] <= y_true) & (y_true <= bounds[:, 1]))[has_interval]
    wilson = binomtest(int(inside.sum()), len(inside)).proportion_ci(0.95, method="wilson")
    coverage = {
        "labels": ("rows", len(inside)), "coverage": ("coverage", inside.mean()), "coverage_low": ("low", wilson.low),
        "coverage_high": ("high", wilson.high), "level": ("level", 0.8),
        "width": ("mean_width", (bounds[:, 1] - bounds[:, 0])[has_interval].mean()),
    }  # fmt: skip
    errors, scores, comparison = np.abs(y_pred - y_true), evaluated["regression"], evaluated["baseline"]
    expected = {
        "mean_absolute_error": metrics.mean_absolute_error(y_true, y_pred),
        "root_mean_squared_error": metrics.root_mean_squared_error(y_true, y_pred),
        "bias": np.mean(y_pred - y_true),
        "mean_absolute_percentage_error": metrics.mean_absolute_percentage_error(y_true, y_pred),
        "r2": metrics.r2_score(y_true, y_pred),
    }
    assert_all_equal(
        *((value, scores[name], gauges[f"ml_evaluation_{name}",], in_hub[name]) for name, value in expected.items()),
        *(
            (
                np.quantile(errors, float(quantile)),
                scores["absolute_error_quantiles"][quantile],
                gauges["ml_evaluation_absolute_error", quantile],
                in_hub["absolute_error"][quantile],
            )
            for quantile in ("0.5", "0.95")
        ),
        *(
            (
                value,
                scores["intervals"][key],
                gauges[f"ml_evaluation_interval_{name}",],
                in_hub["intervals"][name],
            )
            for name, (key, value) in coverage.items()
        ),
        (900, comparison["baseline_error"], *baseline_values("error", gauges, in_hub)),
        (errors.mean() - 900, comparison["increase"], *baseline_values("increase", gauges, in_hub)),
        (errors.std() / len(errors) ** 0.5, comparison["standard_error"]),
        (comparison["threshold"], *baseline_values("threshold", gauges, in_hub)),
        (comparison["increase_standard_error"], *baseline_values("standard_error", gauges, in_hub)),
    )
    assert comparison["state"] == in_hub["baseline"]["state"] == "worse"
    assert evaluated["concept_drift"]["level"] == published.drift == "drift"
    assert (gauges["ml_evaluation_baseline_state",], gauges["ml_concept_drift_level",]) == (1, 1)
    assert f"Interval coverage <strong>{percent(inside.mean())}</strong>" in page
    assert f"95 % interval {percent(wilson.low)} to {percent(wilson.high)}, nominal {percent(0.8)}" in page
    assert f"Median absolute error <strong>{number(np.median(errors))}</strong>" in page


def baseline_values(name: str, gauges: dict[tuple[str, ...], float], in_hub: dict[str, Any]) -> tuple[float, float]:
    """Return a figure of the comparison with held-out rows, as in Prometheus and in the hub."""
    return gauges[f"ml_evaluation_baseline_{name}",], in_hub["baseline"][name]
