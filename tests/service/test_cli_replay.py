"""`modeltrace replay` repeats the predictions of a real service, from each kind of store."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from modeltrace.cli.main import app
from modeltrace.cli.replay import EXIT_CODE_DIFFERENT, ReplayError
from modeltrace.errors import ModeltraceError
from modeltrace.store.lookup import NotFoundError
from modeltrace.store.store import open_store
from tests.helpers.bundles import iris_rows, pack_iris
from tests.helpers.postgres import Postgres
from tests.helpers.processes import free_port, run, running, wait_until
from tests.helpers.services import ID_KEY

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Recorded:
    """Responses of a service with the lower of two versions, to a row, a batch and a row, and their store."""

    store: str
    models: Path
    first: dict[str, Any]
    batch: dict[str, Any]
    second: dict[str, Any]

    def environment(self) -> dict[str, str]:
        """Return the settings of replay, independent of the user's data folder."""
        data = str(self.models.parent / "data")
        return {"MODELTRACE_STORE": self.store, "XDG_DATA_HOME": data, "COLUMNS": "160"}

    def replay(self, *arguments: str, bundles: str | None = None) -> Result:
        """Run the command in this process and raise its error."""
        env = {**self.environment(), "MODELTRACE_BUNDLE": bundles if bundles is not None else str(self.models)}
        result: Result = CliRunner().invoke(app, ["replay", *arguments], env=env)
        if isinstance(result.exception, ModeltraceError):
            raise result.exception
        return result


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Predictions of a row, a batch and another row, by a service that has ended."""
    folder = tmp_path_factory.mktemp("replay")
    store = str(folder / "predictions.db")
    if request.param == "postgresql":
        cluster: Postgres = request.getfixturevalue("postgres")
        store = cluster.url(cluster.create_database())
    pack_iris(folder / "models" / "one", "1.0.0")
    pack_iris(folder / "models" / "two", "2.0.0", strength=0.001)
    port = free_port()
    env = {
        "MODELTRACE_STORE": store,
        "MODELTRACE_BUNDLE": f"{folder / 'models'}@1.0.0",
        "MODELTRACE_ID_KEY": ID_KEY,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",  # nothing listens: only the store is used
    }
    with running(["modeltrace", "serve", "--port", str(port)], env=env) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_for(f"{url}/readyz")
        first, second = (httpx.post(f"{url}/predict", json={"features": row}).json() for row in iris_rows(2))
        batch = httpx.post(f"{url}/predict/batch", json={"rows": iris_rows(30)}).json()
        with open_store(store, create=False) as opened:
            wait_until(lambda: opened.counts().predictions == 32, description="the rows")
    return Recorded(store, folder / "models", first, batch, second)


def test_replayed_predictions_are_equal(recorded: Recorded) -> None:
    """A row and a batch are replayed by trace ID or prediction ID, with the version that made them."""
    for identifier in (recorded.first["trace_id"], recorded.first["trace_id"].upper(), recorded.first["prediction_id"]):
        result = recorded.replay(identifier)
        assert result.exit_code == 0
        assert "1 prediction of iris 1.0.0" in result.output
        assert "the same model, by its SHA-256" in result.output
        assert "the installed versions are those of the bundle" in result.output
        assert "privacy rules" not in result.output
    result = recorded.replay(recorded.batch["trace_id"])
    assert result.exit_code == 0
    assert "and 10 more" in result.output
    assert "30 equal" in result.output


def test_json_output_contains_every_row(recorded: Recorded) -> None:
    """The recorded predictions are those that the client received."""
    output = json.loads(recorded.replay(recorded.batch["trace_id"], "--json").output)
    (model,) = output["models"]

    assert (output["verdict"], output["errors"], model["counts"]) == ("equal", [], {"equal": 30})
    received = [{"label": entry["label"], "confidence": entry["confidence"]} for entry in recorded.batch["predictions"]]
    assert [row["recorded"] for row in model["rows"]] == received
    assert [row["prediction_id"] for row in model["rows"]] == [
        entry["prediction_id"] for entry in recorded.batch["predictions"]
    ]
    assert model["libraries"]["scikit-learn"]["bundle"] == model["libraries"]["scikit-learn"]["installed"]


def test_predictions_of_another_version_differ(recorded: Recorded) -> None:
    """The exit code is 2 if predictions differ."""
    result = recorded.replay(recorded.batch["trace_id"], "--against", "2.0.0")

    assert result.exit_code == EXIT_CODE_DIFFERENT
    assert "iris 2.0.0" in result.output
    assert "different" in result.output
    assert recorded.replay(recorded.batch["trace_id"], "--against", f"{recorded.models}@1.0.0").exit_code == 0


def test_model_that_is_not_found_is_an_error(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the searched folders and the option. The current folder is searched, too."""
    with pytest.raises(ReplayError, match=r"1 of iris 1\.0\.0: no bundle whose model has the SHA-256 .* in .*two"):
        recorded.replay(recorded.first["trace_id"], bundles=str(recorded.models / "two"))
    result = recorded.replay(
        recorded.first["trace_id"], "--bundle", str(recorded.models / "one"), bundles=str(recorded.models / "two")
    )
    assert result.exit_code == 0
    with pytest.raises(ReplayError, match=r"in '.*'.*--bundle"):  # so that a full stop is not part of a folder
        recorded.replay(recorded.first["trace_id"], bundles="")
    monkeypatch.chdir(recorded.models)
    assert recorded.replay(recorded.first["trace_id"], bundles="").exit_code == 0
    with pytest.raises(ReplayError, match=r"no bundle of iris 7 in"):
        recorded.replay(recorded.first["trace_id"], "--against", "7")


