"""A new version takes over while the old one answers; what is unfit is refused, and the old one goes on."""

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

ROW = {"sepal_length": 5.0, "sepal_width": 3.4, "petal_length": 1.5, "petal_width": 0.2}


@dataclass
class Watching:
    """A folder of bundles, what is served of it, and what was said of changes."""

    folder: Path
    serving: ModelRouter
    watched: ModelCatalog
    watcher: Watcher
    heard: list[tuple[str, str]] = field(default_factory=list)

    @property
    def version(self) -> str:
        """The version that is served."""
        return self.serving.primary.model.version

    def told_of(self) -> list[str]:
        """The versions whose training data is told of."""
        return [model.version for model, _ in self.watched.served_models()]


def versions_of(watched: ModelCatalog) -> VersionFactory:
    """Versions whose model is asked where it is called."""

    async def on_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    return VersionFactory(
        PredictionIdSigner(ID_KEY.encode()),
        watched,
        inline_threshold=1,
        run_on_thread=on_thread,
        on_batch=lambda _: None,
        max_batch_requests=None,
        max_queue_size=8,
        privacy_rules=lambda _: None,
    )


def watch(folder: Path, *, source: str = "", **options: Any) -> Watching:
    """Serve what a source means, and look at it when told to."""
    watched, heard = ModelCatalog(), []
    versions = versions_of(watched)
    bundles = BundleLoader(read_settings(id_key=ID_KEY), source or str(folder), **options)
    found = bundles.locate()
    serving = ModelRouter(versions, versions.build(bundles.load(found)))
    watcher = Watcher(
        serving, versions, BundleWatch(bundles, found), interval=0, on_event=lambda *said: heard.append(said)
    )
    return Watching(folder, serving, watched, watcher, heard)


@pytest.fixture
def watching(tmp_path: Path) -> Watching:
    """Version 1 in a folder."""
    pack_iris(tmp_path / "models" / "1", "1")
    return watch(tmp_path / "models")


def test_a_higher_version_takes_over(watching: Watching) -> None:
    """Once; what is told of the training data is the new version's, and the old version can still end its requests."""
    before: Version = watching.serving.primary
    watching.watcher.check()
    assert watching.heard == []
    pack_iris(watching.folder / "2", "2", strength=9.0)
    watching.watcher.check()
    watching.watcher.check()

    assert (watching.version, watching.told_of(), watching.heard) == ("2", ["2"], [("served", "")])
    assert watching.watched.bins(before.info) is not None
    assert before.pipeline.time_example() > 0


def test_a_bundle_that_is_replaced_in_its_place_takes_over(tmp_path: Path) -> None:
    """The folder's name says nothing: what is in it does."""
    pack_iris(tmp_path / "one", "1")
    watching = watch(tmp_path / "one")
    pack_iris(tmp_path / "one", "1.1", strength=9.0, force=True)
    watching.watcher.check()

    assert watching.version == "1.1"


