"""`modeltrace evidence prediction.NAME` lists the predictions in the bins of a named output."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import app
from modeltrace.monitoring.drilldown import DrilldownError
from modeltrace.store.rows import RowBuilder
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.estimator_cases import cases
from tests.helpers.factories import AnsweredRequest, answered_row

TIME = 1_800_000_000 * 10**9


@pytest.mark.parametrize(("task", "output"), [("IsolationForest", "score"), ("PCA", "norm")])
def test_named_outputs(task: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bins are those that the service counts; an erased prediction has no outputs any more."""
    fitted = cases()[task].fit()
    bundle = pack(fitted.estimator, fitted.training, fitted.target, name="toy", out=tmp_path / "bundle")
    model = load_bundle(bundle)
    info = ModelInfo("toy", "1.0.0", model.hash, model.schema.names, outputs=model.output_names)
    table = fitted.training.head(60).assign(width=1e3)
    outputs = model.predict(table.to_numpy() if not model.as_frame else table)
    rows = [
        answered_row(f"p{number}", label=of.label, inputs=tuple(table.iloc[number]), time=TIME + number)._replace(
            outputs=of.outputs
        )
        for number, of in enumerate(outputs)
    ]
    with open_store(str(tmp_path / "predictions.db")) as opened:
        opened.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, trace_id=bytes(16), model=info)))
        opened.erase(["p0"], TIME)
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "predictions.db"))
    options = ["--since", "2027-01-15", "--bundle", str(bundle), "--json"]

    result = json.loads(CliRunner().invoke(app, ["evidence", f"prediction.{output}", *options]).stdout)
    unknown = CliRunner().invoke(app, ["evidence", "prediction.none", *options])

    assert (result["feature"], result["rows"], result["erased"]) == (f"prediction.{output}", 59, 1)
    assert result["bins"][0]["increased"]
    assert result["bins"][0]["traces"][0]["prediction_id"] == "p59"
    assert {"psi", "ks"} <= {entry["statistic"] for entry in result["results"]}
    assert isinstance(unknown.exception, DrilldownError)
    assert f", prediction.{output}" in str(unknown.exception)
