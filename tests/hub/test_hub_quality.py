"""`/api/quality` computes the figures of labelled predictions as scikit-learn does; each leads to its predictions."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    mean_absolute_error,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.labelled_predictions import Prediction, model_event, prediction_logs
from tests.helpers.metric_points import gauge
from tests.helpers.otlp_messages import log_request, metric_request

HOUR = 3600 * 10**9
CLASSES = ("no", "yes")
ROWS = 1500


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages and the API of an empty hub."""
    with hub_pages() as pages:
        yield pages


def quality(pages: HubPages, **parameters: str) -> Any:
    """Return the figures of the only version of the model."""
    response = pages.client.get("/api/quality", params={"model": "churn", "since": "6h", **parameters})
    assert response.status_code == 200, response.text
    (version,) = response.json()["versions"]
    return version


def listed(pages: HubPages, condition: str, **parameters: str) -> int:
    """Return the number of predictions that a filter line selects."""
    query = {"model": "churn", "filter": condition, "limit": "1000", **parameters}
    response = pages.client.get("/api/predictions", params=query)
    assert response.status_code == 200, response.text
    return len(response.json()["items"])


def classified(*, ties: bool, unlabelled: int = 0) -> tuple[list[Prediction], Any, Any]:
    """Return predictions of a model with two classes, their probabilities of `yes`, and whether `yes` is true."""
    rng = np.random.default_rng(11)
    score = rng.beta(0.7, 1.2, ROWS)
    if ties:
        score = np.round(score, 1)
    truth = rng.random(ROWS) < score**1.3
    start = time.time_ns() // HOUR * HOUR - 3 * HOUR
    predictions = [
        Prediction(
            number,
            start + number * (2 * HOUR // ROWS) + 1,
            CLASSES[int(value > 0.5)],
            float(max(value, 1 - value)),
            truth=None if number < unlabelled else CLASSES[int(is_yes)],
        )
        for number, (value, is_yes) in enumerate(zip(score, truth, strict=True))
    ]
    return predictions, score[unlabelled:], truth[unlabelled:]


@pytest.mark.parametrize("ties", [False, True])
def test_figures_of_a_classifier_equal_scikit_learn(pages: HubPages, *, ties: bool) -> None:
    """Curves, areas, reliability and the figures of each hour equal scikit-learn's to 1e-9, with and without ties."""
    predictions, score, truth = classified(ties=ties, unlabelled=40)
    pages.add(log_request(model_event(CLASSES, time.time_ns())), prediction_logs(predictions))

    figures = quality(pages, over="hour")

    assert (figures["predictions"], figures["labels"]) == (ROWS, ROWS - 40)
    ranking = figures["ranking"]
    assert ranking["positive_class"] == "yes"
    assert ranking["roc_auc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-9)
    assert ranking["average_precision"] == pytest.approx(average_precision_score(truth, score), abs=1e-9)
    false_positives, true_positives, thresholds = roc_curve(truth, score, drop_intermediate=False)
    precision, recall, pr_thresholds = precision_recall_curve(truth, score)
    for point in ranking["points"]:
        at = int(np.argmin(abs(thresholds - point["low"])))
        assert point["low"] == pytest.approx(thresholds[at], abs=1e-9)
        assert point["false_positive_rate"] == pytest.approx(false_positives[at], abs=1e-9)
        assert point["recall"] == pytest.approx(true_positives[at], abs=1e-9)
        at = int(np.argmin(abs(pr_thresholds - point["low"])))
        assert (point["precision"], point["recall"]) == pytest.approx((precision[at], recall[at]), abs=1e-9)
    assert sum(point["labels"] for point in ranking["points"]) == ROWS - 40
    assert len(ranking["points"]) == (11 if ties else 40)

    label = score > 0.5
    correct, confidence = label == truth, np.maximum(score, 1 - score)
    accuracies, confidences = calibration_curve(correct, confidence, n_bins=10)
    assert [tenth["accuracy"] for tenth in figures["reliability"]] == pytest.approx(accuracies, abs=1e-9)
    assert [tenth["confidence"] for tenth in figures["reliability"]] == pytest.approx(confidences, abs=1e-9)

    times = np.array([row.time_ns for row in predictions[40:]])
    assert len(figures["steps"]) == 2
    for step in figures["steps"]:
        inside = (times > step["since_ns"]) & (times <= step["until_ns"])
        assert step["labels"] == inside.sum()
        assert step["accuracy"] == pytest.approx(accuracy_score(truth[inside], label[inside]), abs=1e-9)
        assert step["roc_auc"] == pytest.approx(roc_auc_score(truth[inside], score[inside]), abs=1e-9)


def test_figures_of_a_regressor_equal_scikit_learn(pages: HubPages) -> None:
    """The mean absolute error of each hour equals scikit-learn's; bins of errors and values contain all labels."""
    rng = np.random.default_rng(5)
    truth = rng.lognormal(3, 1, ROWS)
    value = truth * rng.normal(1.1, 0.2, ROWS)
    start = time.time_ns() // HOUR * HOUR - 3 * HOUR
    times = start + np.arange(ROWS) * (2 * HOUR // ROWS) + 1
    pages.add(
        prediction_logs(
            Prediction(number, int(times[number]), value=float(value[number]), truth=float(truth[number]))
            for number in range(ROWS)
        )
    )

    figures = quality(pages)

    for step in figures["steps"]:
        inside = (times > step["since_ns"]) & (times <= step["until_ns"])
        assert step["mean_absolute_error"] == pytest.approx(mean_absolute_error(truth[inside], value[inside]), abs=1e-9)
        assert (step["accuracy"], step["roc_auc"]) == (None, None)
    assert sum(item["labels"] for item in figures["residuals"]) == ROWS
    assert sum(item["labels"] for item in figures["values"]) == ROWS
    error = value - truth
    for item in figures["residuals"]:
        low, high = item["low"], item["high"]
        inside = (error > (-np.inf if low is None else low)) & (error <= (np.inf if high is None else high))
        assert item["labels"] == inside.sum()
    assert (figures["reliability"], figures["ranking"]) == ([], None)


def test_each_bin_lists_its_predictions(pages: HubPages) -> None:
    """The fields of the filter line select exactly the predictions that a bin, a point or a cell counts."""
    predictions, _, _ = classified(ties=False)
    shifted = [
        Prediction(row.number + ROWS, row.time_ns, value=row.confidence, truth=row.number % 7 / 7, version="2.0.0")
        for row in predictions[:600]
    ]
    pages.add(log_request(model_event(CLASSES, time.time_ns())), prediction_logs([*predictions[:900], *shifted]))
    response = pages.client.get("/api/quality", params={"model": "churn", "since": "6h"}).json()
    classifier, regressor = response["versions"]

    for tenth in classifier["reliability"]:
        condition = f"confidence > {tenth['low']} confidence <= {tenth['high']} true_label exists"
        assert listed(pages, condition, version="1.0.0") == tenth["labels"]
        assert listed(pages, f"{condition} correct = true", version="1.0.0") == round(
            tenth["accuracy"] * tenth["labels"]
        )
    for point in classifier["ranking"]["points"][::5]:
        condition = f"probability.yes >= {point['low']!r} probability.yes <= {point['high']!r} true_label exists"
        assert listed(pages, condition, version="1.0.0") == point["labels"]
        assert listed(pages, f"{condition} true_label = yes", version="1.0.0") == point["positives"]
    for item in regressor["residuals"][::3]:
        low, high = item["low"], item["high"]
        bounds = [f"error > {low!r}"] if low is not None else []
        bounds += [f"error <= {high!r}"] if high is not None else []
        assert listed(pages, " ".join(bounds), version="2.0.0") == item["labels"]
    for item in regressor["values"][::20]:
        names = {
            "value_low": "value >",
            "value_high": "value <=",
            "true_low": "true_value >",
            "true_high": "true_value <=",
        }
        line = " ".join(f"{text} {item[name]!r}" for name, text in names.items() if item[name] is not None)
        assert listed(pages, line, version="2.0.0") == item["labels"]


def test_synthetic_and_repeated_records_do_not_count(pages: HubPages) -> None:
    """Predictions of generated traffic are left out, and a record that was sent twice counts once."""
    now = time.time_ns() - HOUR
    predictions = [
        Prediction(0, now, "yes", 0.9, truth="yes"),
        Prediction(1, now, "yes", 0.8, truth="no", synthetic=True),
        Prediction(2, now, "no", 0.7, truth="yes"),
    ]
    pages.add(prediction_logs(predictions), prediction_logs(predictions[:1]))

    figures = quality(pages)

    assert (figures["predictions"], figures["labels"]) == (2, 2)
    assert [step["accuracy"] for step in figures["steps"]] == [0.5]


def test_a_challenger_has_the_labels_of_its_primary(pages: HubPages) -> None:
    """The prediction of a challenger is compared with the label of the prediction that it shadows."""
    now = time.time_ns() - HOUR
    pages.add(
        prediction_logs(
            [
                Prediction(0, now, "yes", 0.9, truth="yes"),
                Prediction(1, now, "no", 0.8, version="2.0.0", shadow_of=0),
            ]
        )
    )
    versions = pages.client.get("/api/quality", params={"model": "churn", "since": "6h"}).json()["versions"]

    assert [(item["version"], item["labels"], item["steps"][0]["accuracy"]) for item in versions] == [
        ("1.0.0", 1, 1.0),
        ("2.0.0", 1, 0.0),
    ]
    assert listed(pages, "correct = false", version="2.0.0") == 1


def test_what_is_missing_has_no_figures(pages: HubPages) -> None:
    """Without labels there are no curves; without the classes of the model, or with three, there is no ranking."""
    now = time.time_ns() - HOUR
    pages.add(prediction_logs([Prediction(0, now, "yes", 0.9)]))
    figures = quality(pages)
    assert (figures["labels"], figures["reliability"], figures["ranking"]) == (0, [], None)
    assert figures["steps"][0]["accuracy"] is None

    pages.add(prediction_logs([Prediction(1, now, "yes", 0.9, truth="no"), Prediction(2, now, "no", 0.9, truth="no")]))
    assert quality(pages)["ranking"] is None
    pages.add(log_request(model_event(("a", "no", "yes"), now)))
    assert quality(pages)["ranking"] is None

    pages.add(log_request(model_event(CLASSES, now + 1)))
    ranking = quality(pages)["ranking"]
    assert (ranking["labels"], ranking["positives"], ranking["roc_auc"]) == (2, 0, None)
    assert ranking["points"][-1]["recall"] is None


def test_spooled_log_records_explain_missing_predictions(pages: HubPages) -> None:
    """The page of the model says that the prediction log records wait on the disk of the service."""
    now = time.time_ns()
    number = gauge("modeltrace.sidecar.spooled", "1", [((("modeltrace.signal", "logs"),), 1902.0)], now)
    pages.add(log_request(model_event(CLASSES, now)), metric_request(number))

    text = pages.client.get("/models?model=churn").text

    assert "No prediction log records of this version are stored for this window. 1,902 log records of " in text


def test_a_window_has_steps_of_a_minute_an_hour_or_a_day(pages: HubPages) -> None:
    """Short windows have steps of a minute, up to three days of an hour; `over` chooses another length that suits."""
    for since, over, expected in (
        ("1h", None, "minute"),
        ("3h", None, "hour"),
        ("3d", None, "hour"),
        ("4d", None, "day"),
        ("30d", "hour", "hour"),
        ("12h", "minute", "minute"),
        ("30d", "minute", "day"),
    ):
        parameters = {"model": "churn", "since": since, **({"over": over} if over else {})}
        assert pages.client.get("/api/quality", params=parameters).json()["over"] == expected
    assert pages.client.get("/api/quality", params={"model": "churn", "over": "week"}).status_code == 422
    assert pages.client.get("/api/quality").status_code == 422
