"""`evaluate --expected` estimates metrics without labels, as NannyML does, with intervals that hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from typer.testing import CliRunner

from modeltrace.cli.main import app
from modeltrace.evaluation import expected_performance
from modeltrace.evaluation.expected_performance import (
    Calibration,
    ScoreGroups,
    expected_metrics,
    group_scores,
    interval,
    simulate_metrics,
)
from modeltrace.evaluation.expected_rows import MIN_LABELS
from modeltrace.store.rows import StoredLabel, to_json
from modeltrace.store.store import open_store
from tests.helpers.factories import TIME, stored_row

# Generated scores: 400 rows with outcomes, 400 later rows with higher scores, and the results of NannyML 0.13.1.
NANNYML = json.loads(Path(__file__).with_name("nannyml_cbpe.json").read_text())


@pytest.mark.parametrize("calibrated", [True, False])
def test_estimates_equal_nannyml(*, calibrated: bool) -> None:
    """NannyML has the same estimates for the same calibration. It rounds the sums for ROC AUC to five digits."""
    scores = np.array(NANNYML["later"]["scores"])
    groups = ScoreGroups.build(scores, np.array(NANNYML["later"]["predicted"]) == 1)
    probabilities = groups.scores
    if calibrated:
        reference = NANNYML["reference"]
        calibration = Calibration.fit(np.array(reference["scores"]), np.array(reference["outcomes"], dtype=float))
        probabilities = calibration.apply(groups.scores)

    metrics = expected_metrics(groups, probabilities, binary=True)

    expected = NANNYML["calibrated" if calibrated else "uncalibrated"]
    assert metrics.accuracy == pytest.approx(expected["accuracy"], rel=1e-9)
    assert metrics.f1 == pytest.approx(expected["f1"], rel=1e-9)
    assert metrics.roc_auc == pytest.approx(expected["roc_auc"], abs=1e-6)


def test_calibration_equals_scikit_learn() -> None:
    """Isotonic regression with weights, equal scores, and scores beyond the known ones."""
    rng = np.random.default_rng(4)
    scores, rows = rng.integers(0, 40, 300) / 50, rng.integers(0, 4, 300).astype(float)
    outcomes = (rng.random(300) < scores).astype(float)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(scores, outcomes, rows)

    queried = np.linspace(-0.1, 1.1, 50)

    assert Calibration.fit(scores, outcomes, rows).apply(queried) == pytest.approx(oracle.predict(queried), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_known_outcomes_give_the_metrics_of_scikit_learn(seed: int) -> None:
    """The expected metrics of certain outcomes are the metrics, with equal scores."""
    rng = np.random.default_rng(seed)
    scores, outcomes = rng.integers(0, 30, 400) / 30, rng.integers(0, 2, 400)
    predicted = scores > 0.5
    groups = ScoreGroups.build(scores, predicted)
    shares = [
        outcomes[(scores == score) & (predicted == decision)].mean() for score, decision, _ in zip(*groups, strict=True)
    ]

    metrics = expected_metrics(groups, np.array(shares), binary=True)

    assert metrics.accuracy == pytest.approx(accuracy_score(outcomes, predicted), rel=1e-9)
    assert metrics.f1 == pytest.approx(f1_score(outcomes, predicted), rel=1e-9)
    assert metrics.roc_auc == pytest.approx(roc_auc_score(outcomes, scores), rel=1e-9)


def outcome_probability(scores: Any) -> Any:
    """Return the true probability of the positive class for a score of a badly calibrated model."""
    return scores**1.5 * 0.9 + 0.05


@pytest.mark.slow
def test_intervals_contain_the_metrics_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 95 % intervals for later predictions with other scores, 95 % contain the metrics of later labels."""
    monkeypatch.setattr(expected_performance, "SIMULATIONS", 100)
    rng = np.random.default_rng(1)
    repetitions, inside = 120, dict.fromkeys(("accuracy", "f1", "roc_auc"), 0)
    for _ in range(repetitions):
        known = rng.beta(1.2, 1.2, 500)
        outcomes = (rng.random(500) < outcome_probability(known)).astype(float)
        later = rng.beta(2, 1.2, 400)
        later_outcomes = (rng.random(400) < outcome_probability(later)).astype(int)
        groups = ScoreGroups.build(later, later > 0.5)
        known = group_scores(known)
        metrics = expected_metrics(groups, Calibration.fit(known, outcomes).apply(groups.scores), binary=True)
        simulated = simulate_metrics(known, outcomes, groups, binary=True)
        for name, actual in (
            ("accuracy", accuracy_score(later_outcomes, later > 0.5)),
            ("f1", f1_score(later_outcomes, later > 0.5)),
            ("roc_auc", roc_auc_score(later_outcomes, later)),
        ):
            result = interval(getattr(metrics, name), simulated[name], 0.05)
            inside[name] += result.low <= actual <= result.high

    margin = 3 * np.sqrt(0.05 * 0.95 / repetitions)
    assert all(0.95 - margin <= share / repetitions for share in inside.values()), inside


