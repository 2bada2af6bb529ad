"""What a report is made of: tables, environments, programs; whatever goes wrong is told in one line."""

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
    Reservoir,
    TrustOptions,
    read_window,
    reference_from_file,
    reference_from_window,
)
from modeltrace.report.venvs import Library, ensure_venv, lock_file
from modeltrace.store.selection import ALL
from modeltrace.store.store import open_store
from tests.helpers.factories import MODEL, TIME
from tests.helpers.factories import stored_row as stored
from tests.helpers.report_cases import FEATURE_NAMES, TARGET, PackPeople, ReportCase, person_table, store_answers

pytestmark = pytest.mark.slow

JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


def test_what_privacy_keeps_back_is_no_part_of_a_report(
    packed: PackPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bins are compared as bins of the same edges; hashes with an earlier window only; what is dropped not at all."""
    bundle, training = packed("private")
    manifest, _ = read_manifest(bundle)
    store = str(tmp_path / "p.db")
    frame = person_table(200, 5)
    store_answers(store, bundle, frame)
    with open_store(store) as opened:
        window = read_window(ModelPredictions(opened, ALL, "people", None), 1000)
    trust = TrustOptions(pickle=False, types=())
    plain = reference_from_file(training, TARGET, bundle, manifest, trust)
    said = build_comparison(window, plain, build_layout(manifest), "people")

    assert said.description["features"] == [FEATURE_NAMES[0], FEATURE_NAMES[2], FEATURE_NAMES[3]]
    assert said.description["columns"][FEATURE_NAMES[0]] == "category"
    assert ("left out", f"{FEATURE_NAMES[4]}: its privacy is drop") in said.notes
    assert ("left out", f"{FEATURE_NAMES[1]}: the store has it hashed, the reference not") in said.notes
    shares = next(one.reference.shares for one in manifest.features if one.name == FEATURE_NAMES[0])
    bins = Counter(said.reference.column(FEATURE_NAMES[0]).to_pylist())
    assert {one or "missing": count / 600 for one, count in bins.items()} == {k: v for k, v in shares.items() if v}
    assert {*said.window.column(FEATURE_NAMES[0]).to_pylist()} == {*bins}
    assert {*said.window.column(FEATURE_NAMES[3]).to_pylist()} == {"true", "false"}

    earlier = build_comparison(window, reference_from_window(window), build_layout(manifest), "people")
    assert earlier.description["features"] == [*FEATURE_NAMES[:4]]
    assert earlier.window.column(FEATURE_NAMES[1]).equals(earlier.reference.column(FEATURE_NAMES[1]))

    ReportCase(bundle, training, store, monkeypatch).run("fiddler", str(tmp_path / "a.parquet"))
    model = json.loads((tmp_path / "a.model.json").read_text())
    assert {one["name"]: one["data_type"] for one in model["schema"]["columns"]}[FEATURE_NAMES[1]] == "str"
    assert model["spec"]["inputs"] == [*FEATURE_NAMES[:4]]


@given(values=st.lists(st.tuples(JSON, JSON, JSON), max_size=20))
def test_any_value_fits_its_column(layout: Any, values: list[tuple[Any, Any, Any]]) -> None:
    """A number is a finite one or missing, everything else is text or missing; nothing that was stored is refused."""
    rows = [
        ComparedRow({FEATURE_NAMES[0]: one, FEATURE_NAMES[1]: other}, answer, 0.5, other)
        for one, other, answer in values
    ]
    made = build_table(rows, layout, [*layout.features, *layout.answers])

    numbers = made.column(FEATURE_NAMES[0]).to_pylist()
    for (value, text, _), number, category in zip(
        values, numbers, made.column(FEATURE_NAMES[1]).to_pylist(), strict=True
    ):
        if isinstance(value, bool | str | None) or (isinstance(value, float) and not math.isfinite(value)):
            assert number is None
        elif isinstance(value, float):
            assert number == value
        assert (category is None) == (text is None or (isinstance(text, float) and math.isnan(text)))
    assert made.column(layout.score).null_count == 0


@pytest.fixture(scope="module")
def layout(packed: Any) -> Any:
    """The columns of the model with two classes."""
    return build_layout(read_manifest(packed("two")[0])[0])


def test_names_of_ours_give_way_to_features(layout: Any) -> None:
    """A feature may be called `prediction`."""
    assert (layout.prediction, layout.target, layout.score) == ("prediction_", "true label_", "probability of yes")
    assert set(layout.answers) & set(layout.features) == set()


def test_the_rarest_categories_count_as_one(layout: Any) -> None:
    """The same ones on both sides; what is missing stays missing."""
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
    """What it answered is counted and told; other versions have hashes of their own."""
    with open_store(str(tmp_path / "s.db")) as store:
        for number, (version, digest) in enumerate([("1", "a"), ("1", "b"), ("1", "b"), ("2", "c")]):
            model = MODEL._replace(version=version, hash=digest * 64)
            store.add_predictions([stored(f"p{number}", time=TIME + number, model=model)])
        chosen = ModelPredictions(store, ALL, MODEL.name, None, bundle_identity=("1", ["a" * 64, "onnx"]))
        assert [one.prediction_id for one in chosen] == ["p0", "p3"]
    notes = selection_notes(chosen, MODEL.name, chosen.selected)
    assert ("left out", "2 predictions of another model that was packed under the same version") in notes


def test_each_prediction_is_drawn_with_the_same_chance() -> None:
    """Of 20 rows, 5 are drawn: each in a quarter of many draws; fewer are all kept."""
    rows = [stored(f"{index}") for index in range(20)]
    counts: Counter[str] = Counter()
    drawn = Reservoir(5)
    for _ in range(2000):
        drawn.items, drawn.seen = [], 0
        for one in rows:
            drawn.add(one)  # type: ignore[arg-type]  # what it draws does not matter
        counts.update(one.prediction_id for one in drawn.items)
    assert all(400 < counts[f"{index}"] < 600 for index in range(20))
    few = Reservoir(50)
    for one in rows:
        few.add(one)  # type: ignore[arg-type]  # as above
    assert (few.items, few.seen) == (rows, 20)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evidently", "there.html"), "there.html is there already; --force replaces it"),
        (("evidently", "a.html", "--since", "1h"), "no prediction of people since"),
        (("alibi", "a.json", "--version", "9"), "no prediction of people 9 at any time"),
        (("alibi", "a.json", "--version", "1.0.0", "--reference-until", "2020-01-01"), "until 2020-01-01 00:00 UTC"),
        (("whylogs", "a", "--reference", "none.csv"), "none.csv cannot be read"),
        (("whylogs", "a", "--reference", "there.html"), "the name must end in .csv or .parquet"),
        (("whylogs", "a", "--bundle", "nowhere"), "nowhere"),
        (("evidently", "a.html", "--python", "/nonexistent/python"), "/nonexistent/python cannot be started: No such"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    two: ReportCase, tmp_path: Path, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there, an empty window or reference, another bundle, a Python that is none; nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.html").write_text("mine")
    before = {*tmp_path.iterdir()}

    with pytest.raises(ModeltraceError, match=words):
        two.run(*arguments)

    assert {*tmp_path.iterdir()} == before
    assert (tmp_path / "there.html").read_text() == "mine"


def test_a_python_without_the_library_is_told(two: ReportCase, tmp_path: Path) -> None:
    """The last line of what it says."""
    with pytest.raises(ModeltraceError, match="No module named 'evidently'"):
        two.run("evidently", str(tmp_path / "a.html"), "--python", sys.executable)


def test_options_that_exclude_each_other_are_refused(two: ReportCase) -> None:
    """A file and an earlier window; a column of no file; a name with another suffix."""
    for arguments in (
        ("evidently", "a.html", "--reference", "a.csv", "--reference-since", "1d"),
        ("evidently", "a.html", "--target", "x"),
        ("evidently", "a.pdf"),
        ("alibi", "a.csv"),
    ):
        with pytest.raises(AssertionError, match="Usage: "):
            two.run(*arguments)


def test_a_program_gets_no_secret_and_no_network_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not told our settings, its library is asked to call nobody, and what it leaves at home goes with it."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nenv > "$HOME/env"\necho "noise"\necho "{\\"arguments\\": \\"$*\\"}"\n')
    python.chmod(0o700)
    monkeypatch.setenv("MODELTRACE_STORE", "postgresql+psycopg://me:hunter2@db/x")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=hunter2")
    said = run_program(python, "alibi_tests", {"one": 1}, tmp_path)
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)

    assert "hunter2" not in str(seen)
    assert (seen["DO_NOT_TRACK"], seen["WHYLOGS_NO_ANALYTICS"]) == ("1", "True")
    assert seen["HOME"] == str(tmp_path)
    assert said["arguments"].startswith("-I -X utf8 ")
    assert json.loads((tmp_path / "description.json").read_text()) == {"one": 1}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and a lock that names nothing."""
    lock = tmp_path / "empty.lock"
    lock.write_text("")
    monkeypatch.setattr(venvs, "lock_of", lambda _: lock)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


EMPTY = Library("empty", "Nothing", "0 MB")


def test_an_environment_is_made_once(cache: Path) -> None:
    """By two at the same time as well; a lock that has changed makes another one; nothing half-made is left."""
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        made = [*pool.map(lambda _: ensure_venv(EMPTY, said.append), range(2))]
    assert made[0] == made[1]
    assert os.access(made[0], os.X_OK)
    ensure_venv(EMPTY, lambda _: pytest.fail("made again"))
    (cache / "empty.lock").write_text("# other\n")
    assert ensure_venv(EMPTY, said.append) != made[0]
    assert said[0].startswith("installing Nothing, this once: about 0 MB in ")
    assert len([*(cache / "cache" / "modeltrace" / "reports").iterdir()]) == 2


@pytest.mark.extended
def test_without_uv_the_installer_that_python_has_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """venv and pip, by the same lock."""
    monkeypatch.setattr(venvs, "CHECKOUT", cache)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(cache))
    python = ensure_venv(EMPTY, lambda _: None)
    assert (python.parent / "pip").exists()


