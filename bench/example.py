"""Prepare the example model for the benches: its bundle, its joblib file and the rows to send."""

from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from modeltrace.bundles.artifact import load_artifact
from modeltrace.bundles.example import TARGET, build_example
from modeltrace.bundles.manifest import read_manifest


@dataclass(frozen=True)
class Example:
    """A model as a bundle and as a joblib file, the rows to send, and the expected confidence of each row."""

    bundle: Path
    joblib: Path
    rows: list[dict[str, float]]
    confidences: list[float]


def prepare_example(folder: Path) -> Example:
    """Fit the example model and write it to `folder` as a bundle and as a joblib file."""
    bundle = build_example(folder / "bundle", onnx=True)
    manifest, _ = read_manifest(bundle)
    artifact = bundle / manifest.artifact.file
    estimator = load_artifact(artifact.read_bytes(), manifest.artifact.format, source=artifact)
    joblib_file = folder / "model.joblib"
    joblib.dump(estimator, joblib_file)
    traffic = pd.read_parquet(bundle / "traffic.parquet").drop(columns=TARGET)
    rows = [{str(name): float(value) for name, value in row.items()} for row in traffic.to_dict(orient="records")]
    confidences = np.max(estimator.predict_proba(traffic.to_numpy()), axis=1)
    return Example(bundle, joblib_file, rows, confidences.tolist())
