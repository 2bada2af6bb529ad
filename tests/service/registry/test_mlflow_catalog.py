"""Bundles in a real MLflow registry, in the SQLite database that MLflow creates."""

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
from modeltrace.bundles.mlflow_folder import find_estimator
from modeltrace.bundles.registry import mlflow_client
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.mlflow_catalog import MlflowCatalog
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.publish import download_model, register
from modeltrace.bundles.registry.source import MlflowSource
from modeltrace.bundles.verify_outputs import predict_rows
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
from tests.helpers.tables import churned, mlflow_rows

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Registry:
    """A registry, a catalog of it, and bundles to register."""

    folder: Path
    catalog: Catalog
    client: MlflowClient
    bundles: dict[str, Path]

    def stored_files(self, file: str) -> list[Path]:
        """Return the paths of a file in MLflow's artifact store, one per version, the latest last."""
        return sorted(self.folder.glob(f"mlruns/**/bundle/{file}"), key=lambda path: path.stat().st_ctime_ns)

    def run_mlflow(self, *arguments: str) -> str:
        """Run the MLflow helper program in another process."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.helpers.mlflow_program", *arguments]
        root = str(Path(__file__).parents[3])
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": root},
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return one registry for the whole module; each test uses its own models."""
    folder = tmp_path_factory.mktemp("mlflow")
    bundles = {v: pack_iris(folder / v, v, strength=n + 1) for n, v in enumerate(["1.0.0", "1.1.0", "2.0.0"])}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow stores files in its working folder
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        with Catalog(pytest.fail, folder / "cache") as catalog:
            yield Registry(folder, catalog, catalog._mlflow, bundles)


def test_a_registered_bundle_is_found_by_alias_and_number(registry: Registry) -> None:
    """The copy has the same files as the bundle, in a folder named by its hash."""
    number = register(registry.client, registry.bundles["1.0.0"], "found", "champion")
    bundle = registry.catalog.resolve("models:/found@champion")

    assert (number, bundle.name, bundle.version, bundle.location) == ("1", "iris", "1.0.0", "models:/found/1")
    assert registry.catalog.resolve("models:/found/1") == bundle
    assert bundle.path == registry.folder / "cache" / bundle.sha256
    for file in registry.bundles["1.0.0"].iterdir():
        assert (bundle.path / file.name).read_bytes() == file.read_bytes()
    assert load_bundle(bundle.path).hash == bundle.hash


def test_a_moved_alias_refers_to_another_bundle(registry: Registry) -> None:
    """Before, each result is equal to the last; earlier versions are still found by hash and version."""
    first = register(registry.client, registry.bundles["1.0.0"], "moves", "champion")
    before = registry.catalog.resolve("models:/moves@champion")
    assert registry.catalog.resolve("models:/moves@champion") == before

    second = register(registry.client, registry.bundles["2.0.0"], "moves", "champion")
    after = registry.catalog.resolve("models:/moves@champion")
    assert (first, second, before.version, after.version) == ("1", "2", "1.0.0", "2.0.0")
    sources = ["models:/moves@champion"]
    assert registry.catalog.find_by_hash(before.hash, sources).path == before.path
    assert registry.catalog.find_version("iris", "1.0.0", sources) == before
    assert [bundle.version for bundle in registry.catalog.list_bundles("models:/moves@champion")] == ["2.0.0", "1.0.0"]
    with pytest.raises(BundleNotFoundError, match=r"SHA-256 0+ in 'models:/moves@champion'"):
        registry.catalog.find_by_hash("0" * 64, sources)


@pytest.mark.parametrize("source", ["models:/missing@best", "models:/missing/7", "models:/nowhere@champion"])
def test_an_unknown_model_or_version_is_an_error(registry: Registry, source: str) -> None:
    """The message names the registry and the variables that configure it."""
    if source.startswith("models:/missing@"):
        register(registry.client, registry.bundles["1.0.0"], "missing", None)
    with pytest.raises(BundleNotFoundError, match=rf"{source} is not in the registry sqlite:.*MLFLOW_TRACKING_URI"):
        registry.catalog.resolve(source)


