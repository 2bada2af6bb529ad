"""The example model `breast-cancer`, fitted on rows from a generator.

scikit-learn includes 569 real rows (Wisconsin breast cancer). An example that runs for hours would repeat them, and
repeated rows count as drift. Therefore, a `GaussianCopula` is fitted on a part of the real rows. The training rows, the
test rows and the rows that `modeltrace traffic` sends are independent samples from it, with different seeds.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeltrace.bundles.file_names import GENERATOR_FILE
from modeltrace.bundles.generator import GaussianCopula
from modeltrace.bundles.pack import pack

NAME = "breast-cancer"
VERSION = "1.0.0"
TARGET = "target"
TEST_FRACTION = 0.3
TRAINING_ROWS = 5000
HELD_OUT_ROWS = 1000


def build_example(out: Path, *, force: bool = False, onnx: bool = False) -> Path:
    """Fit the example model and pack it into `out`, with test rows and the real rows that its generator needs."""
    real, _ = load_real_rows()
    train = sample_rows(real, TRAINING_ROWS, seed=0)
    features, labels = train.drop(columns=TARGET), train[TARGET]
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    # Fit without column names, so that predictions do not need a DataFrame.
    estimator.fit(features.to_numpy(), labels)
    bundle = pack(
        estimator,
        features,
        labels,
        name=NAME,
        version=VERSION,
        out=out,
        traffic=sample_rows(real, HELD_OUT_ROWS, seed=1),
        force=force,
        onnx=onnx,
    )
    (bundle / GENERATOR_FILE).write_text(json.dumps(real.to_dict("list")), encoding="utf-8")
    return bundle


def load_real_rows() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the real rows with labels, in two parts: the rows for fitting the generator, and the remaining rows."""
    data = load_breast_cancer(as_frame=True)
    table = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    table[TARGET] = data.target.map(dict(enumerate(data.target_names)))
    fitted, unseen = train_test_split(table, test_size=TEST_FRACTION, stratify=table[TARGET], random_state=0)
    return fitted, unseen


def sample_rows(real: pd.DataFrame, rows: int, *, seed: int) -> pd.DataFrame:
    """Return independent rows with labels, sampled from a generator that is fitted on `real`."""
    features = real.drop(columns=TARGET)
    generator = GaussianCopula.fit(features.to_numpy(dtype=np.float64), real[TARGET].tolist())
    values, labels = generator.sample(rows, np.random.default_rng(seed))
    table = pd.DataFrame(values, columns=features.columns)
    table[TARGET] = pd.Series(labels, dtype=object)
    return table
