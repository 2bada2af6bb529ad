"""The parts of a report: tables, virtual environments and programs. Each error is one line."""

import json
import math
import os
import stat
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.manifest import read_manifest
from modeltrace.errors import ModeltraceError
from modeltrace.report import venvs
from modeltrace.report.columns import (
    MAX_CATEGORIES,
    OTHER_CATEGORIES,
    ComparedRow,
    build_layout,
    build_table,
    merge_rare,
)
from modeltrace.report.comparison import build_comparison, selection_notes
from modeltrace.report.run import run_program
from modeltrace.report.sources import (
    ModelPredictions,
    read_window,
    reference_from_file,
    reference_from_window,
    sample_uniformly,
)
from modeltrace.report.venvs import Library, ensure_venv, lock_file
from modeltrace.settings import read_settings
from modeltrace.store.selection import ALL
from modeltrace.store.store import open_store
from modeltrace.traffic.fault_injection import make_rng
from tests.helpers.factories import MODEL, TIME
from tests.helpers.factories import stored_row as stored
from tests.helpers.report_cases import FEATURE_NAMES, TARGET, PackPeople, ReportCase, person_table, store_answers

pytestmark = pytest.mark.slow

JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


def test_private_features_are_compared_only_as_far_as_stored(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bins are compared as categories, hashes only with an earlier window, and dropped features never."""
    bundle, training_data = packed("private")
    manifest, _ = read_manifest(bundle)
    store = str(tmp_path / "p.db")
    frame = person_table(200, 5)
    store_answers(store, bundle, frame)
    with open_store(store) as opened:
        predictions = ModelPredictions(opened, ALL, "people", None, lambda _: None, ("another", ()))
        window = read_window(predictions, 1000)
    plain = reference_from_file(training_data, TARGET, bundle, manifest, read_settings())
    comparison = build_comparison(window, plain, build_layout(manifest), "people")

    assert comparison.description["features"] == [FEATURE_NAMES[0], FEATURE_NAMES[2], FEATURE_NAMES[3]]
    assert comparison.description["columns"][FEATURE_NAMES[0]] == "category"
    assert ("left out", f"{FEATURE_NAMES[4]}: its privacy is drop") in comparison.notes
    assert (
        "left out",
        f"{FEATURE_NAMES[1]}: its values are hashed in the store, but not in the reference",
    ) in comparison.notes
    shares = next(feature.reference.shares for feature in manifest.features if feature.name == FEATURE_NAMES[0])
    bins = Counter(comparison.reference.column(FEATURE_NAMES[0]).to_pylist())
    assert {name or "missing": count / 600 for name, count in bins.items()} == {k: v for k, v in shares.items() if v}
    assert {*comparison.window.column(FEATURE_NAMES[0]).to_pylist()} == {*bins}
    assert {*comparison.window.column(FEATURE_NAMES[3]).to_pylist()} == {"true", "false"}

    earlier = build_comparison(window, reference_from_window(window), build_layout(manifest), "people")
    assert earlier.description["features"] == [*FEATURE_NAMES[:4]]
    assert earlier.window.column(FEATURE_NAMES[1]).equals(earlier.reference.column(FEATURE_NAMES[1]))

    ReportCase(bundle, training_data, store, monkeypatch).run("fiddler", str(tmp_path / "a.parquet"))
    model = json.loads((tmp_path / "a.model.json").read_text())
    types = {column["name"]: column["data_type"] for column in model["schema"]["columns"]}
    assert types[FEATURE_NAMES[1]] == "str"
    assert model["spec"]["inputs"] == [*FEATURE_NAMES[:4]]


@given(values=st.lists(st.tuples(JSON, JSON, JSON), max_size=20))
def test_any_value_fits_its_column(layout: Any, values: list[tuple[Any, Any, Any]]) -> None:
    """A number is finite or missing, and any other value is text or missing; no stored value is an error."""
    rows = [
        ComparedRow({FEATURE_NAMES[0]: first, FEATURE_NAMES[1]: second}, prediction, 0.5, second)
        for first, second, prediction in values
    ]
    table = build_table(rows, layout, [*layout.features, *layout.outputs])

    numbers = table.column(FEATURE_NAMES[0]).to_pylist()
    for (value, text, _), number, category in zip(
        values, numbers, table.column(FEATURE_NAMES[1]).to_pylist(), strict=True
    ):
        if isinstance(value, bool | str | None) or (isinstance(value, float) and not math.isfinite(value)):
            assert number is None
        elif isinstance(value, float):
            assert number == value
        assert (category is None) == (text is None or (isinstance(text, float) and math.isnan(text)))
    assert table.column(layout.score).null_count == 0


@pytest.fixture(scope="module")
def layout(packed: Any) -> Any:
    """The columns of the model with two classes."""
    return build_layout(read_manifest(packed("two")[0])[0])


def test_column_names_do_not_collide_with_features(layout: Any) -> None:
    """A feature may be named `prediction`."""
    assert (layout.prediction, layout.target, layout.score) == ("prediction_", "true label_", "probability of yes")
    assert set(layout.outputs) & set(layout.features) == set()


def test_the_rarest_categories_count_as_one(layout: Any) -> None:
    """The same categories are merged on both sides; missing values stay missing."""
    rows = [ComparedRow({FEATURE_NAMES[1]: f"{index % 300}" if index % 7 else None}) for index in range(3000)]
    extra = [ComparedRow({FEATURE_NAMES[1]: "0"}) for _ in range(50)]
    sides, merged = merge_rare(
        [build_table(rows, layout, [FEATURE_NAMES[1]]), build_table(extra, layout, [FEATURE_NAMES[1]])],
        [FEATURE_NAMES[1]],
    )
    values = [side.column(FEATURE_NAMES[1]).to_pylist() for side in sides]

    assert merged == {FEATURE_NAMES[1]: 300}
    assert len({*values[0]} - {None}) == MAX_CATEGORIES
    assert values[0].count(None) == sum(index % 7 == 0 for index in range(3000))
    assert OTHER_CATEGORIES in values[0]
    assert values[1] == ["0"] * 50


def test_another_model_of_the_same_version_is_left_out(tmp_path: Path) -> None:
    """Its predictions are counted and reported; other versions may have other hashes."""
    with open_store(str(tmp_path / "s.db")) as store:
        for number, (version, digest) in enumerate([("1", "a"), ("1", "b"), ("1", "b"), ("2", "c")]):
            model = MODEL._replace(version=version, hash=digest * 64)
            store.add_predictions([stored(f"p{number}", time=TIME + number, model=model)])
        source = ModelPredictions(store, ALL, MODEL.name, None, lambda _: None, ("1", ["a" * 64, "onnx"]))
        assert [prediction.prediction_id for prediction in source] == ["p0", "p3"]
    notes = selection_notes(source, MODEL.name, source.selected)
    assert ("left out", "2 predictions of another model packed under the same version") in notes


def test_the_sample_is_uniform() -> None:
    """Each of 20 rows is in about a quarter of many samples of 5 rows; a larger sample has all rows."""
    rows: list[Any] = [stored(f"{index}") for index in range(20)]
    rng = make_rng(0)
    counts = Counter(row.prediction_id for _ in range(2000) for row in sample_uniformly(rows, 5, rng))
    assert all(400 < counts[f"{index}"] < 600 for index in range(20))
    assert sample_uniformly(rows, 50, rng) == rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evidently", "there.html"), "there.html exists already; --force replaces it"),
        (("evidently", "a.html", "--since", "1h"), "no prediction of people since"),
        (("alibi", "a.json", "--version", "9"), "no prediction of people 9 at any time"),
        (("alibi", "a.json", "--version", "1.0.0", "--reference-until", "2020-01-01"), "until 2020-01-01 00:00 UTC"),
        (("whylogs", "a", "--reference", "none.csv"), "none.csv cannot be read"),
        (("whylogs", "a", "--reference", "there.html"), "the name must end in .csv, .tsv, .jsonl"),
        (("whylogs", "a", "--bundle", "nowhere"), "nowhere"),
        (("evidently", "a.html", "--python", "/nonexistent/python"), "/nonexistent/python cannot be started: No such"),
    ],
)
def test_an_impossible_report_is_an_error_of_one_line(
    two: ReportCase, tmp_path: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output exists, a window or reference is empty, or a bundle or Python is missing; nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.html").write_text("mine")
    before = {*tmp_path.iterdir()}

    with pytest.raises(ModeltraceError, match=message):
        two.run(*arguments)

    assert {*tmp_path.iterdir()} == before
    assert (tmp_path / "there.html").read_text() == "mine"


def test_a_python_without_the_library_is_an_error(two: ReportCase, tmp_path: Path) -> None:
    """The message is the last line of the program's stderr."""
    with pytest.raises(ModeltraceError, match="No module named 'evidently'"):
        two.run("evidently", str(tmp_path / "a.html"), "--python", sys.executable)


def test_contradictory_options_are_usage_errors(two: ReportCase) -> None:
    """A file and an earlier window, a target column without a file, and a wrong suffix are rejected."""
    for arguments in (
        ("evidently", "a.html", "--reference", "a.csv", "--reference-since", "1d"),
        ("evidently", "a.html", "--target", "x"),
        ("evidently", "a.pdf"),
        ("alibi", "a.csv"),
    ):
        with pytest.raises(AssertionError, match="Usage: "):
            two.run(*arguments)


def test_a_program_inherits_no_settings_and_has_a_temporary_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment has no settings of Modeltrace, disables analytics, and has a temporary home folder."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nenv > "$HOME/env"\necho "noise"\necho "{\\"arguments\\": \\"$*\\"}"\n')
    python.chmod(0o700)
    monkeypatch.setenv("MODELTRACE_STORE", "postgresql+psycopg://me:hunter2@db/x")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=hunter2")
    summary = run_program(python, "alibi_tests", {"key": 1}, tmp_path)
    environment = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)

    assert "hunter2" not in str(environment)
    assert (environment["DO_NOT_TRACK"], environment["WHYLOGS_NO_ANALYTICS"]) == ("1", "True")
    assert environment["HOME"] == str(tmp_path)
    assert summary["arguments"].startswith("-I -X utf8 ")
    assert json.loads((tmp_path / "description.json").read_text()) == {"key": 1}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary cache folder, and an empty lock file."""
    lock = tmp_path / "empty.lock"
    lock.write_text("")
    monkeypatch.setattr(venvs, "lock_file", lambda _: lock)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


EMPTY = Library("empty", "Nothing", "0 MB")


def test_a_venv_is_created_once(cache: Path) -> None:
    """Two threads may create it at the same time; a changed lock file leads to a new one; no partial one is left."""
    messages: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        pythons = [*pool.map(lambda _: ensure_venv(EMPTY, messages.append), range(2))]
    assert pythons[0] == pythons[1]
    assert os.access(pythons[0], os.X_OK)
    ensure_venv(EMPTY, lambda _: pytest.fail("created again"))
    (cache / "empty.lock").write_text("# other\n")
    assert ensure_venv(EMPTY, messages.append) != pythons[0]
    assert messages[0].startswith("installing Nothing once: about 0 MB in ")
    assert len([*(cache / "cache" / "modeltrace" / "reports").iterdir()]) == 2


@pytest.mark.extended
def test_venv_and_pip_are_used_without_uv(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They install the same lock file."""
    monkeypatch.setattr(venvs, "REPOSITORY", cache)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(cache))
    python = ensure_venv(EMPTY, lambda _: None)
    assert (python.parent / "pip").exists()


