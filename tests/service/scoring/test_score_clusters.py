"""The code of docs/scoring.md for Ray and Spark gives the estimator's predictions."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.mixed_model import MixedModel

ROOT = Path(__file__).parents[3]
PACKAGES = ("ray[data]==2.60.0", "pyspark==4.3.0")
PREAMBLES = {
    "Ray Data": "import modeltrace, ray\nray.init(num_cpus=6, include_dashboard=False)\n",
    "Spark": (
        "import modeltrace\nfrom pyspark.sql import SparkSession\nfrom pyspark.sql.types import StructType\n"
        'spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()\n'
    ),
}

pytestmark = [pytest.mark.extended, pytest.mark.slow]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with Ray, Spark and Modeltrace, installed as a package."""
    uv = shutil.which("uv") or str(ROOT / ".tools/uv/bin/uv")
    if not Path(uv).exists():
        pytest.skip("uv is not installed; ./dev installs it")
    interpreter = tmp_path_factory.mktemp("clusters") / "venv" / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(interpreter)]
    for command in (
        [uv, "venv", "--quiet", str(interpreter.parents[1])],
        [*install, "-r", str(ROOT / "requirements.lock"), *PACKAGES],
        [*install, "--no-deps", str(ROOT)],
    ):
        subprocess.run(command, check=True)
    return interpreter


@pytest.mark.parametrize("library", PREAMBLES)
def test_code_of_the_page(library: str, python: Path, mixed: MixedModel, tmp_path: Path) -> None:
    """The block of the page runs as it is, with other paths, and predicts each row once."""
    if library == "Spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    page = (ROOT / "docs" / "scoring.md").read_text()
    match = re.search(rf"[Ww]ith {library}\b[^\n]*:\n\n```python\n(.*?)```", page, re.DOTALL)
    assert match
    code = match[1]
    for name, path in {"/models/churn": mixed.bundle, "customers": tmp_path / "in", "scores": tmp_path / "out"}.items():
        assert f'"{name}"' in code
        code = code.replace(f'"{name}"', f'"{path}"')
    (tmp_path / "in").mkdir()
    table = mixed.table.assign(tier=mixed.table.tier.astype(int))
    for number, start in enumerate(range(0, 300, 100)):
        part = table.iloc[start : start + 100].assign(age=table.age.where(table.index != 40))
        part.to_parquet(tmp_path / "in" / f"{number}.parquet", index=False)

    env = {**os.environ, "PYSPARK_PYTHON": str(python), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [python, "-c", PREAMBLES[library] + code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    results = pd.read_parquet(tmp_path / "out").set_index("id").loc[mixed.table.id]
    predicted = results.error.isna()
    assert (~predicted).to_numpy().nonzero()[0].tolist() == [40]
    expected = pd.Series(mixed.labels, index=results.index)
    assert results.label[predicted].tolist() == expected[predicted].tolist()