def test_another_model_of_the_same_version_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A retrained model needs a version of its own: figures by version would add both up. The old one goes on."""
    pack_iris(tmp_path / "one", "1")
    watching = watch(tmp_path / "one")
    served = watching.serving.primary.model.hash
    pack_iris(tmp_path / "one", "1", strength=9.0, force=True)
    for _ in range(3):
        watching.watcher.check()

    assert watching.serving.primary.model.hash == served
    assert watching.heard == [("refused", "VersionConflictError")]
    assert "another model with the name and version iris 1" in caplog.text
    assert caplog.text.count("Pack it with another --version; still serving iris 1.") == 1
    pack_iris(tmp_path / "one", "1.1", strength=9.0, force=True)
    watching.watcher.check()
    assert watching.version == "1.1"


def test_another_model_of_a_version_that_was_served_is_refused(tmp_path: Path) -> None:
    """Its figures are there, whichever version answers now; the very model that they are of may come back."""
    pack_iris(tmp_path / "one", "1")
    watching = watch(tmp_path / "one")
    first = watching.serving.primary.model.hash
    shutil.copytree(tmp_path / "one", tmp_path / "kept")
    pack_iris(tmp_path / "one", "1.1", strength=9.0, force=True)
    watching.watcher.check()
    pack_iris(tmp_path / "one", "1", strength=5.0, force=True)
    watching.watcher.check()

    assert watching.version == "1.1"
    assert watching.heard == [("served", ""), ("refused", "VersionConflictError")]
    shutil.rmtree(tmp_path / "one")
    shutil.copytree(tmp_path / "kept", tmp_path / "one")
    watching.watcher.check()
    assert (watching.version, watching.serving.primary.model.hash) == ("1", first)


def test_the_same_model_described_anew_takes_over(tmp_path: Path) -> None:
    """Its file is the same, so its answers are."""
    bundle = pack_iris(tmp_path / "one", "1")
    watching = watch(bundle)
    edit_manifest(bundle, confidence_threshold=0.25)
    watching.watcher.check()

    assert watching.heard == [("served", "")]
    assert watching.serving.primary.model.confidence_threshold == 0.25


def test_a_challenger_is_no_other_model_of_the_same_version(tmp_path: Path) -> None:
    """Neither at the start; the same bundle beside itself is no other model."""
    first, twin = pack_iris(tmp_path / "one", "1"), pack_iris(tmp_path / "two", "1", strength=9.0)
    settings = read_settings(id_key=ID_KEY, bundle=str(first), challenger=str(twin))
    model, _ = load_model(settings)
    with pytest.raises(VersionConflictError, match="another --version"):
        load_challenger(settings, model)
    assert load_challenger(settings.model_copy(update={"challenger": str(first)}), model) is not None


def break_artifact(bundle: Path) -> None:
    """A copy that was damaged on its way: the manifest describes another file."""
    flip_byte(bundle / "model.skops")


def break_manifest(bundle: Path) -> None:
    """A manifest that nobody can read."""
    (bundle / "model.json").write_text("{")


def break_library(bundle: Path) -> None:
    """Made by a scikit-learn that is not this one."""
    edit_manifest(bundle, libraries={"scikit-learn": "0.1.0"})


def break_classes(bundle: Path) -> None:
    """A manifest of another model."""
    edit_manifest(bundle, classes=["a", "b"])


@pytest.mark.parametrize("damage", [break_artifact, break_manifest, break_library, break_classes])
def test_a_broken_bundle_is_refused(
    watching: Watching, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The old version goes on; it is said and counted once, however often it is looked at, and mended it is served."""
    bundle = pack_iris(watching.folder.parent / "elsewhere", "1.5", strength=9.0)
    damage(bundle)
    alone = watch(watching.folder / "1")
    shutil.rmtree(watching.folder / "1")
    shutil.copytree(bundle, watching.folder / "1")
    for _ in range(3):
        alone.watcher.check()

    assert alone.version == "1"
    assert [outcome for outcome, _ in alone.heard] == ["refused"]
    assert caplog.text.count("still serving iris 1.") == 1
    shutil.rmtree(watching.folder / "1")
    pack_iris(watching.folder / "1", "1.5", strength=9.0)
    alone.watcher.check()
    assert alone.version == "1.5"


def test_a_damaged_copy_that_is_copied_anew_is_served(tmp_path: Path) -> None:
    """Its `model.json` is the same as before; until a file of it is written anew, it is not tried again."""
    pack_iris(tmp_path / "one", "1")
    whole = pack_iris(tmp_path / "whole", "2", strength=9.0)
    watching = watch(tmp_path / "one")
    for _ in range(2):
        shutil.copytree(whole, tmp_path / "one", dirs_exist_ok=True)
        flip_byte(tmp_path / "one" / "model.skops")
        watching.watcher.check()
        watching.watcher.check()
    assert (watching.version, [outcome for outcome, _ in watching.heard]) == ("1", ["refused"] * 2)
    shutil.copy(whole / "model.skops", tmp_path / "one" / "model.skops")
    watching.watcher.check()

    assert watching.version == "2"


def test_a_model_that_fails_on_its_own_example_is_refused(watching: Watching) -> None:
    """It loads, and would have failed for everybody."""
    bundle = pack_iris(watching.folder / "2", "2", strength=9.0)
    features = json.loads((bundle / "model.json").read_text())["features"]
    features[0]["valid_range"] = [100.0, 200.0]
    edit_manifest(bundle, features=features)
    watching.watcher.check()

    assert watching.version == "1"
    assert watching.heard == [("refused", "BundleError")]


def test_a_source_that_is_gone_changes_nothing(watching: Watching) -> None:
    """What is loaded is loaded."""
    shutil.rmtree(watching.folder)
    watching.watcher.check()

    assert watching.version == "1"
    assert watching.heard == [("refused", "BundleNotFoundError")]