def test_what_cannot_be_installed_says_why_and_the_way_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: the installer's reason, and that a Python with the library can be named."""
    (cache / "empty.lock").write_text(f"no-such-package==1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(
        ModeltraceError, match=r"cannot install Nothing: .*no-such-package.*try again with a network.*--python"
    ):
        ensure_venv(EMPTY, lambda _: None)
    assert [*(cache / "cache" / "modeltrace" / "reports").iterdir()] == []


def test_a_library_that_this_python_is_too_new_for_takes_another(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest on PATH that it has releases for; without one, what to install is told."""
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
def test_every_lock_is_there_with_hashes_and_without_addresses(name: str) -> None:
    """Each requirement has its version and its hashes; where they come from is the user's business."""
    lock = lock_file(Library(name, name, ""))
    lines = lock.read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith((" ", "#"))]

    assert all("==" in line for line in requirements)
    assert "://" not in lock.read_text()
    assert sum("--hash=sha256:" in line for line in lines) >= len(requirements)
    assert any(line.startswith({"alibi": "alibi-detect"}.get(name, name)) for line in requirements)


def test_locks_and_programs_are_part_of_what_is_installed(tmp_path: Path) -> None:
    """The wheel has them where an installed Modeltrace looks."""
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


def test_the_report_is_for_its_user_alone(two: ReportCase, tmp_path: Path) -> None:
    """What a program writes holds inputs of predictions."""
    python = tmp_path / "python"
    script = """#!/usr/bin/env python3
import json, sys
said = json.load(open(sys.argv[-1]))
open(said["output"], "w").write("page")
figures = [{"metric": "DriftedColumnsCount()", "value": {"count": 1}}]
print(json.dumps({"library": "Mine 1", "empty": [], "figures": figures}))
"""
    python.write_text(script)
    python.chmod(0o700)
    out = tmp_path / "deep" / "er" / "page.html"
    said = two.run("evidently", str(out), "--python", str(python))

    assert "1 of 8 columns drifted" in said
    assert out.read_text() == "page"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with open_store(two.store) as store:
        assert store.counts().predictions == 450
