"""The drift rules of a real Prometheus agree with the definitions of the service on the same traffic."""

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
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.drift_check import WindowCounts
from modeltrace.monitoring.reference_gauges import OUTPUTS
from tests.helpers.drift_counts import DRIFT_STATES, TrafficCounts
from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.promtool import PROMETHEUS
from tests.helpers.services import running_service
from tests.helpers.stack import binary

pytestmark = pytest.mark.stack

ROWS, REFUSED = 700, 40
FEATURES = "exemplar-storage,created-timestamp-zero-ingestion,promql-extended-range-selectors"
# Counts are integers and `anchored` is exact; floats are summed in another order.
TOLERANCE = 1e-9


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Run Prometheus with the deployed configuration and a short evaluation interval. Yield its URL."""
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
    """Return the values that a rule recorded for one hour, by feature and statistic."""
    response = httpx.get(f"{address}/api/v1/query", params={"query": f'{name}{{window="1h"}}'}, timeout=30)
    series: list[dict[str, Any]] = response.raise_for_status().json()["data"]["result"]
    return {
        (sample["metric"].get("ml_feature_name", OUTPUTS), sample["metric"]["ml_drift_statistic"]): float(
            sample["value"][1]
        )
        for sample in series
    }


def expected(model: Model, rows: pd.DataFrame, answers: list[dict[str, Any]]) -> TrafficCounts:
    """Compute the expected values of the same traffic."""
    bins = FeatureBins(model.schema)
    inputs = list(rows.itertuples(index=False, name=None))
    bin_counts = Counter(bins.digitize(inputs, bins.numeric_values(inputs)).ravel().tolist())
    windows = {}
    for feature in model.schema.features:
        counts = tuple(bin_counts[index] for index, (name, _) in enumerate(bins.bin_names) if name == feature.name)
        refused = REFUSED if feature.name == "mean_radius" else 0
        windows[feature.name] = WindowCounts(counts, refused)
    labels = Counter(str(answer["label"]) for answer in answers)
    assert model.output_reference
    windows[OUTPUTS] = WindowCounts(tuple(labels[label] for label in model.output_reference.shares))
    return TrafficCounts(windows, sum(answer["confidence"] < (model.confidence_threshold or 0) for answer in answers))


def test_recorded_values_equal_the_definitions(tmp_path: Path) -> None:
    """Value, threshold, sample and state agree, with two workers, a shifted feature and missing values."""
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
                # One connection per batch, so that every worker gets some of them.
                response = httpx.post(f"{url}/predict/batch", json={"rows": batch}, timeout=60)
                answers += response.raise_for_status().json()["predictions"]
            httpx.post(f"{url}/predict/batch", json={"rows": bad}, timeout=60).raise_for_status()
            definitions = expected(model, rows, answers).drift_results(model)
            name = "job_model_feature:ml_drift"

            def agrees() -> bool:
                values, samples = recorded(address, f"{name}:value"), recorded(address, f"{name}:sample")
                return samples == {key: result.n for key, result in definitions.items()} and all(
                    values.get(key) == pytest.approx(result.value, rel=TOLERANCE, abs=TOLERANCE)
                    for key, result in definitions.items()
                )

            wait_until(agrees, seconds=180, description=f"the values of {ROWS} rows in Prometheus")
            limits = {key: pytest.approx(result.threshold, rel=TOLERANCE) for key, result in definitions.items()}
            states = {key: DRIFT_STATES[result.state] for key, result in definitions.items()}
            # Prometheus evaluates one rule after the other, so a point may arrive between two of them.
            for series, limit in (("threshold", limits), ("state", states)):
                wait_until(
                    lambda series=series, limit=limit: recorded(address, f"{name}:{series}") == limit,  # type: ignore[misc]
                    seconds=180,
                    description=f"the {series} of {ROWS} rows in Prometheus",
                )
    assert definitions["worst_texture", "psi"].state == definitions["mean_radius", "missing"].state == "drift"
    assert definitions["mean_area", "psi"].state == "ok"
