"""Outlier detectors, clusterers, estimators with several outputs and transformers, from the bundle to the store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

import modeltrace
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.errors import BundleError, ModeltraceError, PackError
from modeltrace.inference.tasks import TASK_NAMES
from modeltrace.protocols.open_inference import output_datatypes
from modeltrace.report.columns import build_layout
from modeltrace.scoring.results import results_schema
from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.store.rows import RowBuilder, to_stored_prediction
from modeltrace.telemetry.records.prediction import Origin
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, RecordDecoder, encode
from modeltrace_hub.decode.values import to_json
from tests.helpers.bundles import edit_manifest
from tests.helpers.decoding import unlimited
from tests.helpers.estimator_cases import TABLE, TWO_SIZES, Fitted, cases, fit
from tests.helpers.in_process_services import SdkService, records_service

Bundles = Callable[[str], tuple[Fitted, Path]]
ROWS = 30

# For each task, an estimator and the members of its responses.
TASKS = {
    "outlier_detector": ("IsolationForest", {"label", "confidence", "outputs"}),
    "clusterer": ("KMeans", {"label", "confidence", "outputs"}),
    "multi_output": ("MultiOutputClassifier", {"outputs"}),
    "transformer": ("PCA", {"outputs"}),
}
# Tasks whose predictions are not one label or one value that the true label equals.
NOT_COMPARABLE = ("clusterer", "multi_output", "transformer")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Return estimator and bundle of a task; each is packed once."""
    known: dict[str, tuple[Fitted, Path]] = {}

    def make(task: str) -> tuple[Fitted, Path]:
        if task not in known:
            fitted = cases()[TASKS[task][0]].fit()
            out = tmp_path_factory.mktemp("bundles") / task
            known[task] = fitted, pack(fitted.estimator, fitted.training, fitted.target, name=task, out=out)
        return known[task]

    return make


def json_rows(table: pd.DataFrame = TABLE) -> list[dict[str, Any]]:
    """Return the first rows as JSON objects."""
    return [{str(name): value for name, value in row.items()} for row in table[:ROWS].to_dict("records")]


def own_outputs(fitted: Fitted, task: str) -> list[dict[str, Any]]:
    """Return what the estimator computes for these rows, as members of a response."""
    estimator, rows = fitted.estimator, fitted.training[:ROWS]
    if task == "outlier_detector":
        pairs = zip(estimator.predict(rows).tolist(), estimator.decision_function(rows).tolist(), strict=True)
        return [{"label": label, "outputs": {"score": score}} for label, score in pairs]
    if task == "clusterer":
        pairs = zip(estimator.predict(rows).tolist(), estimator.transform(rows).min(axis=1).tolist(), strict=True)
        return [{"label": label, "outputs": {"distance": distance}} for label, distance in pairs]
    if task == "multi_output":
        return [{"outputs": dict(zip(fitted.target.columns, row, strict=True))} for row in estimator.predict(rows)]
    names = [f"pca{index}" for index in range(4)]
    return [{"outputs": dict(zip(names, row, strict=True))} for row in estimator.transform(rows).tolist()]


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_responses_have_what_the_estimator_computes(packed: Bundles, task: str, *, batching: bool) -> None:
    """Label and named outputs of single and batch requests equal the estimator's for the same rows."""
    fitted, bundle = packed(task)
    with records_service(load_bundle(bundle), batching=batching) as service:
        single = [service.client.post("/predict", json={"features": row}).json() for row in json_rows()]
        batch = service.client.post("/predict/batch", json={"rows": [*json_rows(), {}]}).json()["predictions"]
        described = service.client.get("/model").json()

    for body, own in zip([*single, *batch[:-1]], 2 * own_outputs(fitted, task), strict=True):
        assert set(body) - {"prediction_id", "model", "trace_id"} == TASKS[task][1]
        assert body.get("label") == own.get("label")
        assert body["outputs"] == (
            own["outputs"] if task == "multi_output" else pytest.approx(own["outputs"], rel=1e-9)
        )
    assert "error" in batch[-1]
    assert described["task"] == task
    assert [output["name"] for output in described["outputs"]] == list(single[0]["outputs"])


