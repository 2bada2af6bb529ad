"""Bundles in an MLflow registry: a real one, in the SQLite database that MLflow itself makes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from opentelemetry import metrics, trace
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.registry import mlflow_client
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.mlflow_catalog import MlflowCatalog
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.publish import download_estimator, register
from modeltrace.bundles.registry.source import MlflowSource
from modeltrace.cli.main import app
from modeltrace.errors import (
    BundleError,
    BundleIntegrityError,
    BundleNotFoundError,
    PackError,
    RegistryUnavailableError,
    SettingsError,
)
from tests.helpers.bundles import flip_byte, pack_iris
from tests.helpers.estimators import LABELS, X, iris_frame
from tests.helpers.processes import Process, free_port, running, wait_until

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Registry:
    """A registry, a catalog that asks it, and bundles to register."""

    folder: Path
    catalog: Catalog
    client: MlflowClient
    bundles: dict[str, Path]

    def kept(self, file: str) -> list[Path]:
        """Where MLflow keeps a file of the versions, the latest last."""
        return sorted(self.folder.glob(f"mlruns/**/bundle/{file}"), key=lambda path: path.stat().st_ctime_ns)

    def mlflow(self, *arguments: str) -> str:
        """Have MLflow do something in a process of its own."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.helpers.mlflow_program", *arguments]
        root = str(Path(__file__).parents[3])
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": root},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One for the whole file: each test has models of its own in it."""
    folder = tmp_path_factory.mktemp("mlflow")
    bundles = {v: pack_iris(folder / v, v, strength=n + 1) for n, v in enumerate(["1.0.0", "1.1.0", "2.0.0"])}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow keeps files below the folder it is in
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        with Catalog(pytest.fail, folder / "cache") as catalog:
            yield Registry(folder, catalog, catalog._mlflow, bundles)


def test_what_was_registered_is_found_by_alias_and_by_number(registry: Registry) -> None:
    """The copy is the bundle, file by file, in a folder named by its hash."""
    number = register(registry.client, registry.bundles["1.0.0"], "found", "champion")
    found = registry.catalog.resolve("models:/found@champion")

    assert (number, found.name, found.version, found.location) == ("1", "iris", "1.0.0", "models:/found/1")
    assert registry.catalog.resolve("models:/found/1") == found
    assert found.path == registry.folder / "cache" / found.sha256
    for file in registry.bundles["1.0.0"].iterdir():
        assert (found.path / file.name).read_bytes() == file.read_bytes()
    assert load_bundle(found.path).hash == found.hash


def test_an_alias_that_moves_means_another_bundle(registry: Registry) -> None:
    """Until then, each answer is equal to the last one; earlier versions are still found by hash and version."""
    first = register(registry.client, registry.bundles["1.0.0"], "moves", "champion")
    before = registry.catalog.resolve("models:/moves@champion")
    assert registry.catalog.resolve("models:/moves@champion") == before

    second = register(registry.client, registry.bundles["2.0.0"], "moves", "champion")
    after = registry.catalog.resolve("models:/moves@champion")
    assert (first, second, before.version, after.version) == ("1", "2", "1.0.0", "2.0.0")
    sources = ["models:/moves@champion"]
    assert registry.catalog.find_by_hash(before.hash, sources).path == before.path
    assert registry.catalog.find_version("iris", "1.0.0", sources) == before
    assert [one.version for one in registry.catalog.list_bundles("models:/moves@champion")] == ["2.0.0", "1.0.0"]
    with pytest.raises(BundleNotFoundError, match=r"SHA-256 0+ in models:/moves@champion"):
        registry.catalog.find_by_hash("0" * 64, sources)


@pytest.mark.parametrize("what", ["models:/missing@best", "models:/missing/7", "models:/nowhere@champion"])
def test_what_the_registry_does_not_have_is_said(registry: Registry, what: str) -> None:
    """With the registry that was asked, and the variables that name it."""
    if what.startswith("models:/missing@"):
        register(registry.client, registry.bundles["1.0.0"], "missing", None)
    with pytest.raises(BundleNotFoundError, match=rf"{what} is not in the registry sqlite:.*MLFLOW_TRACKING_URI"):
        registry.catalog.resolve(what)