def test_an_altered_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    """A byte has changed in MLflow's artifact store; nothing stays in the cache."""
    register(registry.client, registry.bundles["1.1.0"], "altered", "champion")
    flip_byte(registry.stored_files("model.skops")[-1])
    with pytest.raises(BundleIntegrityError, match=r"models:/altered/1: the files at .* are not the bundle"):
        MlflowCatalog(registry.client, tmp_path / "cache").resolve(MlflowSource("altered", alias="champion"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_replaced_bundle_is_refused(registry: Registry, tmp_path: Path) -> None:
    """An intact bundle replaces the registered one, but the registry contains the hash of the latter."""
    register(registry.client, registry.bundles["1.1.0"], "exchanged", "champion")
    folder = registry.stored_files("model.json")[-1].parent
    shutil.copytree(registry.bundles["2.0.0"], folder, dirs_exist_ok=True)
    with pytest.raises(BundleIntegrityError, match="models:/exchanged/1"):
        MlflowCatalog(registry.client, tmp_path / "cache").resolve(MlflowSource("exchanged", alias="champion"))


def test_a_damaged_or_deleted_copy_is_downloaded_again(registry: Registry) -> None:
    """The cache is not trusted."""
    register(registry.client, registry.bundles["1.0.0"], "copied", "champion")
    bundle = registry.catalog.resolve("models:/copied@champion")

    flip_byte(bundle.path / "model.skops")
    assert registry.catalog.resolve("models:/copied@champion") == bundle
    assert load_bundle(bundle.path).version == "1.0.0"
    shutil.rmtree(bundle.path)
    assert registry.catalog.resolve("models:/copied@champion") == bundle
    assert load_bundle(bundle.path).version == "1.0.0"


def test_concurrent_downloads_give_one_copy(registry: Registry, tmp_path: Path) -> None:
    """Each worker gets a complete copy, and no other files remain."""
    register(registry.client, registry.bundles["1.0.0"], "shared", "champion")
    source = MlflowSource("shared", alias="champion")
    with ThreadPoolExecutor(8) as pool:
        bundles = set(pool.map(lambda _: MlflowCatalog(registry.client, tmp_path / "cache").resolve(source), range(8)))

    assert len(bundles) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [bundles.pop().sha256]


def test_an_unwritable_cache_is_an_error(registry: Registry, tmp_path: Path) -> None:
    """The message contains the folder and the reason."""
    register(registry.client, registry.bundles["1.0.0"], "uncached", "champion")
    (tmp_path / "cache").write_text("a file")

    with pytest.raises(BundleError, match=f"cannot copy models:/uncached/1 to {tmp_path}/cache: "):
        MlflowCatalog(registry.client, tmp_path / "cache").resolve(MlflowSource("uncached", alias="champion"))


@pytest.mark.extended
def test_mlflow_loads_a_registered_bundle_itself(registry: Registry) -> None:
    """As a scikit-learn model and as a function: the predictions are the bundle's."""
    register(registry.client, registry.bundles["1.0.0"], "loaded", "champion")
    answers = json.loads(registry.run_mlflow("load", "models:/loaded@champion").splitlines()[-1])
    model = load_bundle(registry.bundles["1.0.0"])

    assert answers["sklearn"] == answers["pyfunc"] == [output.label for output in model.predict(X)]


@pytest.fixture(scope="module")
def plain_models(registry: Registry) -> str:
    """Register models without bundles, and return the prefix of their names."""
    registry.run_mlflow("log", "plain")
    return "plain"


@pytest.mark.extended
@pytest.mark.parametrize("kind", ["skops", "cloudpickle"])
def test_a_model_without_a_bundle_is_refused_and_can_be_packed(
    registry: Registry, plain_models: str, tmp_path: Path, kind: str
) -> None:
    """The message contains the command that packs and registers it; a pickle is loaded only if allowed."""
    name = f"{plain_models}-{kind}"
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
    result = CliRunner().invoke(app, [*arguments, "--register", name, "--alias", "champion"])

    assert result.exit_code == 0, result.exception
    assert f"Registered as models:/{name}/2. To serve it: modeltrace serve {source}" in result.output
    bundle = registry.catalog.resolve(source)
    assert (bundle.name, bundle.sha256) == (name, read_manifest(tmp_path / "out")[1])
    assert len(load_bundle(bundle.path).predict(X)) == len(X)


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore")  # MLflow warns of type hints
@pytest.mark.parametrize("version", ["@champion", "/1"])
def test_a_registered_pyfunc_is_packed(plain_models: str, tmp_path: Path, version: str) -> None:
    """By alias and by number, without training data: it has a signature and an input example."""
    out = tmp_path / "out"
    arguments = ["pack", f"models:/{plain_models}-pyfunc{version}", "--trust-pickle", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.exception
    model = load_bundle(out, trust_pickle=True)
    assert model.name == f"{plain_models}-pyfunc"
    rows = mlflow_rows()
    assert [output.label for output in predict_rows(model, rows)] == churned(rows).tolist()


def test_other_versions_are_not_packed(registry: Registry, tmp_path: Path) -> None:
    """A folder is refused, and so is a version without a description of a model that can be packed."""
    register(registry.client, registry.bundles["1.0.0"], "odd", "champion")
    description = registry.stored_files("MLmodel")[-1]
    for number, text in enumerate(
        (
            "flavors: {onnx: {}}",
            "[",
            "flavors: {sklearn: {pickled_model: ../../x, serialization_format: pickle}}",
        )
    ):
        description.write_text(text)
        (tmp_path / str(number)).mkdir()
        folder = download_model(registry.client, "models:/odd@champion", tmp_path / str(number))
        with pytest.raises(PackError, match="odd"):
            find_estimator(folder)
    description.unlink()
    with pytest.raises(PackError, match="models:/odd@champion contains no file MLmodel"):
        download_model(registry.client, "models:/odd@champion", tmp_path)
    with pytest.raises(PackError, match="is not a model in a registry"):
        download_model(registry.client, str(tmp_path), tmp_path)


def test_a_process_that_has_died_is_replaced(registry: Registry) -> None:
    """The waiting call fails, and the next call succeeds."""
    register(registry.client, registry.bundles["1.0.0"], "killed", "champion")
    process = registry.client._process
    assert process is not None
    process.kill()
    process.wait()

    with pytest.raises(RegistryUnavailableError, match="exit code -9"):
        registry.client.call("registry_uri")
    assert registry.client.call("registry_uri").startswith("sqlite:///")


def test_an_unreachable_registry_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised within seconds, and names the address without the password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:geheim@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Catalog(pytest.fail, tmp_path) as catalog:
        with pytest.raises(RegistryUnavailableError, match="MLFLOW_TRACKING_URI") as caught:
            catalog.resolve("models:/iris@champion")
        assert "geheim" not in str(caught.value)


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only sources in a registry need MLflow."""
    monkeypatch.setattr(mlflow_client, "find_spec", lambda _: None)
    with (
        Catalog(pytest.fail, tmp_path) as catalog,
        pytest.raises(SettingsError, match=r"pip install 'modeltrace\[mlflow\]'"),
    ):
        catalog.resolve("models:/iris@champion")


@contextmanager
def running_service(registry: Registry, name: str, seconds: str) -> Iterator[tuple[Process, str]]:
    """Run a service of a registered model with this reload interval, and yield its process and URL."""
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


def mlflow_processes(process: Process) -> list[psutil.Process]:
    """Return the MLflow processes of a service."""
    processes = []
    for child in psutil.Process(process.popen.pid).children():
        with suppress(psutil.Error):  # it has just ended
            if "mlflow_process" in " ".join(child.cmdline()):
                processes.append(child)
    return processes


@pytest.mark.extended
def test_a_service_that_reloads_only_at_sighup_keeps_no_mlflow_process(registry: Registry) -> None:
    """The process and its 240 MB of memory end when the bundle is loaded."""
    register(registry.client, registry.bundles["1.1.0"], "asked-for", "champion")
    with running_service(registry, "asked-for", seconds="0") as (process, url):
        wait_until(lambda: not mlflow_processes(process), description="its end")
        register(registry.client, registry.bundles["2.0.0"], "asked-for", "champion")
        process.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: httpx.get(f"{url}/model").json()["version"] == "2.0.0", description="the new version")
        wait_until(lambda: not mlflow_processes(process), description="its end again")


@pytest.mark.extended
def test_a_service_serves_from_the_registry_and_follows_its_alias(registry: Registry) -> None:
    """MLflow runs in its own process, which ends with the service."""
    register(registry.client, registry.bundles["1.1.0"], "served", "champion")
    with running_service(registry, "served", seconds="0.5") as (process, url):
        assert httpx.get(f"{url}/model").json()["version"] == "1.1.0"
        register(registry.client, registry.bundles["2.0.0"], "served", "champion")
        wait_until(lambda: httpx.get(f"{url}/model").json()["version"] == "2.0.0", description="the new version")
        (mlflow,) = mlflow_processes(process)
        assert process.stop() in (0, -15)
        wait_until(lambda: not mlflow.is_running() or mlflow.status() == psutil.STATUS_ZOMBIE, description="its end")
    assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
    assert "mlflow" not in type(metrics.get_meter_provider()).__module__
