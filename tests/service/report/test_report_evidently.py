"""`modeltrace report evidently` reports the metrics of the stored predictions."""

import re
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import accuracy_score, f1_score, r2_score, root_mean_squared_error

from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.store import open_store
from tests.helpers.factories import TIME
from tests.helpers.report_cases import (
    FEATURE_NAMES,
    HOSTILE_NAME,
    SECOND,
    TARGET,
    PackPeople,
    ReportCase,
    labels_for,
    person_table,
    store_answers,
)

pytestmark = [pytest.mark.slow, pytest.mark.extended]


def labelled(store: str) -> list[StoredPrediction]:
    """Return the predictions with inputs and a true label, except those of shadows."""
    with open_store(store) as opened:
        rows = [row for page in opened.read() for row in page]
    return [row for row in rows if row.true_label is not None and row.inputs and not row.shadow_of]


def metric_in(output: str, name: str) -> float:
    """Return a metric from the line with the library's results."""
    match = re.search(rf"{re.escape(name)} ([0-9.e-]+)", output)
    assert match is not None, output
    return float(match[1])


def test_two_classes_against_the_held_out_rows(two: ReportCase, tmp_path: Path) -> None:
    """The file has drift and quality; file and terminal say what was compared; feature names are not markup."""
    out = tmp_path / "week.html"
    output = two.run("evidently", str(out))
    page = out.read_text()
    rows = labelled(two.store)
    true, predicted = [row.true_label for row in rows], [row.label for row in rows]

    assert f"200 test rows of people 1.0.0 ({two.bundle}), predicted by its model; 200 with a true label" in output
    assert "429 predictions of people 1.0.0, 2.0.0" in output
    assert metric_in(output, "accuracy") == pytest.approx(accuracy_score(true, predicted), abs=1e-4)
    assert metric_in(output, "F1") == pytest.approx(f1_score(true, predicted, pos_label="yes"), abs=1e-4)
    for text in ("test rows of people 1.0.0", "inputs were erased", "Predictions against true labels"):
        assert text in page
    assert HOSTILE_NAME not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!plotly\.com/")', page)


def test_predictions_count_although_the_model_has_another_threshold(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's threshold is not 0.5; the metrics are those of its predictions."""
    bundle, training = packed("cautious")
    store = str(tmp_path / "p.db")
    frame = person_table(200, 5)
    store_answers(store, bundle, frame, labels_for(frame, ["no", "yes"], 6).tolist())
    output = ReportCase(bundle, training, store, monkeypatch).run("evidently", str(tmp_path / "a.html"))
    rows = labelled(store)
    true, predicted = [row.true_label for row in rows], [row.label for row in rows]
    halves = ["yes" if (row.confidence or 0) >= 0.5 and row.label == "yes" else "no" for row in rows]

    assert halves != predicted
    assert metric_in(output, "accuracy") == pytest.approx(accuracy_score(true, predicted), abs=1e-4)
    assert metric_in(output, "F1") == pytest.approx(f1_score(true, predicted, pos_label="yes"), abs=1e-4)


def test_three_classes_against_the_training_data(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is a CSV file with a target column; its numbers match the numeric classes."""
    bundle, training = packed("three")
    csv = tmp_path / "train.csv"
    pd.read_parquet(training).to_csv(csv, index=False)
    store = str(tmp_path / "p.db")
    frame = person_table(150, 5)
    store_answers(store, bundle, frame, [index % 3 for index in range(150)])
    output = ReportCase(bundle, training, store, monkeypatch).run(
        "evidently", str(tmp_path / "o.html"), "--reference", str(csv), "--target", TARGET, "--rows", "120"
    )

    assert f"600 rows of {csv}, predicted by its model; 600 with a true label" in output
    assert "150 predictions of people 1.0.0, 120 of them drawn at random" in output
    assert 0 < metric_in(output, "accuracy") < 0.7


def test_a_regressor_without_labels_then_with(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is an earlier window; error metrics appear once there are labels."""
    bundle, training = packed("regressor")
    store = str(tmp_path / "p.db")
    frame = person_table(300, 5)[[FEATURE_NAMES[2], FEATURE_NAMES[4]]]
    later = TIME + 86_400 * SECOND
    store_answers(store, bundle, frame)
    report = ReportCase(bundle, training, store, monkeypatch)
    times = ("--since", "2023-11-15T12:00", "--reference-until", "2023-11-15T12:00")
    with pytest.raises(ModeltraceError, match="no prediction of people since 2023-11-15 12:00 UTC"):
        report.run("evidently", str(tmp_path / "none.html"), *times)
    shifted = frame + 20
    store_answers(store, bundle, shifted, time=later)
    output = report.run("evidently", str(tmp_path / "a.html"), *times)
    assert "300 predictions from 2023-11-14 22:13 UTC to 2023-11-14 22:18 UTC; 0 with a true label" in output
    assert "3 of 3 columns drifted" in output
    assert "RMSE" not in output

    truth = [3 * row[0] + row[1] + index % 5 for index, row in enumerate(shifted.itertuples(index=False, name=None))]
    store_answers(store, bundle, shifted, truth, time=later)
    output = report.run("evidently", str(tmp_path / "a.html"), *times, "--force")
    rows = labelled(store)
    values = [row.true_label for row in rows], [row.value for row in rows]
    assert metric_in(output, "RMSE") == pytest.approx(root_mean_squared_error(*values), rel=1e-3)
    assert metric_in(output, "R²") == pytest.approx(r2_score(*values), abs=1e-3)
    assert ks_2samp(frame[FEATURE_NAMES[2]], shifted[FEATURE_NAMES[2]]).pvalue < 0.05
