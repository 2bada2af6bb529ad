"""Cases for reports: models with hostile feature names, stores with their predictions, and the command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import app
from modeltrace.errors import ModeltraceError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.privacy import Redactor
from modeltrace.inference.schema import PrivacyRule
from modeltrace.store.rows import RowBuilder, StoredLabel
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.factories import TIME, AnsweredRequest, answered_row

HOSTILE_NAME: Final = "</script><script>document.title='taken'</script>"
FEATURE_NAMES: Final = ("prediction", "city [m|n] é  '\"", HOSTILE_NAME, "paid", "true label")
PRIVACY_RULES: Final[dict[str, PrivacyRule]] = {
    FEATURE_NAMES[0]: "bucket",
    FEATURE_NAMES[1]: "hash",
    FEATURE_NAMES[3]: "bucket",
    FEATURE_NAMES[4]: "drop",
}
SECOND: Final = 10**9
TARGET: Final = "what is true"


@dataclass(frozen=True)
class ReportCase:
    """A bundle, its training data, and a store with predictions of its model."""

    bundle: Path
    training_data: Path
    store: str
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> str:
        """Run `modeltrace report`, and return its output.

        Raises:
            ModeltraceError: the command failed.
        """
        self.monkeypatch.setenv("MODELTRACE_STORE", self.store)
        self.monkeypatch.setenv("MODELTRACE_BUNDLE", str(self.bundle))
        result = CliRunner().invoke(app, ["report", *arguments], env={"COLUMNS": "200"})
        if isinstance(result.exception, ModeltraceError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output


def person_table(number: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Return rows with numbers, categories and booleans, some missing; `shift` is added to the first feature."""
    rng = np.random.default_rng(seed)
    prediction, city, hostile, paid, truth = FEATURE_NAMES
    frame = pd.DataFrame({
        prediction: rng.normal(40 + shift, 12, number).round(1),
        city: pd.Series(rng.choice(["Bern", HOSTILE_NAME, "Köln\t"], number, p=[0.6, 0.3, 0.1]), dtype=object),
        hostile: rng.integers(0, 50, number),
        paid: pd.Series(rng.choice([True, False], number)),
        truth: rng.exponential(2.0, number),
    })  # fmt: skip
    frame.loc[rng.random(number) < 0.05, prediction] = np.nan
    frame.loc[rng.random(number) < 0.05, city] = None
    return frame


def labels_for(frame: pd.DataFrame, labels: Sequence[Any], seed: int) -> "pd.Series":
    """Return labels that depend on the first feature and noise."""
    noise = np.random.default_rng(seed).normal(0, 6, len(frame))
    score = frame[FEATURE_NAMES[0]].fillna(40) + noise
    indices = np.searchsorted([40.0] if len(labels) == 2 else [35.0, 45.0], score)
    return pd.Series([labels[index] for index in indices], name=TARGET)


def store_answers(
    store: str,
    bundle: Path,
    frame: pd.DataFrame,
    truth: Sequence[Any] | None = None,
    *,
    time: int = TIME,
    version: str | None = None,
    shadow_of: int | None = None,
) -> None:
    """Store predictions of a bundle's model for rows, a second apart, and their true labels.

    Args:
        store: URL of the store.
        bundle: the bundle of the model.
        frame: the rows.
        truth: a label for each row, or `None`.
        time: the time of the first row, in nanoseconds; it is part of the prediction IDs.
        version: the version of the model, if not that of its bundle.
        shadow_of: the time of the stored rows whose shadows these rows are.
    """
    model = load_bundle(bundle)
    rows = [tuple(map(json_value, row)) for row in frame.itertuples(index=False, name=None)]
    outputs = model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame))
    predicted = [
        answered_row(
            f"{time}-{index}",
            row=index,
            label=output.label,
            value=output.value,
            confidence=output.confidence,
            inputs=row,
            time=time + index * SECOND,
        )
        for index, (row, output) in enumerate(zip(rows, outputs, strict=True))
    ]
    predicted = [*Redactor(model.schema, b"a key").redact_rows(predicted)]
    info = ModelInfo(model.name, version or model.version, model.hash, model.schema.recorded_names)
    shadow_ids = None if shadow_of is None else [f"{shadow_of}-{index}" for index in range(len(predicted))]
    with open_store(store) as opened:
        opened.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(predicted, model=info, shadow_of=shadow_ids)))
        if truth is not None:
            pairs = [(row, label) for row, label in zip(predicted, truth, strict=True) if label is not None]
            opened.add_labels(
                [StoredLabel(row.prediction_id, label, row.time + SECOND, row.time) for row, label in pairs]
            )


def json_value(value: Any) -> Any:
    """Return the value of a cell as a JSON value."""
    return None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value


def pack_people(folder: Path, kind: str) -> tuple[Path, Path]:
    """Pack a model, write its training data to a file, and return both paths.

    The model has `two` classes, is `cautious` (two classes and a threshold of 0.2), has `three` classes, is a
    `regressor`, or has features with each `private` rule.
    """
    bundle, training = folder / kind, folder / f"{kind}.parquet"
    labels: dict[str, list[Any]] = {
        "two": ["no", "yes"],
        "cautious": ["no", "yes"],
        "private": ["no", "yes"],
        "three": [0, 1, 2],
    }
    frame, held_out = person_table(600, 1), person_table(200, 2)
    if kind == "regressor":
        frame, held_out = frame[[FEATURE_NAMES[2], FEATURE_NAMES[4]]], held_out[[FEATURE_NAMES[2], FEATURE_NAMES[4]]]
        target, truth = (
            (3 * table[FEATURE_NAMES[2]] + table[FEATURE_NAMES[4]]).rename(TARGET) for table in (frame, held_out)
        )
        estimator: Any = LinearRegression().fit(frame, target)
    else:
        target, truth = labels_for(frame, labels[kind], 3), labels_for(held_out, labels[kind], 4)
        encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
        columns = make_column_transformer((encode, [FEATURE_NAMES[1], FEATURE_NAMES[3]]), remainder="passthrough")
        estimator = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=20))
        if kind == "cautious":
            estimator = FixedThresholdClassifier(estimator, threshold=0.2, pos_label="yes")
        estimator.fit(frame, target)
    traffic = None if kind == "private" else held_out.assign(**{TARGET: truth})
    pack(
        estimator,
        frame,
        target,
        name="people",
        out=bundle,
        traffic=traffic,
        privacy=PRIVACY_RULES if traffic is None else {},
    )
    frame.assign(**{TARGET: target}).to_parquet(training)
    return bundle, training


def store_two_classes(store: str, bundle: Path) -> None:
    """Store 400 predictions (300 with a label, one of these erased), 30 of another version and 20 of a shadow."""
    frame = person_table(400, 5, shift=10)
    truth = [label if index % 4 else None for index, label in enumerate(labels_for(frame, ["no", "yes"], 6))]
    store_answers(store, bundle, frame, truth)
    store_answers(store, bundle, person_table(30, 7), time=TIME + 3600 * SECOND, version="2.0.0")
    store_answers(store, bundle, person_table(20, 8), time=TIME + 7200 * SECOND, version="3.0.0", shadow_of=TIME)
    with open_store(store) as opened:
        opened.erase([f"{TIME}-3"], TIME)


PackPeople = Callable[[str], tuple[Path, Path]]
