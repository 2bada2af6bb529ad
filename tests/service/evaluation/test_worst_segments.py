"""`evaluate --worst` finds the segments with the largest errors, with the intervals and tests of scipy."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from modeltrace.bundles.manifest import read_manifest
from modeltrace.cli.main import app
from modeltrace.evaluation.groups import MAX_GROUPS
from modeltrace.evaluation.numeric_bins import NumericBins
from modeltrace.evaluation.segment_tests import Sums, error_intervals, p_values
from modeltrace.evaluation.worst_segments import ALPHA, MIN_ROWS, PairsError, WorstSegments, find_worst_segments
from modeltrace.monitoring.segment_bins import segment_bins
from modeltrace.store.rows import StoredLabel, to_json
from modeltrace.store.selection import Selection
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.factories import MODEL, TIME, stored_row

EDGES = (-1.0, 0.0, 1.0)


def store_table(url: str, table: pd.DataFrame, model: ModelInfo = MODEL, *, regressor: bool = False) -> None:
    """Store a prediction per row: tag `plan`, features of all other columns but `predicted` and `true`."""
    inputs = table.drop(columns=["plan", "predicted", "true"]).to_dict("records")
    rows = [
        stored_row(
            f"{n:05}", time=TIME + n, trace_id=f"{n:032x}", model=model, inputs=to_json(row),
            label=None if regressor else to_json(predicted), value=predicted if regressor else None,
            tags=None if pd.isna(plan) else to_json({"plan": plan}),
        )
        for n, (row, predicted, plan) in enumerate(
            zip(inputs, table["predicted"].tolist(), table["plan"].tolist(), strict=True)
        )
    ]  # fmt: skip
    with open_store(url) as store:
        for start in range(0, len(rows), 5000):
            store.add_predictions(rows[start : start + 5000])
        true = table["true"].tolist()
        store.add_labels(
            [StoredLabel(row.prediction_id, t, row.time, row.time) for row, t in zip(rows, true, strict=True)]
        )


def find(url: str, *, regressor: bool = False, **options: Any) -> WorstSegments:
    """Return the worst segments of the only model."""
    selection = Selection(model_name=MODEL.name, model_version=MODEL.version, model_hash=MODEL.hash)
    bins = {"x": NumericBins(EDGES)}
    with open_store(url) as store:
        result = find_worst_segments(store, selection, classifier=not regressor, bins=bins, **{"limit": 100, **options})
    assert result is not None
    return result


def random_table(rows: int, *, regressor: bool, seed: int = 5) -> pd.DataFrame:
    """Return predictions whose errors are larger for north with x over 1, and for the plan `pro`."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "x": rng.normal(size=rows),
            "region": rng.choice(["north", "south"], rows),
            "flag": rng.choice([True, False, None], rows),
            "plan": rng.choice(["pro", "free", None], rows, p=[0.2, 0.5, 0.3]),
        }
    )
    table.loc[rng.random(rows) < 0.1, "x"] = None
    bad = 0.3 * ((table["region"] == "north") & (table["x"] > 1)) + 0.15 * (table["plan"] == "pro")
    if regressor:
        table["true"] = rng.normal(size=rows)
        table["predicted"] = table["true"] + rng.exponential(0.2 + bad, rows)
    else:
        table["true"] = rng.integers(0, 2, rows)
        table["predicted"] = np.where(rng.random(rows) < 0.1 + bad, 1 - table["true"], table["true"])
    return table.astype(object).where(table.notna(), None)


def masks(table: pd.DataFrame) -> dict[tuple[str, str | None], "pd.Series[bool]"]:
    """Return the rows of each segment, found in another way than by the product."""
    x = table["x"].astype(float)
    segments = {("x", name): (x > low) & (x <= high) for name, low, high in (
        ("up to -1", -np.inf, -1.0), ("over -1 to 0", -1.0, 0.0), ("over 0 to 1", 0.0, 1.0), ("over 1", 1.0, np.inf),
    )}  # fmt: skip
    segments["x", None] = x.isna()
    for column in ("region", "flag", "plan"):
        for value in table[column].unique():
            name = None if value is None else str(value).lower() if isinstance(value, bool) else value
            segments[column, name] = table[column].isna() if value is None else table[column] == value
    return segments


