"""The panel "Model files" tells apart two model files that have the same name and version."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.helpers.promtool import promtool

pytestmark = pytest.mark.stack

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboards" / "model-health.json"
VARIABLES: Final = {"service": "modeltrace", "model": "m", "version": "1"}
VERSION: Final = 'ml_model_name="m", ml_model_version="1"'


def panel_queries() -> dict[str, str]:
    """Return the queries of the panel by the heading of their column, with the variables replaced."""
    (panel,) = [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["title"] == "Model files, last hour"]
    headings = panel["transformations"][1]["options"]["renameByName"]
    return {
        headings[f"Value #{target['refId']}"]: re.sub(r"\$(\w+)", lambda match: VARIABLES[match[1]], target["expr"])
        for target in panel["targets"]
    }


def counter(metric: str, process: str, per_minute: float) -> dict[str, str]:
    """Return a counter of a process that starts at 0 and increases for two hours."""
    return {"series": f'{metric}{{job="modeltrace", instance="{process}", {VERSION}}}', "values": f"0+{per_minute}x120"}


def loaded(process: str, model_hash: str, values: str) -> dict[str, str]:
    """Return the series of the model file of a process."""
    labels = f'job="modeltrace", instance="{process}", {VERSION}, ml_model_hash="{model_hash}"'
    return {"series": f"ml_model_loaded{{{labels}}}", "values": values}


def by_file(**values: float) -> list[dict[str, Any]]:
    """Return the expected samples by the first letter of the hash."""
    return [
        {"labels": f'{{ml_model_hash="{name}", {VERSION}}}', "value": value} for name, value in sorted(values.items())
    ]


def test_each_file_has_its_own_figures(tmp_path: Path) -> None:
    """Processes p and q use file a; process r was started again, with the file b instead of c and the same ID."""
    processes = {"p": (10, 0.9), "q": (20, 0.9), "r": (40, 0.5)}  # predictions per minute, confidence
    series = [loaded("p", "a", "1x120"), loaded("q", "a", "1x90"), loaded("r", "c", "1x70"),
              loaded("r", "b", "_x71 1x48")]  # fmt: skip
    for process, (per_minute, confidence) in processes.items():
        series += [
            counter("ml_predictions_total", process, per_minute),
            counter("ml_prediction_confidence_count", process, per_minute),
            counter("ml_prediction_confidence_sum", process, per_minute * confidence),
            counter("ml_predictions_low_confidence_total", process, per_minute / 10),
            counter("ml_data_violations_total", process, per_minute / 5),
        ]
    expected = {
        "Processes": by_file(a=2, b=1),
        "Predictions": by_file(a=30 * 60, b=40 * 60),
        "Mean confidence": by_file(a=0.9, b=0.5),
        "Low confidence": by_file(a=0.1, b=0.1),
        "Schema violations": by_file(a=6 * 60, b=8 * 60),
    }
    queries = panel_queries()
    assert queries.keys() == expected.keys()
    checks = [
        {"expr": queries[heading], "eval_time": "2h", "exp_samples": samples} for heading, samples in expected.items()
    ]
    rules = tmp_path / "files.yml"
    rules.write_text(
        json.dumps(
            {
                "fuzzy_compare": True,
                "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}],
            }
        )
    )
    promtool("test", "rules", str(rules))
