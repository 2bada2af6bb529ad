"""The user's own modules travel in the bundle, are loaded only if they are trusted, and never mix."""

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import joblib
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.code.archive import read_archive
from modeltrace.bundles.code.pack_code import verify_in_new_process
from modeltrace.bundles.loaded_model import load
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.registry.bundle_ref import bundle_info, check_version_conflict
from modeltrace.cli.main import main
from modeltrace.errors import (
    BundleError,
    BundleIntegrityError,
    IncompatibleBundleError,
    PackError,
    UntrustedModelError,
    VersionConflictError,
)
from tests.helpers.bundles import edit_manifest, flip_byte
from tests.helpers.estimators import LABELS, iris_frame

pytestmark = pytest.mark.slow

MODULES = {
    "own_steps/__init__.py": "from own_steps.scale import Scale\n",
    "own_steps/scale.py": """
import importlib.resources
import json
import pkgutil

from sklearn.base import BaseEstimator, TransformerMixin


class Scale(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        import own_helper
        from own_helper import offset

        assert own_helper.offset is offset
        text = importlib.resources.files(__package__).joinpath("factor.json").read_text()
        assert text.encode() == pkgutil.get_data(__package__, "factor.json")
        return X * json.loads(text) + offset()
""",
    "own_steps/factor.json": "2.0",
    "own_steps/__pycache__/scale.cpython-311.pyc": "ignored",
    ".hidden": "ignored",
    "own_helper.py": "def offset():\n    return 0.5\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of modules that Python can import. Afterwards, nothing of it is imported.

    `pack` does not start the process that tests the bundle, see `new_process`.
    """
    monkeypatch.setattr("modeltrace.bundles.pack.verify_in_new_process", lambda *_: None)
    folder = write(tmp_path / "src", MODULES)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    forget_modules()


@pytest.fixture
def new_process(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  is patched first
    """Let `pack` test the bundle in a new process."""
    monkeypatch.setattr("modeltrace.bundles.pack.verify_in_new_process", verify_in_new_process)


def forget_modules() -> None:
    """Remove the modules of the tests from the import system."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_steps", "own_helper")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def fit() -> Any:
    """Return a pipeline with a step of the folder of modules."""
    step = importlib.import_module("own_steps").Scale()
    return make_pipeline(step, LogisticRegression(max_iter=1000)).fit(iris_frame(), LABELS)


def pack_model(estimator: Any, out: Path, **options: Any) -> Path:
    """Pack it without cross-validation."""
    options = {"name": "iris", "cross_validation_seconds": 0, "artifact_format": "joblib", **options}
    return pack(estimator, iris_frame(), LABELS, out=out, **options)


@pytest.mark.parametrize("artifact_format", ["joblib", "skops"])
def test_a_bundle_with_code_predicts_what_the_estimator_predicts(
    source: Path, tmp_path: Path, artifact_format: Any
) -> None:
    """The bundle contains the modules and their data files, and the installed program needs nothing else."""
    estimator = fit()
    expected = estimator.predict_proba(iris_frame()).tolist()
    bundle = pack_model(estimator, tmp_path / "bundle", code=[source], artifact_format=artifact_format)
    shutil.rmtree(source)
    forget_modules()

    model = load(bundle, trust_pickle=artifact_format == "joblib", trust_code=True)

    manifest, _ = read_manifest(bundle)
    assert manifest.code is not None
    assert manifest.code.modules == ("own_helper", "own_steps")
    assert model.predict_proba(iris_frame()).tolist() == expected
    assert not {"own_steps", "own_helper"} & sys.modules.keys()
    with ZipFile(bundle / manifest.code.file) as packed:
        assert packed.namelist() == sorted(name for name in MODULES if "ignored" not in MODULES[name])


def test_two_versions_have_their_own_code(source: Path, tmp_path: Path) -> None:
    """Bundles whose modules have the same names and other contents answer as they were packed, in one process."""
    before = fit()
    expected = before.predict_proba(iris_frame()[::10]).tolist()
    first = pack_model(before, tmp_path / "first", code=[source])
    write(source, {"own_steps/factor.json": "-2.0", "own_helper.py": "def offset():\n    return -7\n"})
    forget_modules()
    changed = fit()
    second = pack_model(changed, tmp_path / "second", code=[source], version="2")

    models = [load(bundle, trust_pickle=True, trust_code=True) for bundle in (first, second, first)]

    rows = iris_frame()[::10]
    answers = [model.predict_proba(rows).tolist() for model in models]
    assert answers[0] == answers[2] == expected
    assert answers[1] == changed.predict_proba(rows).tolist() != answers[0]


