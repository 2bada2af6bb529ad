"""Fairness metrics equal those of fairlearn, in SQLite and PostgreSQL."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from sklearn.metrics import confusion_matrix
from typer.testing import CliRunner

from modeltrace.cli.main import app
from modeltrace.evaluation.fairness import FairnessMetrics, evaluate_fairness
from modeltrace.evaluation.groups import MAX_GROUPS, GroupError
from modeltrace.evaluation.numeric_bins import NumericBins
from modeltrace.store.rows import Row, StoredLabel, to_json
from modeltrace.store.selection import Selection
from modeltrace.store.store import open_store
from tests.helpers.factories import TIME, stored_row

NAMES = (
    "demographic_parity_difference", "demographic_parity_ratio", "equal_opportunity_difference",
    "equal_opportunity_ratio", "equalized_odds_difference", "equalized_odds_ratio",
)  # fmt: skip


def store_groups(url: str, groups: Sequence[Any], predicted: Sequence[Any], true: Sequence[Any], *, tag: bool) -> None:
    """Store predictions whose group is a tag or a feature; a true label `...` is none, a group `None` no value."""
    rows = [
        stored_row(
            f"{n:05}", time=TIME + n, label=to_json(label),
            inputs=to_json({"a name, ü": group, "text": "\u0000"}), tags=to_json({"group": group}) if tag else None,
        )
        for n, (group, label) in enumerate(zip(groups, predicted, strict=True))
    ]  # fmt: skip
    with open_store(url) as store:
        store.add_predictions(rows)
        store.add_labels([_label(row, label) for row, label in zip(rows, true, strict=True) if label is not ...])


def _label(row: Row, label: Any) -> StoredLabel:
    return StoredLabel(row.prediction_id, label, row.time, row.time)


def evaluate(url: str, attribute: str, positive: str, reference: str | None = None) -> FairnessMetrics:
    """Return the metrics of the only model."""
    with open_store(url) as store:
        (result,) = evaluate_fairness(store, Selection(), attribute, positive, reference)
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("attribute", "tag"), [("group", True), ("a name, ü", False)])
def test_metrics_equal_fairlearn(store_url: str, attribute: str, seed: int, *, tag: bool) -> None:
    """Compares differences, ratios and the rates of each group, for groups of a tag and of a feature."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(["x", "y", "z"], 400, p=[0.5, 0.4, 0.1])
    true = rng.integers(0, 2, 400)
    predicted = np.where(rng.random(400) < 0.3 + 0.1 * (groups == "y"), 1 - true, true)

    store_groups(store_url, groups.tolist(), predicted.tolist(), true.tolist(), tag=tag)
    result = evaluate(store_url, attribute, "1")

    for name in NAMES:
        expected = getattr(fairlearn, name)(true, predicted, sensitive_features=groups)
        assert getattr(result, name) == pytest.approx(expected, rel=1e-9), name
    assert result.reference_group == max("xyz", key=groups.tolist().count)
    reference = predicted[groups == result.reference_group].mean()
    for group in result.groups:
        of_group = groups == group.group
        negative_false, negative_true = confusion_matrix(true[of_group], predicted[of_group], normalize="true")[:, 1]
        rate = fairlearn.selection_rate(true[of_group], predicted[of_group])
        assert (group.predictions, group.labels) == (of_group.sum(), of_group.sum())
        assert (group.selection_rate, group.false_positive_rate, group.true_positive_rate, group.disparate_impact) == (
            pytest.approx((rate, negative_false, negative_true, rate / reference), rel=1e-9)
        )


def test_groups_of_a_numeric_feature_are_bins(store_url: str) -> None:
    """The rates of each bin equal those of fairlearn."""
    rng = np.random.default_rng(7)
    ages = rng.uniform(18, 80, 300)
    true, predicted = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    store_groups(store_url, ages.tolist(), predicted.tolist(), true.tolist(), tag=False)

    with open_store(store_url) as store:
        bins = {"a name, ü": NumericBins((30.0, 60.0))}
        (result,) = evaluate_fairness(store, Selection(), "a name, ü", "1", bins=bins)

    names = np.array(["up to 30", "over 30 to 60", "over 60"])[np.searchsorted([30, 60], ages, side="left")]
    assert {group.group: group.selection_rate for group in result.groups} == {
        name: pytest.approx(predicted[names == name].mean(), rel=1e-9) for name in np.unique(names)
    }
    for name in NAMES:
        expected = getattr(fairlearn, name)(true, predicted, sensitive_features=names)
        assert getattr(result, name) == pytest.approx(expected, rel=1e-9), name


