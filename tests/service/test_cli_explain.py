"""`modeltrace explain` shows the contributions of the features of a stored prediction."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.svm import LinearSVC
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import app
from modeltrace.errors import BundleNotFoundError
from modeltrace.inference.predict_rows import score
from modeltrace.replay.explain import ExplainError
from modeltrace.store.rows import to_json
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.bundles import LABELS, X, iris_frame, iris_rows, pack_iris
from tests.helpers.factories import TIME, stored_row

pytestmark = pytest.mark.slow
LONG_ROW = dict.fromkeys(iris_frame().columns, 5.123456789)

Explain = Callable[..., Any]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of classifiers with and without test rows or probabilities, and of a regressor."""
    folder = tmp_path_factory.mktemp("bundles")
    frame, options = iris_frame(), {"cross_validation_seconds": 0}
    pack_iris(folder / "plain", "1.0.0", **options)
    pack_iris(folder / "held-out", "1.0.0", name="other", traffic=frame[::3], **options)
    pack_iris(folder / "private", "1.0.0", name="private", privacy={frame.columns[0]: "hash"}, **options)
    sizes = LinearRegression().fit(frame, X[:, 0] * 2 + X[:, 1])
    pack(sizes, frame, name="sizes", out=folder / "sizes", **options)
    pack(LinearSVC().fit(X, LABELS), frame, name="svc", out=folder / "svc", **options)
    return folder


@pytest.fixture
def explain(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    """Store 30 predictions of a bundle in one trace, and run the command."""

    def run(name: str, *arguments: str, change: float = 0.0, erase: bool = False) -> Any:
        model = load_bundle(bundles / name)
        store_file = tmp_path / f"{name}.db"
        monkeypatch.setenv("MODELTRACE_STORE", str(store_file))
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        info = ModelInfo(model.name, model.version, model.hash, model.schema.names)
        with open_store(str(store_file)) as store:
            inputs = iris_rows(30)
            store.add_predictions(
                [
                    stored_row(
                        f"p{n}", time=TIME + n, trace_id="ab" * 16, model=info, inputs=to_json(inputs[n]),
                        label=None if output.value is not None else to_json(output.label), value=output.value,
                        confidence=None if output.confidence is None else output.confidence + change,
                    )._replace(row=n)
                    for n, output in enumerate(score(model, inputs))
                ]
            )  # fmt: skip
            if erase:
                store.erase(["p3"], TIME)
        result = CliRunner().invoke(
            app, ["explain", *arguments, "--bundle", str(bundles / name)], env={"COLUMNS": "160"}
        )
        if isinstance(result.exception, Exception):
            raise result.exception
        return result

    return run


@pytest.mark.parametrize(
    ("name", "background", "rows"),
    [("plain", "earlier stored predictions", 20), ("held-out", "test rows", 17)],
)
def test_contributions_add_up_to_the_stored_probability(
    explain: Explain, name: str, background: str, rows: int
) -> None:
    """The background are the test rows of the bundle or, without them, earlier predictions of the model."""
    result = explain(name, "ab" * 16, "--row", "20", "--json")

    output = json.loads(result.stdout)
    assert (output["background"], output["background_rows"]) == (background, rows)
    total = output["base"] + sum(entry["contribution"] for entry in output["contributions"])
    assert total == pytest.approx(output["output"], abs=1e-12)
    assert {entry["feature"]: entry["value"] for entry in output["contributions"]} == iris_rows(21)[20]
    sizes = [abs(entry["contribution"]) for entry in output["contributions"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0


def test_contributions_to_a_value(explain: Explain, tmp_path: Path) -> None:
    """The contribution to a linear model is the coefficient times the distance from the mean of the background."""
    file = tmp_path / "background.csv"
    frame = pd.DataFrame(X[::20], columns=iris_frame().columns)
    frame.to_csv(file, index=False)

    result = explain("sizes", "p3", "--background", str(file), "--json")

    output = json.loads(result.stdout)
    names, means = frame.columns, frame.mean()
    expected = {names[0]: 2 * (X[3, 0] - means[names[0]]), names[1]: X[3, 1] - means[names[1]]}
    contributions = {entry["feature"]: entry["contribution"] for entry in output["contributions"]}
    assert contributions == pytest.approx({**dict.fromkeys(names, 0.0), **expected}, abs=1e-9)
    assert output["explained"] == "value"


def test_text(explain: Explain) -> None:
    """The table names the explained class, and a message names the background."""
    result = explain("plain", "p5")

    assert "probability of setosa" in result.stdout
    assert "standard error" in result.stdout
    assert iris_frame().columns[0] in result.stdout
    assert "earlier stored predictions are the background" in result.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        (
            "plain",
            ["ab" * 16],
            {},
            r"30 predictions match: name a prediction ID, or one of the rows 0, 1, 2.*\(--row\)",
        ),
        ("plain", ["ab" * 16, "--row", "30"], {}, "0 predictions match"),
        ("plain", ["p0"], {}, "no row of earlier stored predictions is valid for the model"),
        ("plain", ["p3"], {"erase": True}, "p3 cannot be explained: its inputs were erased"),
        (
            "plain",
            ["p3"],
            {"change": -0.01},
            "the model now returns .* is stored. Compare both with `modeltrace replay p3`",
        ),
        ("private", ["p3"], {}, r"privacy rules changed the stored inputs: .* \(hash\)"),
        ("svc", ["p3"], {}, "svc 1.0.0 is a classifier without probabilities"),
    ],
)
def test_what_cannot_be_explained(
    explain: Explain, name: str, arguments: list[str], options: dict[str, Any], message: str
) -> None:
    """The message says why, and what to do."""
    with pytest.raises(ExplainError, match=message):
        explain(name, *arguments, **options)


def test_bundle_is_searched_in_the_current_folder(
    explain: Explain, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is not there, the message names the option."""
    named = explain("plain", "p5")
    monkeypatch.delenv("MODELTRACE_BUNDLE", raising=False)

    monkeypatch.chdir(bundles / "plain")
    found = CliRunner().invoke(app, ["explain", "p5"], env={"COLUMNS": "160"})
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(app, ["explain", "p5"])

    assert found.stdout == named.stdout
    assert isinstance(missing.exception, BundleNotFoundError)
    assert "--bundle SOURCE" in str(missing.exception)


def test_values_are_rounded(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table shows 6 digits of a value; JSON has all of them."""
    monkeypatch.setitem(globals(), "iris_rows", lambda rows: [LONG_ROW] * rows)

    assert "5.12346 " in explain("sizes", "p3").stdout
