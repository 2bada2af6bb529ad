"""New model versions replace the current one while the service runs; invalid bundles are rejected."""

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from modeltrace.errors import VersionConflictError
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.serving.bundle_loader import BundleLoader, BundleWatch, load_challenger, load_model
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.version import Version, VersionFactory
from modeltrace.serving.watcher import Watcher
from modeltrace.settings import read_settings
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from tests.helpers.bundles import edit_manifest, flip_byte, pack_iris
from tests.helpers.processes import Process, wait_until
from tests.helpers.services import ID_KEY, running_service

pytestmark = pytest.mark.slow

ROW = {"sepal_length": 5.0, "sepal_width": 3.4, "petal_length": 1.5, "petal_width": 0.2}


@dataclass
class Watching:
    """A folder of bundles, the objects that serve them, and the events of the watcher."""

    folder: Path
    router: ModelRouter
    catalog: ModelCatalog
    watcher: Watcher
    events: list[tuple[str, str]] = field(default_factory=list)

    @property
    def version(self) -> str:
        """Return the version that is served."""
        return self.router.primary.model.version

    def observed_versions(self) -> list[str]:
        """Return the versions whose reference metrics are exported."""
        return [model.version for model, _ in self.catalog.served_models()]


def version_factory(catalog: ModelCatalog) -> VersionFactory:
    """Return a factory whose versions run the model on the calling thread."""

    async def on_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    return VersionFactory(
        ids=PredictionIdSigner(ID_KEY.encode()),
        catalog=catalog,
        inline_threshold=1,
        run_on_thread=on_thread,
        on_batch=lambda _: None,
        max_batch_requests=None,
        max_queue_size=8,
        privacy_rules=lambda _: None,
    )


def watch(folder: Path, *, source: str = "", **options: Any) -> Watching:
    """Serve the bundle of a source; the watcher checks on request."""
    catalog, events = ModelCatalog(), []
    versions = version_factory(catalog)
    loader = BundleLoader(read_settings(id_key=ID_KEY), source or str(folder), **options)
    bundle = loader.locate()
    router = ModelRouter(versions, versions.build(loader.load(bundle)))
    watcher = Watcher(
        router, versions, BundleWatch(loader, bundle), interval=0, on_event=lambda *event: events.append(event)
    )
    return Watching(folder, router, catalog, watcher, events)


@pytest.fixture
def watching(tmp_path: Path) -> Watching:
    """Serve version 1 of a folder."""
    pack_iris(tmp_path / "models" / "1", "1")
    return watch(tmp_path / "models")


def test_a_higher_version_replaces_the_current_one(watching: Watching) -> None:
    """It is reported once, its reference metrics are exported, and the old version can still finish its requests."""
    before: Version = watching.router.primary
    watching.watcher.check()
    assert watching.events == []
    pack_iris(watching.folder / "2", "2", strength=9.0)
    watching.watcher.check()
    watching.watcher.check()

    assert (watching.version, watching.observed_versions(), watching.events) == ("2", ["2"], [("served", "")])
    assert watching.catalog.reference(before.info) is not None
    assert before.pipeline.time_example() > 0


@pytest.mark.slow
def test_a_bundle_that_is_replaced_in_place_is_served(tmp_path: Path) -> None:
    """The content of the folder counts, not its name."""
    pack_iris(tmp_path / "one", "1")
    watching = watch(tmp_path / "one")
    pack_iris(tmp_path / "one", "1.1", strength=9.0, force=True)
    watching.watcher.check()

    assert watching.version == "1.1"


