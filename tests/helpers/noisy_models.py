"""Models of data that hardly separates their classes, and the drift of their outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.inference.model import Model
from modeltrace.monitoring import drift
from modeltrace.monitoring.drift_check import DriftResult, WindowCounts, check_confidence, check_drift
from modeltrace.monitoring.reference_gauges import OUTPUTS, critical_values


def noisy_rows(n: int, seed: int) -> tuple[pd.DataFrame, "pd.Series"]:
    """Return four numbers, and one of three classes: the largest of three numbers after noise has been added."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4))
    classes = np.array(["x", "y", "z"])[(values[:, :3] + rng.normal(0, 2, size=(n, 3))).argmax(axis=1)]
    return pd.DataFrame(values, columns=["a", "b", "c", "d"]), pd.Series(classes, name="kind")


def pack_with_messages(
    folder: Path, estimator: Any, rows: pd.DataFrame, target: "pd.Series | None", **options: Any
) -> tuple[Path, Manifest, list[str]]:
    """Pack, and return the bundle, its manifest and the messages."""
    messages: list[str] = []
    bundle = pack(
        estimator, rows, target, name="m", out=folder / "bundle", on_message=messages.append, artifact_format="joblib",
        **options,
    )  # fmt: skip
    return bundle, read_manifest(bundle)[0], messages


def output_drift(model: Model, rows: pd.DataFrame) -> dict[str, DriftResult]:
    """Return the statistics of the outputs in a window of rows."""
    reference = model.output_reference
    assert reference is not None
    outputs = model.predict_fn(rows if model.as_frame else rows.to_numpy())
    if reference.edges is None:
        bins = [list(reference.shares).index(str(output.label)) for output in outputs]
    else:
        bins = np.searchsorted(reference.edges, [output.value or 0.0 for output in outputs]).tolist()
    counts = np.bincount(bins, minlength=len(reference.shares)).tolist()
    criticals = {name: value for (feature, name), value in critical_values(model).items() if feature == OUTPUTS}
    low_confidence = criticals.pop(drift.LOW_CONFIDENCE, None)
    results = check_drift(reference, WindowCounts(counts), criticals, has_reference=model.held_out is not None)
    if low_confidence is not None:
        low = sum((output.confidence or 0) < (model.confidence_threshold or 0) for output in outputs)
        results.append(check_confidence(low, len(outputs), low_confidence, model.held_out))
    return {result.statistic: result for result in results}


def drifting(model: Model, rows: pd.DataFrame) -> set[str]:
    """Return the statistics of the outputs that drift."""
    return {name for name, result in output_drift(model, rows).items() if result.state == "drift"}
