"""A real service, a real Prometheus with our rules: its figures are those of our definitions on the same traffic."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.example import build_example
from modeltrace.inference.model import Model
from modeltrace.monitoring.bins import FeatureBins
from modeltrace.monitoring.drift_check import WindowCounts
from modeltrace.monitoring.reference_metrics import OUTPUTS
from tests.helpers.drift_counts import DRIFT_STATES, TrafficCounts
from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.promtool import PROMETHEUS
from tests.helpers.services import running_service
from tests.helpers.stack import binary

pytestmark = pytest.mark.stack

ROWS, REFUSED = 700, 40
FEATURES = "exemplar-storage,created-timestamp-zero-ingestion,promql-extended-range-selectors"
# Counts are whole and `anchored` is exact; sums of floats are added up in another order.
TOLERANCE = 1e-9


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Prometheus with the deployed configuration, its rules evaluated every few seconds; its address."""
    shutil.copytree(PROMETHEUS, folder / "config")
    for path in (folder / "config" / "rules").glob("*.yml"):
        path.write_text(re.sub(r"interval: \dm", "interval: 3s", path.read_text()))
    port, output = free_port(), folder / "output"
    command = [
        str(binary("prometheus", "prometheus")),
        f"--config.file={folder / 'config' / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-otlp-receiver",
        f"--enable-feature={FEATURES}",
    ]
    with output.open("wb") as sink, subprocess.Popen(command, env=os.environ, stdout=sink, stderr=sink) as popen:
        try:
            process = Process(popen, output)
            process.wait_for(f"http://127.0.0.1:{port}/-/ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            popen.terminate()


def recorded(address: str, name: str) -> dict[tuple[str, str], float]:
    """What a rule has recorded of an hour, by feature and statistic."""
    found = httpx.get(f"{address}/api/v1/query", params={"query": f'{name}{{window="1h"}}'}, timeout=30)
    series: list[dict[str, Any]] = found.raise_for_status().json()["data"]["result"]
    return {
        (one["metric"].get("ml_feature_name", OUTPUTS), one["metric"]["ml_drift_statistic"]): float(one["value"][1])
        for one in series
    }


def expected(model: Model, rows: pd.DataFrame, answers: list[dict[str, Any]]) -> TrafficCounts:
    """The same traffic, counted here."""
    bins = FeatureBins(model.schema)
    inputs = list(rows.itertuples(index=False, name=None))
    places = Counter(bins.digitize(inputs, bins.numeric_values(inputs)).ravel().tolist())
    windows = {}
    for feature in model.schema.features:
        counts = tuple(places[place] for place, (name, _) in enumerate(bins.bin_names) if name == feature.name)
        refused = REFUSED if feature.name == "mean_radius" else 0
        windows[feature.name] = WindowCounts(counts, float(rows[feature.name].sum()), refused)
    labels = Counter(str(one["label"]) for one in answers)
    assert model.output_reference
    windows[OUTPUTS] = WindowCounts(tuple(labels[label] for label in model.output_reference.shares))
    return TrafficCounts(windows, sum(one["confidence"] < (model.confidence_threshold or 0) for one in answers))


def test_prometheus_says_what_the_definitions_say(tmp_path: Path) -> None:
    """Two workers, a feature that has moved, values that are missing: value, threshold, sample and state of all."""
    bundle = build_example(tmp_path / "bundle")
    model = load_bundle(bundle)
    rows = pd.read_parquet(bundle / "traffic.parquet")[list(model.schema.names)]
    rows = rows.iloc[np.random.default_rng(0).integers(len(rows), size=ROWS)].assign(
        worst_texture=lambda table: table.worst_texture * 1.3
    )
    bad = [{**row, "mean_radius": None} for row in rows[:REFUSED].to_dict(orient="records")]
    with prometheus(tmp_path) as address:
        env = {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{address}/api/v1/otlp/v1/metrics",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }
        with running_service(bundle, None, "--workers", "2", seconds=240, **env) as (_, url):
            answers = []
            for start in range(0, ROWS, 50):
                batch = rows[start : start + 50].to_dict(orient="records")
                # A connection each, so that every worker gets some.
                said = httpx.post(f"{url}/predict/batch", json={"rows": batch}, timeout=60)
                answers += said.raise_for_status().json()["predictions"]
            httpx.post(f"{url}/predict/batch", json={"rows": bad}, timeout=60).raise_for_status()
            wanted = expected(model, rows, answers).drift_results(model)
            name = "job_model_feature:ml_drift"

            def agrees() -> bool:
                values, samples = recorded(address, f"{name}:value"), recorded(address, f"{name}:sample")
                return samples == {key: one.n for key, one in wanted.items()} and all(
                    values.get(key) == pytest.approx(one.value, rel=TOLERANCE, abs=TOLERANCE)
                    for key, one in wanted.items()
                )

            wait_until(agrees, seconds=180, description=f"the figures of {ROWS} rows in Prometheus")
            limits, states = (
                wait_until(lambda what=what: recorded(address, f"{name}:{what}"), description=what)  # type: ignore[misc]
                for what in ("threshold", "state")
            )
    assert limits == {key: pytest.approx(one.threshold, rel=TOLERANCE) for key, one in wanted.items()}
    assert states == {key: DRIFT_STATES[one.state] for key, one in wanted.items()}
    assert wanted["worst_texture", "psi"].state == wanted["mean_radius", "missing"].state == "drift"
    assert wanted["mean_area", "psi"].state == "ok"
