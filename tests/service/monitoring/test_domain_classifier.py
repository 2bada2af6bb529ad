"""`modeltrace drift` sees changes of several features together, and rarely reports samples that are alike."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from modeltrace.bundles.training_schema import build_schema
from modeltrace.cli.main import app
from modeltrace.errors import SettingsError
from modeltrace.inference.schema import Feature
from modeltrace.monitoring.domain_classifier import MIN_ROWS, DomainError, compare_samples, roc_auc
from modeltrace.store.rows import to_json
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.bundles import pack_iris
from tests.helpers.estimators import iris_frame
from tests.helpers.factories import TIME, stored_row

Rng = np.random.Generator


def features_of(table: pd.DataFrame) -> tuple[Feature, ...]:
    """Return the feature schema of training data."""
    return build_schema(
        table, valid_ranges={}, max_lengths={}, strict_categories=False, allowed_violations={}, ignore_unknown=False
    ).features


def normal(rng: Rng, rows: int, correlation: float = 0.0) -> list[Any]:
    """Return rows of three normal features, of which the first two may be correlated."""
    covariance = [[1, correlation, 0], [correlation, 1, 0], [0, 0, 1]]
    sample: list[Any] = rng.multivariate_normal([0, 0, 0], covariance, rows).tolist()
    return sample


@pytest.fixture(scope="module")
def features() -> tuple[Feature, ...]:
    """The schema of `normal`."""
    return features_of(pd.DataFrame(normal(np.random.default_rng(0), 500), columns=["a", "b", "c"]))


def test_a_changed_correlation_is_drift(features: tuple[Feature, ...]) -> None:
    """No single feature has changed; the two that are correlated now are the most important ones."""
    rng = np.random.default_rng(1)

    result = compare_samples(features, normal(rng, 300), normal(rng, 300, 0.9))

    assert result.drift
    assert 0.5 < result.low < result.auc < result.high
    assert {entry.feature for entry in result.features[:2]} == {"a", "b"}
    assert result.features[2].importance < 0.05 < result.features[1].importance


@pytest.mark.extended
def test_samples_that_are_alike_are_no_drift(features: tuple[Feature, ...]) -> None:
    """At most 5 % are reported, and at least 90 % of the intervals contain 0.5."""
    rng = np.random.default_rng(2)
    results = [compare_samples(features, normal(rng, 300), normal(rng, 300)) for _ in range(60)]

    assert sum(result.drift for result in results) <= 3
    assert sum(result.low <= 0.5 <= result.high for result in results) >= 54


def test_repeated_rows_are_not_recognized(features: tuple[Feature, ...]) -> None:
    """Later rows that repeat reference rows are alike, although a classifier could learn each of them."""
    rng = np.random.default_rng(3)
    reference = normal(rng, 200)

    result = compare_samples(features, reference, [reference[index] for index in rng.integers(0, 200, 300)])

    assert not result.drift


@pytest.mark.parametrize("value", [0.0, None, 1e308, -1e308, math.inf])
@pytest.mark.parametrize("constant_reference", [False, True])
def test_a_sample_of_equal_rows(
    features: tuple[Feature, ...],
    value: float | None,
    constant_reference: bool,
) -> None:
    """The most extreme drift has an AUC, too, although equal rows are usually in one fold."""
    samples = [normal(np.random.default_rng(6), 400), [[value] * 3] * 500]
    warnings.simplefilter("error", RuntimeWarning)  # of numbers that overflow

    result = compare_samples(features, *(samples[::-1] if constant_reference else samples))

    assert result.drift
    assert result.auc > 0.99
    assert all(math.isfinite(entry.importance) for entry in result.features)


@pytest.mark.parametrize("value", [0.0, -1e308])
def test_many_equal_rows_among_others_are_drift(features: tuple[Feature, ...], value: float) -> None:
    """A classifier could not learn them if all of them were in the fold that tests it."""
    rng = np.random.default_rng(7)

    result = compare_samples(features, normal(rng, 400), [*normal(rng, 300), *[[value] * 3] * 300])

    assert result.drift
    assert result.auc == pytest.approx(0.75, abs=0.05)


def test_categories_missing_values_and_times() -> None:
    """A category and a missing value are compared; private features and times are not, and are named."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "color": rng.choice(["red", "blue", "green"], 300),
            "size": rng.normal(size=300),
            "flag": rng.choice([True, False], 300),
            "at": pd.date_range("2024-01-01", periods=300, freq="h"),
        }
    )
    fields = features_of(table)
    fields = (*fields[:2], fields[2].model_copy(update={"privacy": "hash"}), fields[3])
    rows = list(zip(table["color"], table["size"], table["flag"], table["at"].map(str), strict=True))
    later = [
        ("purple" if color == "red" else color, None if size > 0.5 else size, flag, at)
        for color, size, flag, at in rows
    ]

    result = compare_samples(fields, rows, later)

    assert result.drift
    assert {entry.feature for entry in result.features if entry.importance > 0.02} == {"color", "size"}
    assert result.excluded == ("flag", "at")