def test_another_model_of_the_same_version_is_rejected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A retrained model needs a new version, since metrics by version would add up both models."""
    pack_iris(tmp_path / "one", "1")
    watching = watch(tmp_path / "one")
    served = watching.router.primary.model.hash
    pack_iris(tmp_path / "one", "1", strength=9.0, force=True)
    for _ in range(3):
        watching.watcher.check()

    assert watching.router.primary.model.hash == served
    assert watching.events == [("refused", "VersionConflictError")]
    assert "another model with the name and version iris 1" in caplog.text
    assert caplog.text.count("Pack it with another --version; still serving iris 1.") == 1
    pack_iris(tmp_path / "one", "1.1", strength=9.0, force=True)
    watching.watcher.check()
    assert watching.version == "1.1"


def test_another_model_of_a_previously_served_version_is_rejected(tmp_path: Path) -> None:
    """Metrics of the previous version still exist; the same model may be served again."""
    pack_iris(tmp_path / "one", "1")
    watching = watch(tmp_path / "one")
    first = watching.router.primary.model.hash
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    pack_iris(tmp_path / "one", "1.1", strength=9.0, force=True)
    watching.watcher.check()
    pack_iris(tmp_path / "one", "1", strength=5.0, force=True)
    watching.watcher.check()

    assert watching.version == "1.1"
    assert watching.events == [("served", ""), ("refused", "VersionConflictError")]
    shutil.rmtree(tmp_path / "one")
    shutil.copytree(tmp_path / "copy", tmp_path / "one")
    watching.watcher.check()
    assert (watching.version, watching.router.primary.model.hash) == ("1", first)


def test_the_same_model_with_another_manifest_is_served(tmp_path: Path) -> None:
    """The artifact is the same, so its predictions are too, and there is no version conflict."""
    bundle = pack_iris(tmp_path / "one", "1")
    watching = watch(bundle)
    edit_manifest(bundle, confidence_threshold=0.25)
    watching.watcher.check()

    assert watching.events == [("served", "")]
    assert watching.router.primary.model.confidence_threshold == 0.25


def test_a_challenger_of_the_same_version_must_be_the_same_model(tmp_path: Path) -> None:
    """Another model with the same version is rejected at startup; the same bundle is accepted."""
    first, twin = pack_iris(tmp_path / "one", "1"), pack_iris(tmp_path / "two", "1", strength=9.0)
    settings = read_settings(id_key=ID_KEY, bundle=str(first), challenger=str(twin))
    model, _ = load_model(settings)
    with pytest.raises(VersionConflictError, match="another --version"):
        load_challenger(settings, model)
    assert load_challenger(settings.model_copy(update={"challenger": str(first)}), model) is not None


def break_artifact(bundle: Path) -> None:
    """Damage the artifact: the manifest describes another file."""
    flip_byte(bundle / "model.skops")


def break_manifest(bundle: Path) -> None:
    """Make the manifest unreadable."""
    (bundle / "model.json").write_text("{")


def break_library(bundle: Path) -> None:
    """Declare another version of scikit-learn."""
    edit_manifest(bundle, libraries={"scikit-learn": "0.1.0"})


def break_classes(bundle: Path) -> None:
    """Use the manifest of another model."""
    edit_manifest(bundle, classes=["a", "b"])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [break_artifact, break_manifest, break_library, break_classes])
def test_a_broken_bundle_is_rejected(
    watching: Watching, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The old version is still served. The error is logged and counted once, and the repaired bundle is served."""
    bundle = pack_iris(watching.folder.parent / "elsewhere", "1.5", strength=9.0)
    damage(bundle)
    single = watch(watching.folder / "1")
    shutil.rmtree(watching.folder / "1")
    shutil.copytree(bundle, watching.folder / "1")
    for _ in range(3):
        single.watcher.check()

    assert single.version == "1"
    assert [outcome for outcome, _ in single.events] == ["refused"]
    assert caplog.text.count("still serving iris 1.") == 1
    shutil.rmtree(watching.folder / "1")
    pack_iris(watching.folder / "1", "1.5", strength=9.0)
    single.watcher.check()
    assert single.version == "1.5"


@pytest.mark.slow
def test_a_damaged_copy_is_served_after_it_is_repaired(tmp_path: Path) -> None:
    """Its `model.json` is unchanged; the bundle is tried again as soon as one of its files is rewritten."""
    pack_iris(tmp_path / "one", "1")
    intact = pack_iris(tmp_path / "intact", "2", strength=9.0)
    watching = watch(tmp_path / "one")
    for _ in range(2):
        shutil.copytree(intact, tmp_path / "one", dirs_exist_ok=True)
        flip_byte(tmp_path / "one" / "model.skops")
        watching.watcher.check()
        watching.watcher.check()
    assert (watching.version, [outcome for outcome, _ in watching.events]) == ("1", ["refused"] * 2)
    shutil.copy(intact / "model.skops", tmp_path / "one" / "model.skops")
    watching.watcher.check()

    assert watching.version == "2"


def test_a_model_that_fails_on_its_example_is_rejected(watching: Watching) -> None:
    """It can be loaded, but would fail for every client."""
    bundle = pack_iris(watching.folder / "2", "2", strength=9.0)
    features = json.loads((bundle / "model.json").read_text())["features"]
    features[0]["valid_range"] = [100.0, 200.0]
    edit_manifest(bundle, features=features)
    watching.watcher.check()

    assert watching.version == "1"
    assert watching.events == [("refused", "BundleError")]