@pytest.mark.parametrize("task", TASKS)
def test_log_records_lines_and_rows_have_the_outputs(
    record: Callable[..., SdkService], packed: Bundles, task: str
) -> None:
    """The SDK, the sidecar's OTLP and log lines, and the prediction store contain the same named outputs."""
    model = load_bundle(packed(task)[1])
    body = {"rows": json_rows()[:3]}
    sdk = record(model)
    answers = [entry["outputs"] for entry in sdk.client.post("/predict/batch", json=body).json()["predictions"]]
    with records_service(model) as service:
        service.client.post("/predict/batch", json=body)
        requests = RecordDecoder().decode(encode(RecordChunk(requests=service.queue.requests))).requests

    of_sdk = [dict(log.log_record.attributes or {}) for log in sdk.logs("modeltrace.prediction")]
    encoded, _ = next(iter(LogEncoder(Origin(b"", "modeltrace")).predictions(requests)))
    records = ExportLogsServiceRequest.FromString(encoded).resource_logs[0].scope_logs[0].log_records
    of_sidecar = [{item.key: to_json(item.value, unlimited()) for item in log.attributes} for log in records]
    lines = [json.loads(line) for line in LineEncoder().encode(requests).splitlines()]
    of_lines = [line for line in lines if line["logger"] == "modeltrace.prediction"]
    stored = [to_stored_prediction([*row, None, None, None]) for row in RowBuilder("1").build(requests[0])]

    assert [attributes["ml.prediction.outputs"] for attributes in of_sdk] == answers
    assert [attributes["ml.prediction.outputs"] for attributes in of_sidecar] == answers
    assert [line["ml.prediction.outputs"] for line in of_lines] == answers
    assert [row.outputs for row in stored] == answers
    has_label = "label" in TASKS[task][1]
    for attributes in (*of_sdk, *of_sidecar, *of_lines):
        assert ("ml.prediction.label" in attributes) is has_label
        assert "ml.prediction.value" not in attributes
    assert [log.log_record.body for log in sdk.logs("modeltrace.prediction")] == [
        log.body.string_value for log in records
    ]
    assert all(row.value is None and (row.label is not None) is has_label for row in stored)


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_counted_by_label(packed: Bundles, task: str) -> None:
    """A prediction without a label or a value counts without one; its drift is not monitored."""
    model = load_bundle(packed(task)[1])
    with records_service(model) as service:
        answers = service.client.post("/predict/batch", json={"rows": json_rows()}).json()["predictions"]
        metrics = {metric.name: metric for metric in service.metrics()}

    counted = {
        point.attributes.get("ml.prediction.label"): point.value for point in metrics["ml.predictions"].data.data_points
    }
    labels = pd.Series([None if "label" not in entry else str(entry["label"]) for entry in answers], dtype=object)
    assert counted == labels.value_counts(dropna=False).rename(index={np.nan: None}).to_dict()
    assert (model.output_reference is None) is ("label" not in TASKS[task][1])


@pytest.mark.parametrize("task", TASKS)
def test_other_protocols_have_the_outputs(packed: Bundles, task: str) -> None:
    """Open Inference has a tensor of all named outputs; MLflow and KServe have a label, or the list of outputs."""
    model = load_bundle(packed(task)[1])
    rows = json_rows()[:5]
    tensors = [
        {"name": name, "datatype": "FP64", "shape": [5], "data": [row[name] for row in rows]} for name in rows[0]
    ]
    with records_service(model) as service:
        expected = service.client.post("/predict/batch", json={"rows": rows}).json()["predictions"]
        infer = service.client.post(f"/v2/models/{task}/infer", json={"inputs": tensors}).json()
        mlflow = service.client.post("/invocations", json={"dataframe_records": rows}).json()
        kserve = service.client.post(f"/v1/models/{task}:predict", json={"instances": rows}).json()

    values = [list(entry["outputs"].values()) for entry in expected]
    named = {output["name"]: output for output in infer["outputs"]}
    assert list(named) == list(output_datatypes(model))
    assert named["outputs"]["shape"] == [5, len(values[0])]
    assert named["outputs"]["data"] == [value for row in values for value in row]
    for payload in (mlflow, kserve):
        assert payload["predictions"] == [entry.get("label", row) for entry, row in zip(expected, values, strict=True)]
        assert payload["outputs"] == [entry["outputs"] for entry in expected]