def store_predictions(url: str, scores: Any, labels: Any, start: int, classes: int = 2) -> None:
    """Store predictions from a second on, with the probability of `b`, and their labels; `None` is no label."""
    rows = []
    for n, score in enumerate(scores.tolist()):
        label, confidence = ("b", score) if score > 0.5 else ("a", 1 - score)
        pairs = [["a", 1 - score], ["b", score]] if classes == 2 else [["a", 0.0], ["b", score], ["c", 1 - score]]
        rows.append(
            stored_row(
                f"{start}-{n:05}", time=TIME + start * 10**9 + n, label=to_json(label), confidence=confidence,
                probabilities=to_json(pairs),
            )
        )  # fmt: skip
    with open_store(url) as store:
        store.add_predictions(rows)
        store.add_labels(
            [
                StoredLabel(r.prediction_id, label, r.time, r.time)
                for r, label in zip(rows, labels, strict=True)
                if label
            ]
        )


def estimate(monkeypatch: pytest.MonkeyPatch, url: str) -> tuple[dict[str, Any], str]:
    """Run the command for predictions from second 10 on; return the only result as JSON, and as text."""
    monkeypatch.setenv("MODELTRACE_STORE", url)
    arguments = ["evaluate", "--expected", "--since", "2023-11-14T22:13:30Z"]
    as_json, text = (CliRunner().invoke(app, [*arguments, *more], catch_exceptions=False) for more in (["--json"], []))
    (result,) = json.loads(as_json.stdout)
    return result, " ".join(text.stdout.split())


def draw(rows: int, seed: int, *, reverse: bool = False) -> tuple[Any, list[str]]:
    """Return scores and labels; `reverse` changes the relation between both."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(1.2, 1.2, rows)
    probabilities = outcome_probability(1 - scores if reverse else scores)
    return scores, np.where(rng.random(rows) < probabilities, "b", "a").tolist()


@pytest.mark.parametrize("classes", [2, 3])
def test_estimate_of_stored_predictions(store_url: str, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """Labels that arrive later are in the interval. With three classes, only the accuracy is estimated."""
    scores, labels = draw(1000, 1)
    store_predictions(store_url, scores, labels, 0, classes)
    later, later_labels = draw(800, 2)
    store_predictions(store_url, later, [*later_labels[:100], *[None] * 700], 10, classes)

    result, text = estimate(monkeypatch, store_url)

    actual = np.mean(np.where(later > 0.5, "b", "a") == np.array(later_labels))
    assert (result["predictions"], result["earlier_labels"], result["reason"]) == (800, 1000, None)
    assert result["accuracy"]["low"] <= actual <= result["accuracy"]["high"]
    assert result["accuracy"]["high"] - result["accuracy"]["low"] < 0.12
    assert (result["arrived"]["labels"], result["arrived"]["contradict"]) == (100, False)
    assert f"accuracy {result['accuracy']['estimate']:.4f}" in text
    if classes == 2:
        grouped = group_scores(scores)
        oracle = IsotonicRegression(out_of_bounds="clip").fit(grouped, np.array(labels) == "b")
        probabilities = oracle.predict(later)
        expected = np.where(later > 0.5, probabilities, 1 - probabilities).mean()
        assert result["accuracy"]["estimate"] == pytest.approx(expected, rel=1e-9)
        assert result["positive_label"] == "b"
        assert "F1 of b" in text
        auc = roc_auc_score(np.array(later_labels) == "b", later)
        assert result["roc_auc"]["low"] <= auc <= result["roc_auc"]["high"]
    else:
        assert (result["f1"], result["roc_auc"], result["positive_label"]) == (None, None, None)


def test_labels_that_contradict_the_estimate(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the relation between probability and outcome changes, the labels that arrive show it."""
    store_predictions(store_url, *draw(500, 1), 0)
    store_predictions(store_url, *draw(200, 2, reverse=True), 10)

    result, text = estimate(monkeypatch, store_url)

    assert result["arrived"]["contradict"]
    assert "do not trust this estimate: labels that have arrived contradict the estimate" in text


def test_reasons_why_there_is_no_estimate(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few earlier labels, or probabilities that none of them has."""
    scores, labels = draw(MIN_LABELS, 1)
    store_predictions(store_url, scores[:-1] / 2, labels[:-1], 0)
    store_predictions(store_url, *draw(100, 2), 10)

    few, text = estimate(monkeypatch, store_url)
    store_predictions(store_url, scores[-1:] / 2, labels[-1:], 1)
    unknown, _ = estimate(monkeypatch, store_url)

    reason = "only 299 predictions before --since have a label, and 300 are needed to calibrate the estimate"
    assert few["reason"] == reason
    assert f"no estimate: {reason}" in text
    assert "% of the probabilities are outside the range of earlier predictions with labels" in unknown["reason"]
    assert (few["accuracy"], unknown["accuracy"]) == (None, None)


def test_regressor_has_no_estimate(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which models have one."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    with open_store(store_url) as store:
        store.add_predictions([stored_row("p", label=None, confidence=None, value=1.0)])

    result = CliRunner().invoke(app, ["evaluate", "--expected", "--since", "2023-11-14"])

    assert result.exit_code == 1
    assert "--expected is only for classifiers" in str(result.exception)


def test_option_since_is_required(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, there are no earlier predictions."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)

    result = CliRunner().invoke(app, ["evaluate", "--expected"], env={"COLUMNS": "200"})

    assert result.exit_code == 2
    assert "--expected requires --since" in result.output
