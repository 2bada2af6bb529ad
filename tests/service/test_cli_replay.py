"""`modeltrace replay` of what a real service has answered, from stores of each kind."""

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
from modeltrace.errors import ModeltraceError, SettingsError
from modeltrace.store.lookup import NotFoundError
from modeltrace.store.store import open_store
from tests.helpers.bundles import iris_rows, pack_iris
from tests.helpers.postgres import Postgres
from tests.helpers.processes import free_port, run, running, wait_until
from tests.helpers.services import ID_KEY

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Answered:
    """What a service has answered from the lower of two versions, and where it is kept."""

    store: str
    models: Path
    one: dict[str, Any]
    batch: dict[str, Any]
    other: dict[str, Any]

    def environment(self) -> dict[str, str]:
        """The settings that replay reads; nothing of the user's own."""
        data = str(self.models.parent / "data")
        return {"MODELTRACE_STORE": self.store, "XDG_DATA_HOME": data, "COLUMNS": "160"}

    def replay(self, *arguments: str, bundles: str | None = None) -> Result:
        """Run the command in this process; its errors are raised."""
        env = {**self.environment(), "MODELTRACE_BUNDLE": bundles if bundles is not None else str(self.models)}
        result: Result = CliRunner().invoke(app, ["replay", *arguments], env=env)
        if isinstance(result.exception, ModeltraceError):
            raise result.exception
        return result


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def answered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answered:
    """A service answers a row, a batch and another row, and ends."""
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
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",  # nobody: the store alone is asked
    }
    with running(["modeltrace", "serve", "--port", str(port)], env=env) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_for(f"{url}/readyz")
        one, other = (httpx.post(f"{url}/predict", json={"features": row}).json() for row in iris_rows(2))
        batch = httpx.post(f"{url}/predict/batch", json={"rows": iris_rows(30)}).json()
        with open_store(store, create=False) as opened:
            wait_until(lambda: opened.counts().predictions == 32, description="the rows")
    return Answered(store, folder / "models", one, batch, other)


def test_what_was_answered_is_answered_again(answered: Answered) -> None:
    """By trace and by prediction ID, one row and a batch, although another version is the highest now."""
    for what in (answered.one["trace_id"], answered.one["trace_id"].upper(), answered.one["prediction_id"]):
        result = answered.replay(what)
        assert result.exit_code == 0
        assert "1 prediction of iris 1.0.0" in result.output
        assert "the same model, by its SHA-256" in result.output
        assert "the installed versions are those of the bundle" in result.output
        assert "privacy rules" not in result.output
    result = answered.replay(answered.batch["trace_id"])
    assert result.exit_code == 0
    assert "and 10 more" in result.output
    assert "30 equal" in result.output


def test_as_json_every_row_is_told(answered: Answered) -> None:
    """With the answers as they were given to the client."""
    said = json.loads(answered.replay(answered.batch["trace_id"], "--json").output)
    (model,) = said["models"]

    assert (said["verdict"], said["errors"], model["counts"]) == ("equal", [], {"equal": 30})
    given = [{"label": one["label"], "confidence": one["confidence"]} for one in answered.batch["predictions"]]
    assert [row["recorded"] for row in model["rows"]] == given
    assert [row["prediction_id"] for row in model["rows"]] == [
        one["prediction_id"] for one in answered.batch["predictions"]
    ]
    assert model["libraries"]["scikit-learn"]["bundle"] == model["libraries"]["scikit-learn"]["installed"]


def test_against_another_version_it_differs(answered: Answered) -> None:
    """The rows that do come first, and the exit code says so."""
    result = answered.replay(answered.batch["trace_id"], "--against", "2.0.0")

    assert result.exit_code == EXIT_CODE_DIFFERENT
    assert "iris 2.0.0" in result.output
    assert "different" in result.output
    assert answered.replay(answered.batch["trace_id"], "--against", f"{answered.models}@1.0.0").exit_code == 0


def test_a_model_that_is_not_to_be_found_is_an_error(answered: Answered) -> None:
    """The message says where it was looked for; with nowhere to look, what to set."""
    with pytest.raises(ReplayError, match=r"1 of iris 1\.0\.0: no bundle whose model has the SHA-256 .* in .*two"):
        answered.replay(answered.one["trace_id"], bundles=str(answered.models / "two"))
    found = answered.replay(
        answered.one["trace_id"], "--bundles", str(answered.models / "one"), bundles=str(answered.models / "two")
    )
    assert found.exit_code == 0
    with pytest.raises(SettingsError, match="--bundles"):
        answered.replay(answered.one["trace_id"], bundles="")
    with pytest.raises(ReplayError, match=r"no bundle of iris 7 in"):
        answered.replay(answered.one["trace_id"], "--against", "7")


def test_what_is_not_recorded_is_an_error(answered: Answered) -> None:
    """The store and its setting are named."""
    for what in ("0" * 32, "nothing"):
        with pytest.raises(NotFoundError, match="MODELTRACE_STORE"):
            answered.replay(what)


def test_a_model_that_was_packed_anew_is_another_one(answered: Answered, tmp_path: Path) -> None:
    """Its hash is not the recorded one, though it is called the same; put against it, the answers differ."""
    copy = Path(shutil.copytree(answered.models, tmp_path / "models"))
    pack_iris(copy / "one", "1.0.0", strength=0.5, force=True)

    with pytest.raises(ReplayError, match="SHA-256"):
        answered.replay(answered.one["trace_id"], bundles=str(copy))
    result = answered.replay(answered.one["trace_id"], "--against", str(copy / "one"), bundles=str(copy))
    assert result.exit_code == EXIT_CODE_DIFFERENT
    assert "the bundle of the recorded model was not found" in result.output
    assert "privacy rules may have changed the inputs" in result.output


def test_erased_inputs_are_said(answered: Answered) -> None:
    """It cannot be told whether the answer would be the same."""
    erased = CliRunner().invoke(app, ["audit", "erase", answered.other["prediction_id"]], env=answered.environment())
    assert erased.exit_code == 0

    with pytest.raises(ReplayError, match=r"1 of iris 1\.0\.0 cannot be replayed: its inputs were erased"):
        answered.replay(answered.other["trace_id"])


def test_exit_codes_are_those_of_the_page(answered: Answered) -> None:
    """Of a real process: 2 where it differs, 1 and one line where there is an error."""
    replay = ["modeltrace", "replay", answered.one["trace_id"]]

    differs = run([*replay, "--against", "2.0.0", "--bundles", str(answered.models)], env=answered.environment())
    assert (differs.returncode, differs.stderr) == (2, "")
    error = run([*replay, "--bundles", str(answered.models / "two")], env=answered.environment())
    assert error.returncode == 1
    assert error.stderr.startswith("modeltrace: 1 of iris 1.0.0: no bundle")
    assert error.stderr.count("\n") == 1