def test_a_pinned_bundle_is_pinned(tmp_path: Path) -> None:
    """`expect_sha256` allows one bundle; the service does not even look for others."""
    pack_iris(tmp_path / "1", "1")
    sha256 = BundleLoader(read_settings(), str(tmp_path)).locate().sha256

    assert watch(tmp_path, expect_sha256=sha256).watcher._loader.pinned


def test_what_changed_before_the_watching_began_is_served(watching: Watching) -> None:
    """A SIGHUP that comes while the first version is loaded is for this look."""
    pack_iris(watching.folder / "2", "2")

    watching.watcher.start()

    wait_until(lambda: watching.version == "2", description="version 2")
    watching.watcher.stop()


@contextmanager
def served(source: Path, **env: str) -> Iterator[tuple[Process, str]]:
    """A real service, and where it is."""
    own = {"OTEL_SDK_DISABLED": "true", "MODELTRACE_RELOAD_INTERVAL": "0.1", **env}
    with running_service(source, **own) as (process, url):
        # One that loads later loads what there is then, and changes nothing.
        process.wait_for_workers(int(own.get("MODELTRACE_WORKERS", "1")))
        yield process, url


@dataclass
class Asked:
    """What clients were answered."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def asking(url: str) -> Iterator[Asked]:
    """Three clients that ask while the block runs, on a connection of its own each time: every worker is asked."""
    asked, ending = Asked(), threading.Event()

    def ask() -> None:
        while not ending.is_set() and len(asked.failures) < 10:
            try:
                answer = httpx.post(f"{url}/predict", json={"features": ROW}, timeout=10)
                asked.answers.append(answer.json()) if answer.is_success else asked.failures.append(answer.text)
            except httpx.HTTPError as error:
                asked.failures.append(repr(error))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def taken_over(process: Process, version: str, workers: int) -> bool:
    """Whether all workers serve that version."""
    return process.log.count(f"now serving iris {version} ") == workers


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 0 to 20, not served yet."""
    folder = tmp_path_factory.mktemp("ready")
    for number in range(21):
        pack_iris(folder / str(number), str(number), strength=1.0 + number)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.extended)])
def test_twenty_changes_under_load_drop_no_request(tmp_path: Path, ready: Path, workers: str) -> None:
    """Every request is answered, by the version that it names, which has also signed its ID; all workers follow."""
    versions = [str(number) for number in range(1, 21)]
    shutil.copytree(ready / "0", tmp_path / "models" / "0")
    env = {"MODELTRACE_WORKERS": workers, "MODELTRACE_ID_KEY": ID_KEY}
    with served(tmp_path / "models", **env) as (process, url), asking(url) as asked:
        for version in versions:
            shutil.copytree(ready / version, tmp_path / "models" / f".{version}")
            (tmp_path / "models" / f".{version}").rename(tmp_path / "models" / version)
            wait_until(partial(taken_over, process, version, int(workers)), description=version)
        start = len(asked.answers)
        wait_until(lambda: len(asked.answers) > start + 20, description="answers of the last version")

    ids = PredictionIdSigner(ID_KEY.encode())
    assert asked.failures == []
    assert {answer["model"]["version"] for answer in asked.answers[start + 5 :]} == {"20"}
    assert len({answer["model"]["version"] for answer in asked.answers}) > 10
    for answer in asked.answers:
        assert ids.verify(answer["prediction_id"]).model_version == answer["model"]["version"]


@pytest.mark.slow
def test_sighup_has_the_service_look_at_once(tmp_path: Path) -> None:
    """With two workers none of them is restarted for it; `GET /model` and the documentation are of the new version."""
    pack_iris(tmp_path / "1", "1")
    with served(tmp_path, MODELTRACE_WORKERS="2", MODELTRACE_RELOAD_INTERVAL="0") as (process, url):
        pack_iris(tmp_path / "2", "2", strength=9.0)
        process.popen.send_signal(signal.SIGHUP)
        wait_until(partial(taken_over, process, "2", 2), description="both workers")

        assert httpx.get(f"{url}/model").json()["version"] == "2"
        assert httpx.get(f"{url}/openapi.json").json()["info"]["title"] == "iris 2"
        assert "Started server process" not in process.log.partition("now serving")[2]
