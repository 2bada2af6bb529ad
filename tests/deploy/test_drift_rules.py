"""The drift rules of Prometheus compute the same values as the definitions of the service."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from modeltrace.monitoring.drift_check import DriftResult
from tests.helpers.drift_counts import DRIFT_STATES, counter_series, draw_traffic, drift_model, gauge_series
from tests.helpers.promtool import PROMETHEUS, promtool

pytestmark = pytest.mark.stack

GROUPS = ("drift-training", "drift-1h", "drift-24h", "drift")


def series(name: str, labels: Mapping[str, str]) -> str:
    """Return a series in PromQL notation."""
    selector = ", ".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
    return f"{name}{{{selector}}}"


def expectations(results: Mapping[tuple[str, str], DriftResult], window: str) -> list[dict[str, Any]]:
    """Return one expression per value, which is 1 if the value is within 1e-9."""
    expressions = []
    for (feature, statistic), result in results.items():
        key = "ml_output_name" if feature.startswith("\x1f") else "ml_feature_name"
        names = {"ml_feature_name": "", "ml_output_name": "", key: feature.removeprefix("\x1f")}
        labels = {**names, "ml_drift_statistic": statistic, "window": window}
        fields = {
            "value": result.value,
            "threshold": result.threshold,
            "sample": result.n,
            "independent": result.independent,
        }
        for field, value in fields.items():
            if math.isfinite(value):
                expressions.append(
                    f"abs({series(f'job_model_feature:ml_drift:{field}', labels)} - ({value!r})) < bool 1e-9"
                )
        expressions.append(f"{series('job_model_feature:ml_drift:state', labels)} == bool {DRIFT_STATES[result.state]}")
    return [
        {"expr": f"sum({expression})", "eval_time": "100m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for expression in expressions
    ]


@pytest.mark.parametrize("regressor", [False, True], ids=["classifier", "regressor"])
@pytest.mark.parametrize(
    ("before", "within", "shift", "repeated", "held_out"),
    [
        (5000, 1500, 0.0, 0.5, True),
        (3000, 400, 0.3, 0.0, True),
        (1000, 100, 1.0, 1.0, True),
        (20_000, 3000, 0.1, 0.1, True),
        (5000, 900, 0.5, 0.9, True),
        (3000, 100, 0.5, 0.9, False),
    ],
)
def test_rules_equal_the_definitions(
    tmp_path: Path, regressor: bool, before: int, within: int, shift: float, repeated: float, held_out: bool
) -> None:
    """Value, threshold, sample and state of all statistics agree within 1e-9, for one hour and one day.

    Without held-out rows, the statistics of the outputs have a state of their own.
    """
    model, rng = drift_model(regressor=regressor, held_out=held_out), np.random.default_rng(before)
    first = draw_traffic(model, rng, before, shift=shift)
    later = replace(draw_traffic(model, rng, within, shift=shift), repeated=round(repeated * within))
    both = first - (draw_traffic(model, rng, 0, shift=0) - later)
    starts = {(name, tuple(labels.items())): value for name, labels, value in counter_series(model, first)}
    input_series = [
        # Counters start at zero, so that `anchored` includes the first value of a series.
        {
            "series": series(name, labels),
            "values": f"_x2 0 {float(starts.get((name, tuple(labels.items())), 0))!r}x60 {float(value)!r}x40",
        }
        for name, labels, value in counter_series(model, both)
    ] + [
        {"series": series(name, labels), "values": f"{float(value)!r}x110"}
        for name, labels, value in gauge_series(model)
    ]
    tests = expectations(later.drift_results(model), "1h") + expectations(both.drift_results(model), "24h")
    content = {
        "rule_files": [str(PROMETHEUS / "rules" / "drift.yml")],
        "group_eval_order": list(GROUPS),
        "evaluation_interval": "1m",
        "tests": [{"name": "agreement", "interval": "1m", "input_series": input_series, "promql_expr_test": tests}],
    }
    file = tmp_path / "agreement.yml"
    file.write_text(yaml.safe_dump(content, width=10_000))

    assert len(tests) > 80
    promtool("test", "rules", str(file))