@pytest.mark.parametrize("regressor", [False, True])
def test_figures_equal_scipy(store_url: str, *, regressor: bool) -> None:
    """Errors, interval, p-value and worst prediction of each segment equal those of scipy and pandas."""
    table = random_table(1500, regressor=regressor)
    store_table(store_url, table, regressor=regressor)
    difference = (table["predicted"] - table["true"]).astype(float)
    errors = difference.abs() if regressor else (difference != 0).astype(float)

    result = find(store_url, regressor=regressor)

    segments = masks(table)
    alpha = ALPHA / len(segments)
    assert result.compared == len(segments)
    assert result.error == pytest.approx(errors.mean(), rel=1e-9)
    assert {next(iter(segment.segment.items())) for segment in result.segments} == {
        name for name, mask in segments.items() if errors[mask].mean() > errors[~mask].mean()
    }
    for segment in result.segments:
        mask = segments[next(iter(segment.segment.items()))]
        inside, outside = errors[mask], errors[~mask]
        if regressor:
            p = stats.ttest_ind(inside, outside, equal_var=False, alternative="greater").pvalue
            low, high = stats.t.interval(1 - alpha, len(inside) - 1, inside.mean(), stats.sem(inside))
        else:
            cells = [[(part == 1).sum(), (part == 0).sum()] for part in (inside, outside)]
            p = stats.fisher_exact(cells, alternative="greater").pvalue
            low, high = stats.binomtest(cells[0][0], len(inside)).proportion_ci(1 - alpha, "exact")
        assert (segment.labels, segment.error, segment.rest_error) == (
            len(inside), pytest.approx(inside.mean(), rel=1e-9), pytest.approx(outside.mean(), rel=1e-9)
        )  # fmt: skip
        assert (segment.low, segment.high) == pytest.approx((max(low, 0.0), high), rel=1e-9)
        assert segment.p_value == pytest.approx(min(p * len(segments), 1.0), rel=1e-7)
        worst = inside[inside == inside.max()].index[-1]
        assert segment.worst_prediction == (TIME + worst, f"{worst:05}", f"{worst:032x}")
    assert [segment.segment for segment in result.segments if segment.beyond_chance] != []


def test_pairs_are_compared_with_both_of_their_values(store_url: str) -> None:
    """A pair is beyond chance only if its error is larger than that of either value without the other."""
    table = random_table(6000, regressor=False)
    store_table(store_url, table)
    errors = (table["predicted"] != table["true"]).astype(float)

    result = find(store_url, pairs=True)

    beyond_chance = [segment.segment for segment in result.segments if segment.beyond_chance]
    pair = {"x": "over 1", "region": "north"}
    assert pair in beyond_chance
    assert {"plan": "pro"} in beyond_chance
    # Flags and the region south have no effect, and the errors of `pro` do not depend on the region.
    assert not [
        segment
        for segment in beyond_chance
        if "flag" in segment or segment.get("region") == "south" or segment.keys() == {"region", "plan"}
    ]
    (segment,) = (segment for segment in result.segments if segment.segment == pair)
    segments = masks(table)
    first, second = segments["x", "over 1"], segments["region", "north"]
    inside = errors[first & second]
    p = [
        stats.fisher_exact([[part.sum(), (1 - part).sum()] for part in (inside, rest)], alternative="greater").pvalue
        for rest in (errors[first & ~second], errors[second & ~first])
    ]
    assert (segment.labels, segment.error) == (len(inside), pytest.approx(inside.mean(), rel=1e-9))
    assert segment.p_value == pytest.approx(max(p) * result.compared, rel=1e-7)
    rests = [errors[first & ~second].mean(), errors[second & ~first].mean()]
    assert segment.rest_error == pytest.approx(rests[int(np.argmax(p))], rel=1e-9)


def test_many_values_are_not_compared(store_url: str) -> None:
    """An attribute with too many values is named; with too many segments, pairs are an error."""
    table = random_table(300, regressor=False)
    table["id"] = [f"c{n}" for n in range(300)]
    store_table(store_url, table)

    result = find(store_url)

    assert result.too_many_values == ("id",)
    assert not [segment for segment in result.segments if "id" in segment.segment]
    assert MAX_GROUPS < 300