@pytest.mark.parametrize("task", TASKS)
def test_the_model_predicts_in_python(packed: Bundles, task: str) -> None:
    """`predict` returns labels, or a matrix of the named outputs; `predict_table` has a column for each."""
    fitted, bundle = packed(task)
    model = modeltrace.load(bundle)
    own = own_outputs(fitted, task)

    predicted, table = model.predict(TABLE[:ROWS]), model.predict_table(TABLE[:ROWS])

    values = [list(row["outputs"].values()) for row in own]
    if task in ("multi_output", "transformer"):
        assert predicted.shape == (ROWS, len(model.outputs))
        assert predicted.tolist() == (values if task == "multi_output" else [pytest.approx(row) for row in values])
    else:
        assert predicted.tolist() == [row["label"] for row in own]
        assert table["label"].tolist() == predicted.tolist()
    columns = table[[f"output_{name}" for name in model.outputs]].to_numpy().tolist()
    assert columns == (values if task == "multi_output" else [pytest.approx(row) for row in values])


@pytest.mark.parametrize("task", TASKS)
def test_results_of_scoring_have_a_column_for_each_output(packed: Bundles, task: str) -> None:
    """Numbers are floats, labels have the type of their classes."""
    model = load_bundle(packed(task)[1])
    schema = results_schema(model, {}, with_ids=False)

    outputs = {name: str(schema.field(name).type) for name in schema.names if name.startswith("output_")}
    kind = "string" if task == "multi_output" else "double"
    assert outputs == {f"output_{name}": kind for name in model.output_names}
    assert ("label" in schema.names) is (model.classes is not None)
    assert "confidence" not in schema.names


def test_a_mixture_has_the_probability_of_each_component(tmp_path: Path) -> None:
    """The confidence is the probability of the component, and all probabilities can be requested."""
    estimator = fit(GaussianMixture(3, random_state=0)).estimator
    model = load_bundle(pack(estimator, TABLE, name="mixture", out=tmp_path / "b"))
    with records_service(model) as service:
        url = "/predict/batch?probabilities=true"
        answers = service.client.post(url, json={"rows": json_rows()}).json()["predictions"]

    expected = estimator.predict_proba(TABLE[:ROWS])
    for entry, own in zip(answers, expected.tolist(), strict=True):
        assert entry["probabilities"] == pytest.approx({str(index): value for index, value in enumerate(own)})
        assert entry["label"] == int(np.argmax(own))
        assert entry["confidence"] == entry["probabilities"][str(entry["label"])]


@pytest.mark.parametrize("name", ["LinearRegression, two targets", "MultiOutputClassifier"])
def test_targets_in_another_order_are_refused(name: str, tmp_path: Path) -> None:
    """The outputs would have the wrong names. The message has the options in the right order."""
    fitted = cases()[name].fit()
    first, second = fitted.target.columns
    swapped = fitted.target[[second, first]]

    with pytest.raises(PackError, match=f"seems to be --target {first} --target {second}$"):
        pack(fitted.estimator, fitted.training, swapped, name="m", out=tmp_path / "m")
    model = load_bundle(pack(fitted.estimator, fitted.training, fitted.target, name="m", out=tmp_path / "m"))
    assert model.output_names == (first, second)


@pytest.mark.parametrize("task", ["outlier_detector", "multi_output", "transformer"])
def test_probabilities_of_other_tasks_are_refused(packed: Bundles, task: str) -> None:
    """The message names the task."""
    with records_service(load_bundle(packed(task)[1])) as service:
        response = service.client.post("/predict?probabilities=true", json={"features": json_rows()[0]})

    assert response.status_code == 400
    assert f"the model is {TASK_NAMES[task]}: it has no probabilities" in response.json()["error"]["message"]


def test_the_label_shares_of_a_detector_are_cross_validated(packed: Bundles) -> None:
    """Clones predict rows that they were not fitted on, without labels. Clusters have other numbers in a clone."""
    detector, clusterer = (read_manifest(packed(task)[1]).manifest for task in ("outlier_detector", "clusterer"))

    assert detector.output_reference is not None
    assert (detector.output_reference.source, detector.output_reference.n) == ("cross_validation", len(TABLE))
    assert list(detector.output_reference.shares) == ["-1", "1"]
    assert clusterer.output_reference is not None
    assert clusterer.output_reference.source == "training"


