"""`modeltrace report evidently`: its figures are those of the rows in the store."""

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
    """What has inputs and a true label, and was answered."""
    with open_store(store) as opened:
        rows = [one for chunk in opened.read() for one in chunk]
    return [one for one in rows if one.true_label is not None and one.inputs and not one.shadow_of]


def figure(said: str, name: str) -> float:
    """A figure in the line that tells what the library found."""
    match = re.search(rf"{re.escape(name)} ([0-9.e-]+)", said)
    assert match is not None, said
    return float(match[1])


def test_two_classes_against_the_held_out_rows(two: ReportCase, tmp_path: Path) -> None:
    """Drift and quality in one file; what was compared is said in it and on the terminal; no name becomes markup."""
    out = tmp_path / "week.html"
    said = two.run("evidently", str(out))
    page = out.read_text()
    rows = labelled(two.store)
    true, predicted = [one.true_label for one in rows], [one.label for one in rows]

    assert f"200 held-out rows of people 1.0.0 ({two.bundle}), predicted by its model; 200 with a true label" in said
    assert "429 predictions of people 1.0.0, 2.0.0" in said
    assert figure(said, "accuracy") == pytest.approx(accuracy_score(true, predicted), abs=1e-4)
    assert figure(said, "F1") == pytest.approx(f1_score(true, predicted, pos_label="yes"), abs=1e-4)
    for words in ("held-out rows of people 1.0.0", "inputs were erased", "Predictions against true labels"):
        assert words in page
    assert HOSTILE_NAME not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!plotly\.com/")', page)


def test_what_a_model_answered_counts_not_what_half_would_say(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model may decide at another probability than one half; figures are those of its answers."""
    bundle, training = packed("cautious")
    store = str(tmp_path / "p.db")
    frame = person_table(200, 5)
    store_answers(store, bundle, frame, labels_for(frame, ["no", "yes"], 6).tolist())
    said = ReportCase(bundle, training, store, monkeypatch).run("evidently", str(tmp_path / "a.html"))
    rows = labelled(store)
    true, answers = [one.true_label for one in rows], [one.label for one in rows]
    halves = ["yes" if (one.confidence or 0) >= 0.5 and one.label == "yes" else "no" for one in rows]

    assert halves != answers
    assert figure(said, "accuracy") == pytest.approx(accuracy_score(true, answers), abs=1e-4)
    assert figure(said, "F1") == pytest.approx(f1_score(true, answers, pos_label="yes"), abs=1e-4)


def test_three_classes_against_the_training_data(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CSV file with its column of labels; classes that are numbers are the same ones there."""
    bundle, training = packed("three")
    csv = tmp_path / "train.csv"
    pd.read_parquet(training).to_csv(csv, index=False)
    store = str(tmp_path / "p.db")
    frame = person_table(150, 5)
    store_answers(store, bundle, frame, [index % 3 for index in range(150)])
    said = ReportCase(bundle, training, store, monkeypatch).run(
        "evidently", str(tmp_path / "o.html"), "--reference", str(csv), "--target", TARGET, "--rows", "120"
    )

    assert f"600 rows of {csv}, predicted by its model; 600 with a true label" in said
    assert "150 predictions of people 1.0.0, 120 of them drawn at random" in said
    assert 0 < figure(said, "accuracy") < 0.7


def test_a_regressor_without_labels_then_with(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against an earlier window, of another version; labels add errors."""
    bundle, training = packed("regressor")
    store = str(tmp_path / "p.db")
    frame = person_table(300, 5)[[FEATURE_NAMES[2], FEATURE_NAMES[4]]]
    later = TIME + 86_400 * SECOND
    store_answers(store, bundle, frame)
    reporting = ReportCase(bundle, training, store, monkeypatch)
    times = ("--since", "2023-11-15T12:00", "--reference-until", "2023-11-15T12:00")
    with pytest.raises(ModeltraceError, match="no prediction of people since 2023-11-15 12:00 UTC"):
        reporting.run("evidently", str(tmp_path / "none.html"), *times)
    shifted = frame + 20
    store_answers(store, bundle, shifted, time=later)
    said = reporting.run("evidently", str(tmp_path / "a.html"), *times)
    assert "300 predictions from 2023-11-14 22:13 UTC to 2023-11-14 22:18 UTC; 0 with a true label" in said
    assert "3 of 3 columns drifted" in said
    assert "RMSE" not in said

    truth = [3 * row[0] + row[1] + index % 5 for index, row in enumerate(shifted.itertuples(index=False, name=None))]
    store_answers(store, bundle, shifted, truth, time=later)
    said = reporting.run("evidently", str(tmp_path / "a.html"), *times, "--force")
    rows = labelled(store)
    values = [one.true_label for one in rows], [one.value for one in rows]
    assert figure(said, "RMSE") == pytest.approx(root_mean_squared_error(*values), rel=1e-3)
    assert figure(said, "R²") == pytest.approx(r2_score(*values), abs=1e-3)
    assert ks_2samp(frame[FEATURE_NAMES[2]], shifted[FEATURE_NAMES[2]]).pvalue < 0.05
