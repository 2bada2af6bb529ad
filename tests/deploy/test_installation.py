"""The wheel in an environment of its own, with the lowest and the newest versions that its metadata allows."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.hubs import HubPorts
from tests.helpers.processes import Process, clean_environment, free_port

ROOT = Path(__file__).parent.parent.parent
# The largest size of all packages without extras, in bytes, without the bytecode that Python compiles.
MAX_BYTES = 500 * 10**6

pytestmark = [pytest.mark.extended, pytest.mark.slow]

FIT = """
import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
data = load_iris(as_frame=True)
joblib.dump(LogisticRegression(max_iter=1000).fit(data.data, data.target), "iris.joblib")
data.frame.to_csv("iris.csv", index=False)
"""


def uv() -> str:
    """Return the path of uv."""
    program = shutil.which("uv") or str(ROOT / ".tools/uv/bin/uv")
    if not Path(program).exists():
        pytest.skip("uv is not installed: ./dev gets it")
    return program


@pytest.fixture(scope="module", params=["lowest-direct", "highest"])
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of an environment with the wheel and its dependencies, resolved to these versions."""
    folder = tmp_path_factory.mktemp(request.param)
    variables = {**os.environ, "UV_SYSTEM_CERTS": "true", "UV_PYTHON_DOWNLOADS": "never"}
    python, lock = folder / "venv/bin/python", folder / "lock.txt"
    compiling = (
        "pip",
        "compile",
        "--resolution",
        request.param,
        "--python",
        sys.executable,
        "--output-file",
        str(lock),
    )
    installing = ("pip", "install", "--python", str(python), "--only-binary", ":all:", "--requirement", str(lock))
    for arguments in (
        ("build", "--wheel", "--out-dir", str(folder / "wheel"), str(ROOT)),
        (*compiling, str(ROOT / "pyproject.toml")),
        ("venv", "--python", sys.executable, str(folder / "venv")),
        installing,
    ):
        done = subprocess.run([uv(), "--quiet", *arguments], env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "wheel").glob("*.whl")
    subprocess.run(
        [uv(), "--quiet", "pip", "install", "--python", python, "--no-deps", wheel], env=variables, check=True
    )
    yield folder / "venv"
    shutil.rmtree(folder)


def test_it_packs_serves_and_shows_a_prediction(environment: Path, tmp_path: Path) -> None:
    """A model is packed and served, and all telemetry of a prediction arrives in the hub."""
    commands = environment / "bin"

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            arguments, cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run(commands / "modeltrace", "--version").startswith("modeltrace ")
    run(commands / "python", "-c", FIT)
    packing = ("pack", "iris.joblib", "--trust-pickle", "--data", "iris.csv", "--target", "target", "--out", "iris")
    assert "Packed iris" in run(commands / "python", "-m", "modeltrace", *packing, "--cross-validation-seconds", "0")
    port, hub = free_port(), HubPorts.reserve()
    ports = [f"--port={port}", f"--hub-port={hub.page}", f"--grpc-port={hub.grpc}", f"--http-port={hub.http}"]
    service = f"http://127.0.0.1:{port}"
    output = tmp_path / "output"
    with output.open("wb") as sink:
        popen = subprocess.Popen(
            [commands / "modeltrace", "up", "iris", *ports], cwd=tmp_path, env=clean_environment(tmp_path), stdout=sink,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        Process(popen, output).wait_for(f"{service}/readyz")
        checking = ("doctor", service, "--hub", hub.page_url, "--timeout", "60", "--json")
        result = json.loads(run(commands / "modeltrace", *checking))
    finally:
        popen.terminate()
        popen.wait(60)
    assert result["ok"] is True, result
    scoring = ("score", "iris.csv", "--bundle", "iris", "--out", "scores.parquet")
    done = subprocess.run(
        [commands / "modeltrace", *scoring], cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "this command needs pyarrow: pip install 'modeltrace[arrow]'" in done.stderr


def test_its_size_is_bounded(environment: Path) -> None:
    """The packages take no more than the documented space."""
    files = [path for path in environment.rglob("*") if path.is_file() and not path.is_symlink()]

    assert sum(path.stat().st_size for path in files if path.suffix != ".pyc") <= MAX_BYTES