def test_a_missing_source_changes_nothing(watching: Watching) -> None:
    """The loaded version is still served."""
    shutil.rmtree(watching.folder)
    watching.watcher.check()

    assert watching.version == "1"
    assert watching.events == [("refused", "BundleNotFoundError")]


def test_expect_sha256_pins_the_bundle(tmp_path: Path) -> None:
    """The service does not watch a pinned bundle."""
    pack_iris(tmp_path / "1", "1")
    sha256 = BundleLoader(read_settings(), str(tmp_path)).locate().sha256

    assert watch(tmp_path, expect_sha256=sha256).watcher._loader.pinned


def test_a_change_before_the_watcher_starts_is_served(watching: Watching) -> None:
    """The first check covers a SIGHUP that arrives while the first version is loaded."""
    pack_iris(watching.folder / "2", "2")

    watching.watcher.start()

    wait_until(lambda: watching.version == "2", description="version 2")
    watching.watcher.stop()


@contextmanager
def served(source: Path, **env: str) -> Iterator[tuple[Process, str]]:
    """Run a real service and yield its process and URL."""
    own = {"OTEL_SDK_DISABLED": "true", "MODELTRACE_RELOAD_INTERVAL": "0.1", **env}
    with running_service(source, **own) as (process, url):
        # A worker that starts later would load the new version at once, without a change.
        process.wait_for_workers(int(own.get("MODELTRACE_WORKERS", "1")))
        yield process, url


@dataclass
class ClientResults:
    """Responses and failures of clients."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def running_clients(url: str) -> Iterator[ClientResults]:
    """Run three clients during the block. Each request has a new connection, so that all workers receive requests."""
    results, stopping = ClientResults(), threading.Event()

    def send_requests() -> None:
        while not stopping.is_set() and len(results.failures) < 10:
            try:
                answer = httpx.post(f"{url}/predict", json={"features": ROW}, timeout=10)
                results.answers.append(answer.json()) if answer.is_success else results.failures.append(answer.text)
            except httpx.HTTPError as error:
                results.failures.append(repr(error))

    threads = [threading.Thread(target=send_requests, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def is_served(process: Process, version: str, workers: int) -> bool:
    """Return whether all workers serve a version."""
    return process.log.count(f"now serving iris {version} ") == workers


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack versions 0 to 20 outside of the served folder."""
    folder = tmp_path_factory.mktemp("ready")
    for number in range(21):
        pack_iris(folder / str(number), str(number), strength=1.0 + number)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.extended)])
def test_no_request_fails_during_twenty_version_changes(tmp_path: Path, ready: Path, workers: str) -> None:
    """Each response is from the version that it names, which also signed its ID; all workers change versions."""
    versions = [str(number) for number in range(1, 21)]
    shutil.copytree(ready / "0", tmp_path / "models" / "0")
    env = {"MODELTRACE_WORKERS": workers, "MODELTRACE_ID_KEY": ID_KEY}
    with served(tmp_path / "models", **env) as (process, url), running_clients(url) as results:
        for version in versions:
            shutil.copytree(ready / version, tmp_path / "models" / f".{version}")
            (tmp_path / "models" / f".{version}").rename(tmp_path / "models" / version)
            wait_until(partial(is_served, process, version, int(workers)), description=version)
        start = len(results.answers)
        wait_until(lambda: len(results.answers) > start + 20, description="answers of the last version")

    ids = PredictionIdSigner(ID_KEY.encode())
    assert results.failures == []
    assert {answer["model"]["version"] for answer in results.answers[start + 5 :]} == {"20"}
    assert len({answer["model"]["version"] for answer in results.answers}) > 10
    for answer in results.answers:
        assert ids.verify(answer["prediction_id"]).model_version == answer["model"]["version"]


@pytest.mark.slow
def test_sighup_triggers_a_check(tmp_path: Path) -> None:
    """Neither of two workers restarts; `GET /model` and the documentation are those of the new version."""
    pack_iris(tmp_path / "1", "1")
    with served(tmp_path, MODELTRACE_WORKERS="2", MODELTRACE_RELOAD_INTERVAL="0") as (process, url):
        pack_iris(tmp_path / "2", "2", strength=9.0)
        process.popen.send_signal(signal.SIGHUP)
        wait_until(partial(is_served, process, "2", 2), description="both workers")

        assert httpx.get(f"{url}/model").json()["version"] == "2"
        assert httpx.get(f"{url}/openapi.json").json()["info"]["title"] == "iris 2"
        assert "Started server process" not in process.log.partition("now serving")[2]