def test_held_out_rows_are_the_reference_of_a_clusterer(tmp_path: Path) -> None:
    """Test rows of a clusterer need no labels."""
    fitted = cases()["KMeans"].fit()
    held_out = TABLE + 0.01
    manifest = read_manifest(pack(fitted.estimator, TABLE, name="k", out=tmp_path / "b", traffic=held_out)).manifest

    assert manifest.output_reference is not None
    assert (manifest.output_reference.source, manifest.output_reference.n) == ("held_out", len(TABLE))
    shares = pd.Series(fitted.estimator.predict(held_out)).value_counts(normalize=True)
    assert manifest.output_reference.shares == pytest.approx({str(label): share for label, share in shares.items()})


def test_the_columns_of_the_targets_name_the_outputs(tmp_path: Path) -> None:
    """Without such a table, the outputs are numbered."""
    estimator = cases()["LinearRegression, two targets"].fit().estimator

    named = read_manifest(pack(estimator, TABLE, TWO_SIZES, name="m", out=tmp_path / "a")).manifest
    numbered = read_manifest(pack(estimator, TABLE, name="m", out=tmp_path / "b")).manifest

    assert [output.name for output in named.outputs] == ["area", "mass"]
    assert [output.name for output in numbered.outputs] == ["output_0", "output_1"]


def test_private_features_of_a_transformer_are_refused(tmp_path: Path) -> None:
    """Its outputs are computed from the private values, and nothing would redact them."""
    with pytest.raises(PackError, match="--privacy has no effect on the outputs of the StandardScaler"):
        pack(StandardScaler().fit(TABLE), TABLE, name="m", out=tmp_path / "b", privacy={"width": "drop"})


@pytest.mark.parametrize("task", NOT_COMPARABLE)
def test_reports_are_refused(packed: Bundles, task: str) -> None:
    """The message names the task."""
    with pytest.raises(ModeltraceError, match=f"is {TASK_NAMES[task]}: reports need one label or one value"):
        build_layout(read_manifest(packed(task)[1]).manifest)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["IsolationForest", "LocalOutlierFactor(novelty=True)", "KMeans", "GaussianMixture", "PCA",
             "LinearRegression, two targets"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")  # scikit-learn's detector calls itself so
def test_onnx_runtime_answers_as_the_estimator_does(name: str, tmp_path: Path) -> None:
    """`pack` compares both engines; here the loaded bundles of both predict the same."""
    fitted = cases()[name].fit()
    bundle = pack(fitted.estimator, fitted.training, fitted.target, name="m", out=tmp_path / "b", onnx=True)

    tables = [modeltrace.load(bundle, engine=engine).predict_table(TABLE) for engine in ("sklearn", "onnx")]

    pd.testing.assert_frame_equal(*tables, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["MultiOutputClassifier", "EllipticEnvelope"])
def test_what_cannot_be_converted_to_onnx_is_refused(name: str, tmp_path: Path) -> None:
    """The message says why, and what to do."""
    fitted = cases()[name].fit()

    with pytest.raises(PackError, match=r"cannot be served by ONNX Runtime: .*; pack it without --onnx"):
        pack(fitted.estimator, fitted.training, fitted.target, name="m", out=tmp_path / "b", onnx=True)


def test_a_manifest_of_another_task_is_refused(packed: Bundles, tmp_path: Path) -> None:
    """A bundle whose estimator has no `transform` cannot be a transformer's."""
    fitted, _ = packed("outlier_detector")
    bundle = pack(fitted.estimator, TABLE, name="m", out=tmp_path / "b")
    edit_manifest(bundle, task="transformer", classes=None)

    with pytest.raises(BundleError, match="does not describe the IsolationForest"):
        load_bundle(bundle)


def test_outputs_of_one_name_are_refused(packed: Bundles, tmp_path: Path) -> None:
    """A response could contain only one of them."""
    fitted, _ = packed("transformer")
    bundle = pack(fitted.estimator, TABLE, name="m", out=tmp_path / "b")
    edit_manifest(bundle, outputs=[{"name": "a", "classes": None}] * 4)

    with pytest.raises(BundleError, match="outputs: more than 1024 outputs, or two of the same name"):
        load_bundle(bundle)