def test_selection_rates_need_no_labels(store_url: str) -> None:
    """Demographic parity covers all predictions. A group without labels has no other rates, and is left out of them."""
    store_groups(
        store_url,
        ["x", "x", "x", "y", "y", None],
        [True, True, False, True, False, True],
        [True, ..., False, ..., ..., ...],
        tag=False,
    )

    result = evaluate(store_url, "a name, ü", "True", "y")

    without, x, y = result.groups
    assert [group.group for group in result.groups] == [None, "x", "y"]
    assert (x.selection_rate, y.selection_rate, without.selection_rate) == (pytest.approx(2 / 3), 0.5, 1.0)
    assert (x.disparate_impact, y.disparate_impact) == (pytest.approx(4 / 3), 1.0)
    assert (x.true_positive_rate, x.false_positive_rate, y.true_positive_rate) == (1.0, 0.0, None)
    assert (result.demographic_parity_difference, result.equal_opportunity_difference) == (0.5, None)
    assert (result.equalized_odds_difference, result.equalized_odds_ratio) == (None, None)


def test_errors_say_what_is_missing(store_url: str) -> None:
    """An unknown attribute, label or group, and an attribute with too many values."""
    store_groups(store_url, [f"g{n}" for n in range(MAX_GROUPS + 1)], ["a"] * (MAX_GROUPS + 1), [...] * 101, tag=True)

    for attribute, positive, reference, message in (
        ("nowhere", "a", None, "no selected prediction has a tag or a recorded feature nowhere"),
        ('a "quoted" name', "a", None, "no selected prediction has a tag or a recorded feature"),
        ("group", "a", None, "the tag group has more than 100 values"),
        ("text", "b", None, "b is not a label of the selected predictions: a"),
        ("text", "a", "z", "no selected prediction of breast-cancer 1.0.0 has text=z"),
    ):
        with pytest.raises(GroupError, match=message):
            evaluate(store_url, attribute, positive, reference)


def test_regressor_has_no_fairness_metrics(store_url: str) -> None:
    """An empty result would look like success."""
    with open_store(store_url) as store:
        store.add_predictions([stored_row("p", label=None, value=1.0, tags=to_json({"group": "x"}))])

    with pytest.raises(GroupError, match="fairness metrics compare the labels of a classifier"):
        evaluate(store_url, "group", "1")


def test_values_of_a_feature_are_segments(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate --by` evaluates each value of a feature, and predictions without a value, separately."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    store_groups(store_url, ["x", 1, 1, True, None], ["a"] * 5, ["a", "a", "b", "b", "b"], tag=False)

    result = CliRunner().invoke(app, ["evaluate", "--by", "a name, ü", "--json"])

    assert {
        part["segment"]["a name, ü"]: (part["labels"], part["classification"]["accuracy"])
        for part in json.loads(result.stdout)
    } == {None: (1, 0.0), "x": (1, 1.0), "1": (2, 0.5), "true": (1, 0.0)}


def test_a_name_that_no_prediction_has_is_an_error(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelled name must not look like one segment."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    store_groups(store_url, ["x"], ["a"], ["a"], tag=True)

    result = CliRunner().invoke(app, ["evaluate", "--by", "gruop"])

    assert isinstance(result.exception, GroupError)
    assert "no selected prediction has a tag or a recorded feature gruop" in str(result.exception)


def test_command(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate --fairness` prints the groups and the metrics, as text and as JSON."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    store_groups(store_url, ["x", "x", "y", "y"], ["a", "b", "a", "a"], ["a", "b", "a", "b"], tag=True)
    arguments = ["evaluate", "--fairness", "group", "--positive", "a", "--reference-group", "x"]

    text, as_json = (CliRunner().invoke(app, [*arguments, *more], env={"COLUMNS": "200"}) for more in ([], ["--json"]))

    (result,) = json.loads(as_json.stdout)
    assert [group["selection_rate"] for group in result["groups"]] == [0.5, 1.0]
    assert result["demographic_parity_ratio"] == 0.5
    lines = [" ".join(line.split()) for line in text.stdout.splitlines()]
    assert "y 2 2 1.0000 1.0000 1.0000 2.0000" in lines
    assert "equalized odds 1.0000 0.0000" in lines
    assert CliRunner().invoke(app, ["evaluate", "--fairness", "group"]).exit_code == 2