def test_an_altered_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    """A byte that changed where MLflow keeps the file; nothing of it stays in the cache."""
    register(registry.client, registry.bundles["1.1.0"], "altered", "champion")
    flip_byte(registry.kept("model.skops")[-1])
    with pytest.raises(BundleIntegrityError, match=r"models:/altered/1: the files at .* are not the bundle"):
        MlflowCatalog(registry.client, tmp_path / "cache").resolve(MlflowSource("altered", alias="champion"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_bundle_that_was_exchanged_is_refused(registry: Registry, tmp_path: Path) -> None:
    """An intact bundle in the place of the one that was registered: its hash stands in the registry, too."""
    register(registry.client, registry.bundles["1.1.0"], "exchanged", "champion")
    place = registry.kept("model.json")[-1].parent
    shutil.copytree(registry.bundles["2.0.0"], place, dirs_exist_ok=True)
    with pytest.raises(BundleIntegrityError, match="models:/exchanged/1"):
        MlflowCatalog(registry.client, tmp_path / "cache").resolve(MlflowSource("exchanged", alias="champion"))


def test_a_copy_that_is_damaged_or_deleted_is_made_anew(registry: Registry) -> None:
    """The cache is no place of trust."""
    register(registry.client, registry.bundles["1.0.0"], "copied", "champion")
    found = registry.catalog.resolve("models:/copied@champion")

    flip_byte(found.path / "model.skops")
    assert registry.catalog.resolve("models:/copied@champion") == found
    assert load_bundle(found.path).version == "1.0.0"
    shutil.rmtree(found.path)
    assert registry.catalog.resolve("models:/copied@champion") == found
    assert load_bundle(found.path).version == "1.0.0"


def test_several_may_make_a_copy_at_once(registry: Registry, tmp_path: Path) -> None:
    """Workers ask at the same time; each has the whole of it, and nothing else stays there."""
    register(registry.client, registry.bundles["1.0.0"], "shared", "champion")
    source = MlflowSource("shared", alias="champion")
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: MlflowCatalog(registry.client, tmp_path / "cache").resolve(source), range(8)))

    assert len(found) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [found.pop().sha256]


def test_a_cache_that_cannot_be_written_is_said(registry: Registry, tmp_path: Path) -> None:
    """With the folder and the reason."""
    register(registry.client, registry.bundles["1.0.0"], "uncached", "champion")
    (tmp_path / "cache").write_text("a file")

    with pytest.raises(BundleError, match=f"cannot copy models:/uncached/1 to {tmp_path}/cache: "):
        MlflowCatalog(registry.client, tmp_path / "cache").resolve(MlflowSource("uncached", alias="champion"))


@pytest.mark.extended
def test_mlflow_loads_a_registered_bundle_itself(registry: Registry) -> None:
    """As a scikit-learn model and as a function: the answers are the bundle's."""
    register(registry.client, registry.bundles["1.0.0"], "loaded", "champion")
    answers = json.loads(registry.mlflow("load", "models:/loaded@champion").splitlines()[-1])
    model = load_bundle(registry.bundles["1.0.0"])

    assert answers["sklearn"] == answers["pyfunc"] == [one.label for one in model.predict(X)]


@pytest.fixture(scope="module")
def plain(registry: Registry) -> str:
    """The names of models without bundles begin with it."""
    registry.mlflow("log", "plain")
    return "plain"


@pytest.mark.extended
@pytest.mark.parametrize("kind", ["skops", "cloudpickle"])
def test_a_model_without_a_bundle_is_refused_and_can_be_packed(
    registry: Registry, plain: str, tmp_path: Path, kind: str
) -> None:
    """The message is a command, which makes a bundle of it and registers that; a pickle is loaded only when told."""
    name = f"{plain}-{kind}"
    source = f"models:/{name}@champion"
    with pytest.raises(BundleNotFoundError, match=f"modeltrace pack models:/{name}/1 --data train.csv --trust-pickle"):
        registry.catalog.resolve(source)

    train = tmp_path / "train.parquet"
    iris_frame().assign(label=LABELS).to_parquet(train)
    arguments = ["pack", source, "--data", str(train), "--target", "label", "--out", str(tmp_path / "out")]
    if kind == "cloudpickle":
        refused = CliRunner().invoke(app, arguments)
        assert "MODELTRACE_TRUST_PICKLE" in str(refused.exception)
        assert not (tmp_path / "out").exists()
        arguments += ["--trust-pickle"]
    done = CliRunner().invoke(app, [*arguments, "--register", name, "--alias", "champion"])

    assert done.exit_code == 0, done.exception
    assert f"Registered as models:/{name}/2. To serve it from there: modeltrace serve {source}" in done.output
    found = registry.catalog.resolve(source)
    assert (found.name, found.sha256) == (name, read_manifest(tmp_path / "out")[1])
    assert len(load_bundle(found.path).predict(X)) == len(X)


