"""The example model for a bench: as a bundle for the service, as a joblib file for everything else, and its traffic."""

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
    """One model in both forms, the rows to send, and the confidence that is right for each of them."""

    bundle: Path
    joblib: Path
    rows: list[dict[str, float]]
    confidences: list[float]


def prepare_example(folder: Path) -> Example:
    """Fit the example model once and write it to `folder`."""
    bundle = build_example(folder / "bundle", onnx=True)
    manifest, _ = read_manifest(bundle)
    artifact = bundle / manifest.artifact.file
    estimator = load_artifact(artifact.read_bytes(), manifest.artifact.format, source=artifact)
    plain = folder / "model.joblib"
    joblib.dump(estimator, plain)
    traffic = pd.read_parquet(bundle / "traffic.parquet").drop(columns=TARGET)
    rows = [{str(name): float(value) for name, value in row.items()} for row in traffic.to_dict(orient="records")]
    confidences = np.max(estimator.predict_proba(traffic.to_numpy()), axis=1)
    return Example(bundle, plain, rows, confidences.tolist())