def test_other_code_is_another_model(source: Path, tmp_path: Path) -> None:
    """The hash of the model depends on its code, so two models with one name and version are a conflict."""
    estimator = fit()
    first = pack_model(estimator, tmp_path / "first", code=[source])
    same = pack_model(estimator, tmp_path / "same", code=[source])
    write(source, {"own_helper.py": "def offset():\n    return 0.25\n"})
    forget_modules()
    second = pack_model(fit(), tmp_path / "second", code=[source])

    served = load_bundle(first, trust_pickle=True, trust_code=True)

    check_version_conflict(bundle_info(read_manifest(same), "same"), [served])
    with pytest.raises(VersionConflictError):
        check_version_conflict(bundle_info(read_manifest(second), "second"), [served])


@pytest.mark.parametrize("artifact_format", ["joblib", "skops"])
def test_code_runs_only_if_it_is_trusted(source: Path, tmp_path: Path, artifact_format: Any) -> None:
    """Nothing is imported before the operator trusts the code; trusted pickles are not enough."""
    mark = tmp_path / "ran"
    write(source, {"own_helper.py": f"open({str(mark)!r}, 'w').close()\ndef offset():\n    return 0.5\n"})
    bundle = pack_model(fit(), tmp_path / "bundle", code=[source], artifact_format=artifact_format)
    mark.unlink()
    forget_modules()

    with pytest.raises(UntrustedModelError, match=r"own_helper, own_steps in code.zip.*MODELTRACE_TRUST_CODE=true"):
        load_bundle(bundle, trust_pickle=True)
    assert not mark.exists()


def test_trusted_code_does_not_allow_pickles(source: Path, tmp_path: Path) -> None:
    """A pickle with code of the bundle needs both permissions."""
    bundle = pack_model(fit(), tmp_path / "bundle", code=[source])

    with pytest.raises(UntrustedModelError, match="--trust-pickle"):
        load_bundle(bundle, trust_code=True)