def test_a_failed_installation_names_the_reason_and_a_solution(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the message has the installer's reason and mentions --python."""
    (cache / "empty.lock").write_text(f"no-such-package==1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(
        ModeltraceError, match=r"cannot install Nothing: .*no-such-package.*try again with a network.*--python"
    ):
        ensure_venv(EMPTY, lambda _: None)
    assert [*(cache / "cache" / "modeltrace" / "reports").iterdir()] == []


def test_an_older_python_is_used_for_a_library_without_support_for_this_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest supported Python on PATH is used; without one the message says what to install."""
    monkeypatch.setattr(venvs, "sys", SimpleNamespace(version_info=(3, 14, 0), executable="/here"))
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(ModeltraceError, match=r"no release for Python 3.14, and no 3.12 or 3.11 is on PATH"):
        ensure_venv(Library("old", "Old", "", max_python_minor=12), lambda _: None)
    python = cache / "python3.11"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o700)
    assert venvs._find_python(Library("old", "Old", "", max_python_minor=12)) == (str(python), "3.11")
    assert venvs._find_python(Library("new", "New", "")) == ("/here", "3.14")


@pytest.mark.parametrize("name", ["evidently", "alibi", "whylogs"])
def test_every_lock_file_has_hashes_and_no_index_addresses(name: str) -> None:
    """Each requirement has a version and hashes; the user configures the package index."""
    lock = lock_file(Library(name, name, ""))
    lines = lock.read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith((" ", "#"))]

    assert all("==" in line for line in requirements)
    assert "://" not in lock.read_text()
    assert sum("--hash=sha256:" in line for line in lines) >= len(requirements)
    assert any(line.startswith({"alibi": "alibi-detect"}.get(name, name)) for line in requirements)


def test_the_wheel_contains_lock_files_and_programs(tmp_path: Path) -> None:
    """They are at the paths where an installed Modeltrace searches them."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=venvs.REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()

    for name in ("evidently", "alibi", "whylogs"):
        assert f"modeltrace/report/locks/{name}.lock" in names
    assert {name for name in names if name.startswith("modeltrace/report/programs/")} == {
        f"modeltrace/report/programs/{path.name}"
        for path in (venvs.REPOSITORY / "service" / "modeltrace" / "report" / "programs").glob("*.py")
    }


def test_a_report_is_readable_by_its_user_only(two: ReportCase, tmp_path: Path) -> None:
    """It contains inputs of predictions."""
    python = tmp_path / "python"
    script = """#!/usr/bin/env python3
import json, sys
description = json.load(open(sys.argv[-1]))
open(description["output"], "w").write("page")
metrics = [{"metric": "DriftedColumnsCount()", "value": {"count": 1}}]
print(json.dumps({"library": "Mine 1", "empty": [], "metrics": metrics}))
"""
    python.write_text(script)
    python.chmod(0o700)
    out = tmp_path / "deep" / "er" / "page.html"
    output = two.run("evidently", str(out), "--python", str(python))

    assert "1 of 8 columns drifted" in output
    assert out.read_text() == "page"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with open_store(two.store) as store:
        assert store.counts().predictions == 450