def test_unknown_identifier_is_an_error(recorded: Recorded) -> None:
    """The message names the setting of the store."""
    for identifier in ("0" * 32, "nothing"):
        with pytest.raises(NotFoundError, match="MODELTRACE_STORE"):
            recorded.replay(identifier)
    with pytest.raises(NotFoundError, match="A trace ID has 32 hexadecimal digits, and this one 8"):
        recorded.replay(recorded.first["trace_id"][:8])


def test_model_that_was_packed_again_is_another_model(recorded: Recorded, tmp_path: Path) -> None:
    """It has the same name and version but another hash; with --against, its predictions differ."""
    copy = Path(shutil.copytree(recorded.models, tmp_path / "models"))
    pack_iris(copy / "one", "1.0.0", strength=0.5, force=True)

    with pytest.raises(ReplayError, match="SHA-256"):
        recorded.replay(recorded.first["trace_id"], bundles=str(copy))
    result = recorded.replay(recorded.first["trace_id"], "--against", str(copy / "one"), bundles=str(copy))
    assert result.exit_code == EXIT_CODE_DIFFERENT
    assert "the bundle of the recorded model was not found" in result.output
    assert "privacy rules may have changed the inputs" in result.output


def test_erased_inputs_cannot_be_replayed(recorded: Recorded) -> None:
    """The message names the reason."""
    erased = CliRunner().invoke(app, ["audit", "erase", recorded.second["prediction_id"]], env=recorded.environment())
    assert erased.exit_code == 0

    with pytest.raises(ReplayError, match=r"1 of iris 1\.0\.0 cannot be replayed: its inputs were erased"):
        recorded.replay(recorded.second["trace_id"])


def test_exit_codes(recorded: Recorded) -> None:
    """A real process exits with 2 if predictions differ, and with 1 and one line on stderr after an error."""
    replay = ["modeltrace", "replay", recorded.first["trace_id"]]

    differs = run([*replay, "--against", "2.0.0", "--bundle", str(recorded.models)], env=recorded.environment())
    assert (differs.returncode, differs.stderr) == (2, "")
    error = run([*replay, "--bundle", str(recorded.models / "two")], env=recorded.environment())
    assert error.returncode == 1
    assert error.stderr.startswith("modeltrace: 1 of iris 1.0.0: no bundle")
    assert error.stderr.count("\n") == 1
