"""The version of a model that is packed without --version."""

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
def test_the_last_number_of_the_highest_version_is_incremented(known: list[str], expected: str) -> None:
    """The result is a new version."""
    assert next_version(known) == expected


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with a fitted model, its data, and an empty data folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    skops.io.dump(LogisticRegression(max_iter=1000).fit(X, LABELS), "iris.skops")
    pd.DataFrame(iris_frame()).assign(species=LABELS).to_csv("iris.csv", index=False)
    return tmp_path


def pack(*arguments: str, **env: str) -> str:
    """Run the command and return its output."""
    call = ["pack", "iris.skops", "--data", "iris.csv", "--target", "species", *arguments]
    result = CliRunner().invoke(app, call, env=env)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def version_of(bundle: Path) -> str:
    """Return the version of a bundle."""
    version: str = json.loads((bundle / "model.json").read_text())["version"]
    return version


def test_a_model_that_is_packed_again_gets_the_next_version(files: Path) -> None:
    """Bundles of its name in the same folder count, also the replaced one; the output names the version."""
    assert "packed already" not in pack("--out", "models/a")
    pack_iris(files / "models" / "other", "9.0.0", name="another")
    output = pack("--out", "models/b")
    assert "iris existed with version 1.0.0, so this is 1.0.1" in output
    assert "Packed iris 1.0.1 into models/b" in output
    pack("--out", "models/b", "--force")
    assert [version_of(files / "models" / folder) for folder in "ab"] == ["1.0.0", "1.0.2"]


def test_the_folder_that_is_served_counts_too(files: Path) -> None:
    """This applies wherever the new bundle is written; --version takes precedence."""
    pack_iris(files / "served" / "1", "3.1.4")
    assert "so this is 3.1.5" in pack("--out", "elsewhere/iris", MODELTRACE_BUNDLE=str(files / "served"))
    assert "Packed iris 3.1.4 into" in pack("--out", "elsewhere/two", "--version", "3.1.4")