def test_altered_code_is_not_loaded(source: Path, tmp_path: Path) -> None:
    """Neither code with another hash nor other code that model.json describes is loaded."""
    estimator = fit()
    first = pack_model(estimator, tmp_path / "first", code=[source])
    write(source, {"own_helper.py": "def offset():\n    return 0.25\n"})
    forget_modules()
    second = pack_model(fit(), tmp_path / "second", code=[source])
    shutil.copy(second / "code.zip", first / "code.zip")
    with pytest.raises(BundleIntegrityError, match=r"code\.zip"):
        load_bundle(first, trust_pickle=True, trust_code=True)

    edit_manifest(first, code=json.loads((second / "model.json").read_text())["code"])
    with pytest.raises(BundleError, match="packed with other modules"):
        load_bundle(first, trust_pickle=True, trust_code=True)

    flip_byte(second / "code.zip")
    with pytest.raises(BundleIntegrityError, match=r"code\.zip"):
        load_bundle(second, trust_pickle=True, trust_code=True)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_archive_is_an_error(method: int) -> None:
    """A damaged archive is an error even if model.json has its hash."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        archive.writestr("own.py", b"x = 1\n" * 1000)
    damaged = bytearray(sink.getvalue())
    damaged[40:48] = b"\xff" * 8  # after the header of the member

    with pytest.raises(BundleError, match=r"code\.zip cannot be read"):
        read_archive(bytes(damaged), "code.zip")


@pytest.mark.usefixtures("new_process")
def test_a_module_that_is_not_packed_is_named(source: Path, tmp_path: Path) -> None:
    """A bundle must work where only its modules and the installed packages exist."""
    with pytest.raises(PackError, match=r"new process.*own_helper"):
        pack_model(fit(), tmp_path / "bundle", code=[source / "own_steps"])


def test_a_package_and_a_file_can_be_named(source: Path, tmp_path: Path) -> None:
    """`--code` accepts folders of packages and single modules."""
    bundle = pack_model(fit(), tmp_path / "bundle", code=[source / "own_steps", source / "own_helper.py"])

    manifest, _ = read_manifest(bundle)
    assert manifest.code is not None
    assert manifest.code.modules == ("own_helper", "own_steps")


def outside_link(folder: Path) -> None:
    """Link to a file outside of the folder."""
    (folder.parent / "secret.py").write_text("")
    (folder / "linked.py").symlink_to(folder.parent / "secret.py")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (outside_link, "outside of its folder"),
        (lambda folder: (folder / "more").symlink_to(folder / "own_steps"), "is a link to a folder"),
        (lambda folder: os.mkfifo(folder / "pipe"), "named pipe"),
        (lambda folder: (folder / "fast.so").write_bytes(b"\x7fELF"), "compiled code.*--requirements"),
        (lambda folder: (folder / "json.py").write_text(""), "json has the name of a module of Python itself"),
        (lambda folder: (folder / "pandas.py").write_text(""), "module of the installed package pandas"),
        (lambda folder: (folder / "data.bin").write_bytes(bytes(2**24)), "more than 2,000 files or 16 MiB"),
        (lambda folder: [(folder / f"d{n}").write_bytes(b"") for n in range(2_000)], "more than 2,000 files or 16 MiB"),
        (shutil.rmtree, "there is no such folder or file"),
        (lambda folder: [path.unlink() for path in folder.rglob("*.py")], "contains no Python module"),
    ],
)
def test_files_that_cannot_be_packed_are_errors(source: Path, tmp_path: Path, change: Any, message: str) -> None:
    """The message names the file and says what to do, and no bundle is written."""
    estimator = fit()
    change(source)

    with pytest.raises(PackError, match=message):
        pack_model(estimator, tmp_path / "bundle", code=[source])
    assert not (tmp_path / "bundle").exists()


def test_two_modules_of_one_name_are_refused(source: Path, tmp_path: Path) -> None:
    """If two folders have a module of the same name, neither is silently preferred."""
    other = write(tmp_path / "other", {"own_helper.py": ""})

    with pytest.raises(PackError, match="already packed as own_helper"):
        pack_model(fit(), tmp_path / "bundle", code=[source, other])


@pytest.mark.slow
def test_a_class_of_a_script_is_refused(tmp_path: Path) -> None:
    """A class of `__main__` cannot be loaded elsewhere; the message says what to do."""
    script = tmp_path / "fit.py"
    script.write_text(
        "import modeltrace\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from tests.helpers.estimators import LABELS, iris_frame\n"
        "class Mine(LogisticRegression):\n    pass\n"
        "model = Mine(max_iter=1000).fit(iris_frame(), LABELS)\n"
        "for kind in ('joblib', 'skops'):\n"
        "    try:\n"
        "        modeltrace.pack(model, iris_frame(), name='iris', artifact_format=kind)\n"
        "    except modeltrace.errors.PackError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip

    assert done.stdout.count("the model contains Mine, which is defined in the script or notebook") == 2
    assert done.stdout.count("pack it with --code") == 2


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("pandas>=99", r"pandas>=99 \([0-9.]+ is installed\)"),
        ("no-such-package-of-ours==1.0 \\\n    --hash=sha256:00", r"no-such-package-of-ours==1.0 \(not installed\)"),
        ("numpy<1 # old\npandas\nscipy<1; python_version >= '3'", r"numpy<1 \(.*\); scipy<1 \("),
    ],
)
def test_requirements_are_checked_when_a_bundle_is_loaded(
    source: Path, tmp_path: Path, text: str, missing: str
) -> None:
    """The message lists every package that is missing or has another version."""
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    with pytest.raises(PackError, match=f"not met here.*{missing}"):
        pack_model(fit(), tmp_path / "refused", code=[source], requirements=file)
    file.write_text("# none\n\npandas\npywin32; sys_platform == 'win32'\n")
    bundle = pack_model(fit(), tmp_path / "bundle", code=[source], requirements=file)
    (bundle / "requirements.txt").write_text(text)
    entry = read_manifest(bundle)[0].requirements
    assert entry is not None
    edit_manifest(bundle, requirements=type(entry).describe("requirements.txt", text.encode()).model_dump())

    with pytest.raises(IncompatibleBundleError, match=f"{missing}.*pip install -r"):
        load_bundle(bundle, trust_pickle=True, trust_code=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pandas\n-r other.txt", "line 2: the option -r"),
        ("--index-url https://example.test", "line 1: the option --index-url"),
        ("./wheel.whl", "line 1: './wheel.whl' is not the requirement"),
        ("pandas >>> 2", "line 1"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_requirements_that_cannot_travel_are_refused(source: Path, tmp_path: Path, text: str, message: str) -> None:
    """Options, paths and invalid lines are refused with their line."""
    file = tmp_path / "requirements.txt"
    file.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(PackError, match=message):
        pack_model(fit(), tmp_path / "bundle", code=[source], requirements=file)


@pytest.mark.slow
@pytest.mark.usefixtures("new_process")
def test_the_command_packs_and_scores_with_code(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pack --code` imports the modules to read the model, and `score --trust-code` those of the bundle."""
    joblib.dump(fit(), tmp_path / "iris.joblib")
    iris_frame().to_csv(tmp_path / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path)
    sys.path.remove(str(source))
    forget_modules()

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["modeltrace", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            sys.exit(main())
        return exit_info.value.code or 0, *capsys.readouterr()

    packing = ("pack", "iris.joblib", "--trust-pickle", "--data", "rows.csv", "--format", "joblib")
    code, _, error = run(*packing)
    assert code == 1
    assert "needs the module own_steps" in error
    assert "--code" in error

    code, output, error = run(*packing, "--code", "src")
    assert code == 0, error
    assert "Modules in the bundle: own_helper, own_steps" in output
    assert "MODELTRACE_TRUST_CODE=true modeltrace up iris" in output

    shutil.rmtree(source)
    forget_modules()
    scoring = ("score", "rows.csv", "--bundle", "iris", "--out", "out.csv", "--trust-pickle")
    code, _, error = run(*scoring)
    assert code == 1
    assert "--trust-code" in error
    code, output, error = run(*scoring, "--trust-code")
    assert code == 0, error
    assert "50 of 50 rows predicted" in output
