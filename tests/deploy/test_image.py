"""`modeltrace image` writes a context from which a real engine builds an image that serves the bundle."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modeltrace.bundles.pack import pack
from tests.helpers.bundles import iris_rows
from tests.helpers.engine import Engine, NoEngineError, running_engine
from tests.helpers.estimators import LABELS, iris_frame
from tests.helpers.images import BASE, index_secrets, provide_base
from tests.helpers.processes import free_port, wait_until
from tests.helpers.services import run_modeltrace

pytestmark = [pytest.mark.docker, pytest.mark.extended, pytest.mark.slow]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Return an engine that has the base image."""
    try:
        with running_engine() as engine:
            built = provide_base(engine)
            yield engine
            if engine.own:
                engine.docker("image", "prune", "--force")
            elif built:
                engine.docker("rmi", "--force", *built)
    except NoEngineError as error:
        pytest.skip(f"docker build: {error}")


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack a model with a module of its own, and write the context of its image."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own_double.py").write_text("def double(X):\n    return 2 * X\n")
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    double = __import__("own_double").double
    model = make_pipeline(FunctionTransformer(double), LogisticRegression(max_iter=1000)).fit(iris_frame(), LABELS)
    options = {"artifact_format": "joblib", "code": [tmp_path / "own"], "cross_validation_seconds": 0}
    bundle = pack(model, iris_frame(), LABELS, name="Own iris", out=tmp_path / "bundle", **options)  # type: ignore[arg-type]  # keywords
    sys.modules.pop("own_double")
    arguments = ("image", str(bundle), "--out", str(tmp_path / "context"), "--trust-pickle", "--trust-code")
    done = run_modeltrace(*arguments)
    assert done.returncode == 0, done.stderr
    assert "docker build --tag own-iris:1.0.0" in done.stdout
    return tmp_path / "context"


def test_the_image_is_built_and_serves_the_bundle(engine: Engine, context: Path, tmp_path: Path) -> None:
    """The container answers on its port, as an unprivileged user on a read-only root, and is healthy."""
    name = f"modeltrace-test-image-{os.getpid()}"
    port = free_port()
    # Compose brings its own BuildKit client; `docker build` needs a plugin.
    secrets = index_secrets(tmp_path)
    build = {"context": str(context), "network": "host", "args": {"PYTHON": BASE}, "secrets": [*secrets]}
    files = {secret: {"file": str(path)} for secret, path in secrets.items()}
    project = tmp_path / "compose.yml"
    project.write_text(yaml.dump({"services": {"model": {"image": name, "build": build}}, "secrets": files}))
    engine.run([*engine.compose_command, "--project-name", name, "--file", str(project), "build"])
    try:
        engine.docker(
            "run", "--detach", f"--name={name}", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
            "--volume=/var/lib/modeltrace", f"--publish=127.0.0.1:{port}:8000", "--env=MODELTRACE_INSECURE=true", name,
        )  # fmt: skip

        def healthy() -> bool:
            state = engine.inspect(name)[0]["State"]
            assert state["Running"], engine.docker("logs", name)
            return bool(state["Health"]["Status"] == "healthy")

        wait_until(healthy, description="a healthy container")
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"features": iris_rows(1)[0]}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == {"name": "Own iris", "version": "1.0.0"}
        (container,) = engine.inspect(name)
        assert container["Config"]["User"] == "10001:10001"
        script = (
            "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        )
        installed = json.loads(engine.docker("exec", name, "/opt/modeltrace/bin/python", "-Ic", script))
        lines = (context / "requirements.txt").read_text().splitlines()
        pinned = dict(line.split(" ")[0].split("==") for line in lines if "==" in line)
        assert {package.lower().replace("_", "-").replace(".", "-") for package in installed} == {*pinned, "modeltrace"}
    finally:
        engine.docker("rm", "--force", "--volumes", name)
        engine.docker("rmi", "--force", name)
