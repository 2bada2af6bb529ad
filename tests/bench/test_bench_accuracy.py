"""The accuracy bench: its states are those of the product, and it reports changes."""

import numpy as np
import pytest

from bench.accuracy import CHANGES, draw_errors, measure_detection, measure_false_alerts, print_result, run
from bench.error_monitor import Thresholds, is_drifting, is_worse, is_worse_regressor, new_alerts
from modeltrace.evaluation.baseline_comparison import WORSE, compare_absolute_errors, compare_error_rates
from modeltrace.evaluation.concept_drift import detect_drift
from modeltrace.telemetry.metrics.model_catalog import Baseline


@pytest.mark.parametrize(("rate", "rows"), [(0.05, 400), (0.3, 100), (0.05, 2000)])
def test_states_of_a_classifier_are_those_of_the_product(rate: float, rows: int) -> None:
    """After each label, the errors of the last seven days are compared with the baseline."""
    rng = np.random.default_rng(0)
    errors, baseline, per_day = draw_errors([(300, rate), (700, 3 * rate)], rng), Baseline(rows, rate), 100

    states = is_worse(errors, baseline, per_day, Thresholds())

    windows = [errors[max(0, end - 7 * per_day) : end] for end in range(1, len(errors) + 1)]
    expected = [compare_error_rates(float(w.mean()), len(w), baseline).state == WORSE for w in windows]
    assert states.tolist() == expected
    assert any(expected) != all(expected)


def test_states_of_a_regressor_are_those_of_the_product() -> None:
    """With an interval of one label, the state is computed after each label."""
    rng = np.random.default_rng(1)
    errors = np.concatenate([rng.exponential(1, 300), rng.exponential(2, 300)])
    baseline = Baseline(1000, 1.0, 1.0)

    states = is_worse_regressor(errors, baseline, 50)

    windows = [errors[max(0, end - 350) : end] for end in range(1, len(errors) + 1)]
    expected = [
        compare_absolute_errors(float(w.mean()), float(w.std()), len(w), baseline).state == WORSE for w in windows
    ]
    assert states.tolist() == expected
    assert any(expected) != all(expected)


def test_the_detector_starts_at_the_beginning_of_the_week_before() -> None:
    """A drift is reported until the week after the next one."""
    rng = np.random.default_rng(2)
    errors, per_day = draw_errors([(600, 0.05), (2900, 0.5)], rng), 100

    levels = is_drifting(errors, per_day)

    (detected,) = detect_drift(errors[:1400]).drift_indices
    assert 600 < detected < 700
    assert np.flatnonzero(levels).tolist() == list(range(detected, 1400))
    assert new_alerts(levels, per_day) == 1


def test_a_constant_error_rate_raises_no_alert() -> None:
    """Ten streams are compared with their own held-out rows."""
    result = measure_false_alerts(0.05, 100, 10, np.random.default_rng(3))

    assert {part["alerts"] for part in (result["concept drift"], *result["worse"].values())} == {0.0}


def test_changes_are_reported_and_stay_reported() -> None:
    """An error rate of 40 % from the first label on, and one that rises and then falls a little."""
    changes = {change.name: change for change in CHANGES}
    rng = np.random.default_rng(4)
    constant = measure_detection(changes["40 % from the first label on, 5 % held-out"], 2000, 5, rng)
    falling = measure_detection(changes["5 %, 60 % for 300 labels, then 40 %"], 2000, 5, rng)

    assert constant["either"] == {"median": 50, "95 %": 50}
    assert constant["concept drift"] == {"median": None, "95 %": None}
    assert falling["either"]["95 %"] <= 150
    assert constant["silent after the first report"] == falling["silent after the first report"] == 0


def test_the_result_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Every kind of stream has a row."""
    print_result(run(2, 0, rates=(20,)))

    output = capsys.readouterr().out
    assert "false alerts per model in 30 days" in output
    assert "labels until the report" in output
