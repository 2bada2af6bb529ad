"""A classifier with a feature of each type, its rows, and files with them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.inference.model import Model

FEATURES = ["age", "income", "größe", "plan", "tier", "member"]


@dataclass(frozen=True)
class MixedModel:
    """The estimator, its bundle, and rows: the features, and the column `id`, which is not a feature."""

    estimator: Pipeline
    bundle: Path
    model: Model
    table: pd.DataFrame

    @property
    def labels(self) -> list[str]:
        """What the estimator predicts for the rows."""
        labels: list[str] = self.estimator.predict(self.table[FEATURES]).tolist()
        return labels

    @property
    def confidences(self) -> list[float]:
        """The highest probability that the estimator has for each row."""
        highest: list[float] = self.estimator.predict_proba(self.table[FEATURES]).max(axis=1).tolist()
        return highest

    def write(self, path: Path, table: pd.DataFrame | None = None) -> Path:
        """Write rows to a file in the format of its name."""
        rows = self.table if table is None else table
        if path.suffix == ".parquet":
            rows.to_parquet(path)
        elif ".jsonl" in path.suffixes:
            lines = rows.astype(object).where(rows.notna(), None).to_dict("records")
            path.write_text("".join(f"{json.dumps(line, default=_plain)}\n" for line in lines))
        else:
            rows.to_csv(path, index=False, sep="\t" if ".tsv" in path.suffixes else ",")
        return path


def pack_mixed(folder: Path, rows: int = 300) -> MixedModel:
    """Fit the classifier and pack it."""
    rng = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "id": [f"customer {number}" for number in range(rows)],
            "age": rng.integers(18, 90, rows),
            "income": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(3000, 700, rows)),
            "größe": rng.normal(1.7, 0.1, rows),
            "plan": rng.choice(["basic", "pro, yearly", 'the "max"', "größer"], rows),
            "tier": pd.Categorical(rng.integers(1, 4, rows)),
            "member": rng.random(rows) < 0.5,
        }
    )
    score = table.age / 30 + table.income.fillna(0) / 3000 + (table.plan == "basic") + table.member
    labels = pd.Series(np.where(score > score.median(), "yes", "no"), name="churned")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((numbers, FEATURES[:3]), (encoder, FEATURES[3:]))
    estimator = make_pipeline(columns, LogisticRegression()).fit(table[FEATURES], labels)
    bundle = pack(estimator, table[FEATURES], labels, name="churn", out=folder / "churn")
    return MixedModel(estimator, bundle, load_bundle(bundle), table)


def _plain(value: Any) -> Any:
    return value.item()
