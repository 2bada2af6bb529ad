"""`modeltrace report alibi` and `whylogs` report what scipy and pandas compute from the stored predictions."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from modeltrace.report.html import render_tests
from modeltrace.report.venvs import WHYLOGS, ensure_venv
from modeltrace.store.store import open_store
from tests.helpers.report_cases import FEATURE_NAMES, HOSTILE_NAME, TARGET, ReportCase

pytestmark = [pytest.mark.slow, pytest.mark.extended]
FLOAT32 = 1e-6


def inputs(two: ReportCase) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the inputs of the training data and of the window."""
    with open_store(two.store) as store:
        rows = [row.inputs for page in store.read() for row in page if row.inputs and not row.shadow_of]
    return pd.read_parquet(two.training_data).drop(columns=TARGET), pd.DataFrame(rows)


def test_alibi_tests_each_column_and_all_together(two: ReportCase, tmp_path: Path) -> None:
    """Kolmogorov-Smirnov ignores missing numbers, chi-square has a category `missing`, and MMD tests all numbers."""
    out = tmp_path / "tests.json"
    output = two.run("alibi", str(out), "--reference", str(two.training_data))
    results = json.loads(out.read_text())
    tests = {test["column"]: test for test in results["tests"]}
    training, window = inputs(two)

    for name in FEATURE_NAMES:
        reference_values, window_values = training[name], window[name]
        if name in (FEATURE_NAMES[1], FEATURE_NAMES[3]):
            counts = [
                side.map(str).where(side.notna(), "missing").value_counts()
                for side in (reference_values, window_values)
            ]
            expected = chi2_contingency(pd.concat(counts, axis=1).fillna(0).T.to_numpy())
            assert tests[name]["test"] == "chi_square"
            sizes = (600, 429)
        else:
            expected = ks_2samp(reference_values.dropna(), window_values.dropna(), method="asymp")
            sizes = (int(reference_values.notna().sum()), int(window_values.notna().sum()))
        assert tests[name]["statistic"] == pytest.approx(expected.statistic, rel=FLOAT32)
        assert tests[name]["p_value"] == pytest.approx(expected.pvalue, rel=1e-3, abs=FLOAT32)
        assert (tests[name]["n_reference"], tests[name]["n_window"]) == sizes
        assert tests[name]["threshold"] == pytest.approx(0.05 / len(tests))
    assert tests[FEATURE_NAMES[0]]["drift"]
    assert not tests[FEATURE_NAMES[3]]["drift"]
    assert results["mmd"]["columns"] == [FEATURE_NAMES[0], FEATURE_NAMES[2], FEATURE_NAMES[4]]
    assert results["mmd"]["drift"]
    assert f"of {len(tests)} columns drifted" in output
    assert results["notes"][3] == [
        "reference",
        f"600 rows of {two.training_data}, predicted by its model; 0 with a true label",
    ]

    page = render_tests("title <b>", results["notes"], results)
    assert HOSTILE_NAME not in page
    assert "<b>" not in page
    assert page.count("<tr") == 1 + len(results["notes"]) + len(tests) + 1


PROGRAM = """
import json, sys
import whylogs
from pathlib import Path

views = {name: whylogs.read(str(Path(sys.argv[1]) / f"{name}.bin")).view() for name in ("reference", "window")}
merged = views["reference"].merge(views["window"])
print(json.dumps({
    **{name: str(view.dataset_timestamp) for name, view in views.items()},
    "counts": merged.to_pandas()["counts/n"].to_dict(),
}))
"""


def test_whylogs_profiles_can_be_read_and_merged(two: ReportCase, tmp_path: Path) -> None:
    """Counts, missing values, means and maxima are those of the rows; whylogs reads and merges both files."""
    out = tmp_path / "new" / "profiles"
    two.run("whylogs", str(out))
    _, window = inputs(two)
    profiles = json.loads((out / "summary.json").read_text())["profiles"]["window"]

    assert sorted(path.name for path in out.iterdir()) == ["reference.bin", "summary.json", "window.bin"]
    for name in FEATURE_NAMES:
        assert profiles[name]["n"] == 429
        assert profiles[name]["missing"] == window[name].isna().sum()
    numbers = pd.to_numeric(window[FEATURE_NAMES[0]])
    for figure, value in (("mean", numbers.mean()), ("deviation", numbers.std()), ("max", numbers.max())):
        assert profiles[FEATURE_NAMES[0]][figure] == pytest.approx(value)
    assert profiles[FEATURE_NAMES[1]]["distinct"] == pytest.approx(window[FEATURE_NAMES[1]].nunique(), rel=0.01)

    python = ensure_venv(WHYLOGS, lambda _: None)
    done = subprocess.run([str(python), "-I", "-c", PROGRAM, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    assert read["window"].startswith("2023-11-14")
    assert read["counts"][FEATURE_NAMES[0]] == 629