def test_too_many_pairs_are_an_error(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do."""
    monkeypatch.setattr("modeltrace.evaluation.worst_segments.MAX_PAIRED_SEGMENTS", 3)
    store_table(store_url, random_table(500, regressor=False))

    with pytest.raises(PairsError, match=r"--pairs: .* select fewer predictions with --since"):
        find(store_url, pairs=True)


def test_tag_that_appears_late(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions of earlier pages count as predictions without the tag; erased inputs are left out."""
    monkeypatch.setattr("modeltrace.evaluation.segment_scan.PAGE_ROWS", 70)
    table = random_table(400, regressor=False)
    table["plan"] = [None] * 200 + ["pro"] * 200
    table["predicted"] = [*table["true"][:100], *(1 - table["true"][100:300]), *table["true"][300:]]
    store_table(store_url, table)
    with open_store(store_url) as store:
        store.erase([f"{n:05}" for n in range(50)], TIME)

    result = find(store_url)

    assert (result.labels, result.error) == (350, pytest.approx(200 / 350))
    (segment,) = (segment for segment in result.segments if "plan" in segment.segment)
    assert (segment.segment, segment.labels, segment.error) == ({"plan": None}, 150, pytest.approx(100 / 150))


@pytest.mark.slow
@pytest.mark.parametrize("classifier", [True, False])
def test_errors_of_simulated_segments_are_bounded(*, classifier: bool) -> None:
    """Without differences, at most 5 % of the evaluations report a segment or have an interval without the error."""
    rng = np.random.default_rng(11)
    simulations, segments = 1000, 40
    rows = rng.integers(MIN_ROWS, 400, segments).astype(float)
    reported = missed = 0
    for _ in range(simulations):
        errors = [rng.binomial(1, 0.08, int(n)) if classifier else rng.exponential(3.0, int(n)) for n in rows]
        sums = Sums(rows, np.array([e.sum() for e in errors]), np.array([(e**2).sum() for e in errors]))
        total = Sums(*(np.full(segments, column.sum()) for column in sums))
        p = p_values(sums, total.minus(sums), classifier=classifier)
        low, high = error_intervals(sums, ALPHA / segments, classifier=classifier)
        mean = 0.08 if classifier else 3.0
        reported += bool((p * segments < ALPHA).any())
        missed += bool(((low > mean) | (high < mean)).any())

    margin = 3 * np.sqrt(ALPHA * (1 - ALPHA) / simulations)
    assert reported / simulations <= ALPHA + margin
    if classifier:  # exact
        assert missed / simulations <= ALPHA + margin
    else:  # exponential errors are not normal: docs/evaluation.md names the share
        assert missed / simulations <= 0.15


def run(*arguments: str) -> str:
    """Run the command, and return what it prints."""
    result = CliRunner().invoke(app, ["evaluate", *arguments], env={"COLUMNS": "250"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_command(store_url: str, monkeypatch: pytest.MonkeyPatch, example: Path) -> None:
    """The bins are those of the bundle, for `--worst` and for `--by`."""
    manifest, _ = read_manifest(example)
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    feature = manifest.features[0]
    edges = feature.reference.edges or ()
    rng = np.random.default_rng(3)
    low, high = feature.training_range or (0.0, 1.0)
    values = rng.uniform(low, high, 800)
    table = pd.DataFrame({feature.name: values, "true": "a", "plan": None, "other": rng.choice(["x", "y"], 800)})
    bad = values > edges[-2]
    table["predicted"] = np.where(bad | (rng.random(800) < 0.05), "b", "a")
    store_table(store_url, table, MODEL)
    names = segment_bins(manifest.features)[feature.name].names
    indices = pd.Series(np.searchsorted(edges, values, side="left"))

    (worst,) = json.loads(run("--worst", "3", "--bundle", str(example), "--json"))
    text = run("--worst", "3", "--bundle", str(example))
    by = json.loads(run("--by", feature.name, "--bundle", str(example), "--json"))

    assert worst["segments"][0]["segment"][feature.name] in [names[i] for i in indices[bad].unique()]
    assert worst["segments"][0]["beyond_chance"]
    assert worst["segments"][0]["segment"][feature.name] in text
    expected = {
        names[index]: (int((indices == index).sum()), float((table["predicted"] == "a")[indices == index].mean()))
        for index in sorted(indices.unique())
    }
    assert {
        part["segment"][feature.name]: (part["labels"], pytest.approx(part["classification"]["accuracy"], rel=1e-9))
        for part in by
        if part["labels"]
    } == expected
    assert [part["segment"][feature.name] for part in by if part["labels"]] == list(expected)


@pytest.mark.parametrize("mode", [("--worst", "3"), ()], ids=["worst", "metrics"])
def test_a_bundle_selects_its_model(
    store_url: str, monkeypatch: pytest.MonkeyPatch, example: Path, mode: tuple[str, ...]
) -> None:
    """Other versions in the store are not evaluated, unless `--version` selects them."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    with open_store(store_url) as store:
        for version in (MODEL.version, "9"):
            rows = [
                stored_row(f"{version}-{n}", time=TIME + n, model=MODEL._replace(version=version), label='"a"')
                for n in range(100)
            ]
            store.add_predictions([row._replace(inputs='{"x": "u"}') for row in rows])
            store.add_labels([StoredLabel(row.prediction_id, "ab"[n % 2], TIME, TIME) for n, row in enumerate(rows)])

    def versions(*options: str) -> list[str]:
        results = json.loads(run(*mode, "--json", *options))
        return sorted(result.get("model_version") or result["model"]["version"] for result in results)

    assert versions() == [MODEL.version, "9"]
    assert versions("--bundle", str(example)) == [MODEL.version]
    assert versions("--bundle", str(example), "--version", "9") == ["9"]


def test_text_without_a_significant_segment(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says whether no segment is large enough, or no error is beyond chance."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    table = pd.DataFrame({"predicted": ["a", "b"] * 40, "true": "a", "plan": None})
    store_table(store_url, table.assign(other="x"), MODEL)

    assert "no segment has 50 labels, and 50 outside of it: no segment is compared" in run("--worst", "3")
    other = ModelInfo("other", "1.0.0", "b" * 64, ())
    store_table(store_url, pd.concat([table] * 4).assign(other=["x"] * 161 + ["y"] * 159), other)
    assert "these errors are the largest ones, by chance" in run("--worst", "3", "--name", "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pairs",), "--pairs requires --worst"),
        (("--worst", "3", "--by", "x"), "--by and --over cannot be combined with --worst"),
        (("--worst", "3", "--fairness", "x", "--positive", "y"), "--worst cannot be combined with --fairness"),
    ],
)
def test_options_that_contradict_each_other(arguments: Sequence[str], message: str) -> None:
    """The message names both options."""
    result = CliRunner().invoke(app, ["evaluate", *arguments], env={"COLUMNS": "200"})

    assert result.exit_code == 2
    assert message in result.output