def test_what_is_no_scikit_learn_model_is_not_packed(registry: Registry, tmp_path: Path) -> None:
    """Neither a folder, nor a version whose description names none."""
    register(registry.client, registry.bundles["1.0.0"], "odd", "champion")
    description = registry.kept("MLmodel")[-1]
    for text in (
        "flavors: {onnx: {}}",
        "[",
        "flavors: {sklearn: {pickled_model: ../../x, serialization_format: pickle}}",
    ):
        description.write_text(text)
        with pytest.raises(PackError, match="models:/odd@champion"):
            download_estimator(registry.client, "models:/odd@champion", tmp_path)


def test_a_process_that_dies_is_replaced(registry: Registry) -> None:
    """Whoever waits for an answer hears of it, and the next question is answered."""
    register(registry.client, registry.bundles["1.0.0"], "killed", "champion")
    process = registry.client._process
    assert process is not None
    process.kill()
    process.wait()

    with pytest.raises(RegistryUnavailableError, match="exit code -9"):
        registry.client.call("registry_uri")
    assert registry.client.call("registry_uri").startswith("sqlite:///")


def test_a_registry_that_is_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon, with its address and without the password in it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:geheim@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Catalog(pytest.fail, tmp_path) as catalog:
        with pytest.raises(RegistryUnavailableError, match="MLFLOW_TRACKING_URI") as caught:
            catalog.resolve("models:/iris@champion")
        assert "geheim" not in str(caught.value)


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only whoever names a registry needs it."""
    monkeypatch.setattr(mlflow_client, "find_spec", lambda _: None)
    with (
        Catalog(pytest.fail, tmp_path) as catalog,
        pytest.raises(SettingsError, match=r"pip install 'modeltrace\[mlflow\]'"),
    ):
        catalog.resolve("models:/iris@champion")


@contextmanager
def served(registry: Registry, name: str, seconds: str) -> Iterator[tuple[Process, str]]:
    """A service of a registered model that looks every so many seconds, and where it is."""
    url = f"http://127.0.0.1:{free_port()}"
    env = {
        "MODELTRACE_BUNDLE": f"models:/{name}@champion",
        "MODELTRACE_PORT": url.rpartition(":")[2],
        "MODELTRACE_RELOAD_INTERVAL": seconds,
        "XDG_DATA_HOME": str(registry.folder / "data"),
        "OTEL_SDK_DISABLED": "true",
    }
    with running(["modeltrace", "serve"], env=env) as process:
        process.wait_for(f"{url}/readyz")
        yield process, url


def beside(process: Process) -> list[psutil.Process]:
    """What speaks with MLflow for a service."""
    found = []
    for one in psutil.Process(process.popen.pid).children():
        with suppress(psutil.Error):  # it has just ended
            if "mlflow_process" in " ".join(one.cmdline()):
                found.append(one)
    return found


@pytest.mark.extended
def test_a_service_that_looks_at_sighup_alone_has_no_process_between_two_looks(registry: Registry) -> None:
    """Nor before the first one: what is served is there, and its 240 MB are not."""
    register(registry.client, registry.bundles["1.1.0"], "asked-for", "champion")
    with served(registry, "asked-for", seconds="0") as (process, url):
        wait_until(lambda: not beside(process), description="its end")
        register(registry.client, registry.bundles["2.0.0"], "asked-for", "champion")
        process.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: httpx.get(f"{url}/model").json()["version"] == "2.0.0", description="the new version")
        wait_until(lambda: not beside(process), description="its end again")


@pytest.mark.extended
def test_a_service_serves_from_the_registry_and_follows_its_alias(registry: Registry) -> None:
    """MLflow is not in the process that answers, and gone with it; nor is it in this one: no import, no provider."""
    register(registry.client, registry.bundles["1.1.0"], "served", "champion")
    with served(registry, "served", seconds="0.5") as (process, url):
        assert httpx.get(f"{url}/model").json()["version"] == "1.1.0"
        register(registry.client, registry.bundles["2.0.0"], "served", "champion")
        wait_until(lambda: httpx.get(f"{url}/model").json()["version"] == "2.0.0", description="the new version")
        (mlflow,) = beside(process)
        assert process.stop() in (0, -15)
        wait_until(lambda: not mlflow.is_running() or mlflow.status() == psutil.STATUS_ZOMBIE, description="its end")
    assert not [name for name in sys.modules if name.partition(".")[0] in ("mlflow", "alembic")]
    assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
    assert "mlflow" not in type(metrics.get_meter_provider()).__module__