@pytest.mark.parametrize("seed", range(3))
def test_auc_and_its_variance(seed: int) -> None:
    """The AUC equals that of scikit-learn with ties; the variance is that of repeated samples."""
    rng = np.random.default_rng(seed)
    later = rng.integers(0, 2, 400)
    scores = np.round(rng.normal(later * 0.8, 1), 1)

    auc, variance = roc_auc(scores, later)

    assert auc == pytest.approx(roc_auc_score(later, scores), rel=1e-9)
    draws = []
    for _ in range(400):
        index = rng.integers(0, 400, 400)
        draws.append(roc_auc(scores[index], later[index])[0])
    assert variance == pytest.approx(np.var(draws), rel=0.3)


def test_errors(features: tuple[Feature, ...]) -> None:
    """Too few rows, too few distinct rows, and no feature to compare."""
    rng = np.random.default_rng(5)
    rows = normal(rng, MIN_ROWS)

    with pytest.raises(DomainError, match="100 reference rows and 99 later rows: 100 of each are needed"):
        compare_samples(features, rows, rows[:-1])
    with pytest.raises(DomainError, match="only 2 rows are distinct"):
        compare_samples(features, rows[:1] * 100, rows[1:2] * 100)
    private = [feature.model_copy(update={"privacy": "drop"}) for feature in features]
    with pytest.raises(DomainError, match="no feature can be compared"):
        compare_samples(private, rows, rows)


@pytest.mark.slow
def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference are the test rows of the bundle, or a file."""
    frame = pd.concat([iris_frame(), iris_frame() + 0.01, iris_frame() + 0.02])
    bundle = pack_iris(tmp_path / "iris", "1.0.0", traffic=frame, cross_validation_seconds=0)
    without = pack_iris(tmp_path / "without", "1.0.0", cross_validation_seconds=0)
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "predictions.db"))
    info = ModelInfo("iris", "1.0.0", "a" * 64, tuple(frame.columns))
    shifted = [
        {name: value + (3 if name == "petal_width" else 0) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
    with open_store(str(tmp_path / "predictions.db")) as store:
        store.add_predictions(
            [stored_row(f"p{n}", time=TIME + n, model=info, inputs=to_json(row)) for n, row in enumerate(shifted)]
        )
    frame.to_parquet(tmp_path / "reference.parquet")
    arguments = ["drift", "--since", "2023-01-01"]

    as_json = CliRunner().invoke(app, [*arguments, "--bundle", str(bundle), "--json"], catch_exceptions=False)
    text = CliRunner().invoke(
        app,
        [*arguments, "--bundle", str(without), "--reference", str(tmp_path / "reference.parquet")],
        catch_exceptions=False,
    )
    missing = CliRunner().invoke(app, [*arguments, "--bundle", str(without)])

    frame.astype({"petal_width": str}).assign(petal_width="wide").to_csv(tmp_path / "text.csv", index=False)
    wrong = CliRunner().invoke(app, [*arguments, "--bundle", str(without), "--reference", str(tmp_path / "text.csv")])
    early = CliRunner().invoke(app, [*arguments, "--until", "2023-01-02", "--bundle", str(bundle)])

    assert "row 1: petal_width is no number: 'wide'" in str(wrong.exception)
    assert "0 predictions of iris 1.0.0, and 100 are needed. Only predictions of the version" in str(early.exception)
    assert "The 150 predictions can be distinguished from the 150 reference rows, mainly by petal_width" in text.stdout
    result = json.loads(as_json.stdout)
    assert (result["drift"], result["rows"], result["reference_rows"]) == (True, 150, 150)
    assert result["features"][0]["feature"] == "petal_width"
    assert "iris 1.0.0 · drift · ROC AUC" in text.stdout
    assert "petal_width" in text.stdout
    assert isinstance(missing.exception, SettingsError)
    assert "has no test rows: name a file with --reference" in str(missing.exception)
