"""The version of a model that is packed without one."""

import json
from pathlib import Path

import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from modeltrace.bundles.registry.next_version import next_version
from modeltrace.cli.main import app
from tests.helpers.bundles import pack_iris
from tests.helpers.estimators import LABELS, X, iris_frame


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], "1.0.0"),
        (["1.0.0"], "1.0.1"),
        (["1.0.0", "1.10.0", "1.9.9"], "1.10.1"),
        (["1.0.9", "1.0.10"], "1.0.11"),
        (["7"], "8"),
        (["2026-11-29"], "2026-11-30"),
        (["v09"], "v10"),
        (["1.0.0rc1"], "1.0.0rc2"),
        (["blue"], "blue.1"),
        (["1.0.1", "1.0.1.dev3"], "1.0.2"),
    ],
)
def test_the_last_number_of_the_highest_version_is_raised(known: list[str], expected: str) -> None:
    """It is none of those that are known."""
    assert next_version(known) == expected


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fitted model and its data, in a working folder with a data folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    skops.io.dump(LogisticRegression(max_iter=1000).fit(X, LABELS), "iris.skops")
    pd.DataFrame(iris_frame()).assign(species=LABELS).to_csv("iris.csv", index=False)
    return tmp_path


def pack(*arguments: str, **env: str) -> str:
    """Run the command; what it prints."""
    call = ["pack", "iris.skops", "--data", "iris.csv", "--target", "species", *arguments]
    done = CliRunner().invoke(app, call, env=env)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def version_of(bundle: Path) -> str:
    """The version of a bundle."""
    found: str = json.loads((bundle / "model.json").read_text())["version"]
    return found


def test_a_model_that_is_packed_again_takes_the_next_version(files: Path) -> None:
    """Bundles of its name beside it decide, and the one that it replaces; it is said which version it is."""
    assert "packed already" not in pack("--out", "models/a")
    pack_iris(files / "models" / "other", "9.0.0", name="another")
    said = pack("--out", "models/b")
    assert "iris is packed already, as 1.0.0: this one is 1.0.1" in said
    assert "Packed iris 1.0.1 into models/b" in said
    pack("--out", "models/b", "--force")
    assert [version_of(files / "models" / one) for one in "ab"] == ["1.0.0", "1.0.2"]


def test_the_folder_that_is_served_counts_too(files: Path) -> None:
    """Wherever the new bundle is written; a version that is named stands."""
    pack_iris(files / "served" / "1", "3.1.4")
    assert "this one is 3.1.5" in pack("--out", "elsewhere/iris", MODELTRACE_BUNDLE=str(files / "served"))
    assert "Packed iris 3.1.4 into" in pack("--out", "elsewhere/two", "--version", "3.1.4")
