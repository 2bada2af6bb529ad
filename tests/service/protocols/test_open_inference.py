"""The Open Inference Protocol V2 over HTTP, with the service in this process."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import RequestError
from modeltrace.inference.features import Matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import Reference, Schema
from modeltrace.protocols.open_inference import output_datatypes, parse_infer_request
from modeltrace.protocols.tensors import encode_binary
from tests.helpers.in_process_services import RecordsService, records_service
from tests.helpers.schemas import SCHEMA

DATATYPES = {
    "size": "FP64", "weight": "FP64", "rooms": "INT64", "garden": "BOOL", "city": "BYTES", "heating": "BYTES",
}  # fmt: skip
COLUMNS: dict[str, list[Any]] = {
    "size": [3.5, 1.0], "weight": [1.0, None], "rooms": [4, 2], "garden": [True, False], "city": ["Bonn", "Köln"],
    "heating": ["gas", "wood"],
}  # fmt: skip
Document = dict[str, Any]


NUMBERS = Reference(n=1, edges=(0.0,), shares={"00": 1.0, "01": 0.0, "missing": 0.0, "other": 0.0})
TEXTS = Reference(n=1, shares={"missing": 1.0, "other": 0.0, "unseen": 0.0})
FEATURES = tuple(
    feature.model_copy(update={"reference": NUMBERS if feature.type in ("number", "integer") else TEXTS})
    for feature in SCHEMA.features
)


def label_rows(matrix: Matrix) -> list[ModelOutput]:
    """Return the index of each row as its label."""
    return [ModelOutput(label=str(index), confidence=0.5 if index else None) for index in range(len(matrix))]


@pytest.fixture(scope="module")
def mixed(model: Model) -> Model:
    """A classifier with a feature of every type."""
    return replace(
        model,
        name="mixed",
        schema=Schema(features=FEATURES),
        as_frame=True,
        classes=("0", "1"),
        predict_fn=label_rows,
        details_fn=None,
    )


@pytest.fixture(scope="module")
def numeric(mixed: Model) -> Model:
    """A regressor with numbers, integers and booleans; its value is the number of the row."""
    schema = Schema(features=tuple(feature for feature in FEATURES if not feature.is_text))
    predict_fn = lambda matrix: [ModelOutput(value=float(index)) for index in range(len(matrix))]  # noqa: E731  short
    return replace(mixed, task="regressor", classes=None, schema=schema, predict_fn=predict_fn)


@pytest.fixture(scope="module")
def service(mixed: Model) -> Iterator[RecordsService]:
    """Run the service with the classifier."""
    with records_service(mixed, max_batch_rows=5) as running:
        yield running


@pytest.fixture(scope="module")
def numeric_service(numeric: Model) -> Iterator[RecordsService]:
    """Run the service with the regressor."""
    with records_service(numeric) as running:
        yield running


def inputs(columns: dict[str, list[Any]], *, two_dimensions: bool = False) -> list[Document]:
    """Return the inputs of a request in JSON."""
    return [
        {
            "name": name,
            "datatype": DATATYPES[name],
            "shape": [len(values), 1] if two_dimensions else [len(values)],
            "data": values,
        }
        for name, values in columns.items()
    ]


def infer(service: RecordsService, document: Document, binary: bytes = b"", path: str = "") -> Any:
    """Send a request and return the response."""
    body = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))} if binary else {}
    return service.client.post(path or "/v2/models/mixed/infer", content=body + binary, headers=headers)


def recorded_inputs(service: RecordsService) -> list[tuple[Any, ...]]:
    """Return the inputs of the predictions of the last request, as the audit trail gets them."""
    return [row.inputs for row in service.queue.requests[-1].predictions]


@pytest.mark.parametrize("two_dimensions", [False, True])
def test_each_feature_is_an_input(service: RecordsService, two_dimensions: bool) -> None:
    """The model gets the values of all types; null is a missing value. The response has one value per row."""
    response = infer(service, {"id": "7", "inputs": inputs(COLUMNS, two_dimensions=two_dimensions)})

    assert response.status_code == 200
    assert recorded_inputs(service) == list(zip(*COLUMNS.values(), strict=True))
    answer = response.json()
    assert (answer["model_name"], answer["id"]) == ("mixed", "7")
    assert answer["parameters"] == {"trace_id": response.headers["x-trace-id"]}
    ids = [row.prediction_id for row in service.queue.requests[-1].predictions]
    assert answer["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["0", "1"]},
        {"name": "confidence", "datatype": "FP64", "shape": [2], "data": [None, 0.5]},
        {"name": "prediction_id", "datatype": "BYTES", "shape": [2], "data": ids},
    ]


def test_binary_inputs_and_outputs(service: RecordsService) -> None:
    """Inputs may be binary or JSON, each by itself; NaN is a missing value. The outputs follow the JSON object."""
    raw = {name: encode_binary(DATATYPES[name], values) for name, values in COLUMNS.items() if name != "rooms"}
    described = inputs(COLUMNS)
    for entry in described:
        if entry["name"] in raw:
            del entry["data"]
            entry["parameters"] = {"binary_data_size": len(raw[entry["name"]])}

    response = infer(service, {"inputs": described, "parameters": {"binary_data_output": True}}, b"".join(raw.values()))

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    assert recorded_inputs(service) == list(zip(*COLUMNS.values(), strict=True))
    length = int(response.headers["inference-header-content-length"])
    outputs = json.loads(response.content[:length])["outputs"]
    assert [output["parameters"]["binary_data_size"] for output in outputs][:2] == [10, 16]
    assert response.content[length : length + 10] == b"\x01\x00\x00\x000\x01\x00\x00\x001"
    assert len(response.content) == length + sum(output["parameters"]["binary_data_size"] for output in outputs)


def test_requested_outputs_are_in_the_order_of_the_request(service: RecordsService) -> None:
    """Each of them is binary or JSON as the client wants."""
    outputs = [{"name": "confidence"}, {"name": "label", "parameters": {"binary_data": True}}]

    response = infer(service, {"inputs": inputs(COLUMNS), "outputs": outputs})

    length = int(response.headers["inference-header-content-length"])
    assert json.loads(response.content[:length])["outputs"] == [
        {"name": "confidence", "datatype": "FP64", "shape": [2], "data": [None, 0.5]},
        {"name": "label", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
    ]


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
def test_one_tensor_contains_all_numeric_features(numeric_service: RecordsService, datatype: str) -> None:
    """Its columns are in the order of the features; a boolean is 0 or 1."""
    tensor = {"name": "input-0", "datatype": datatype, "shape": [2, 4], "data": [3.5, 1.0, 4.0, 1.0, 1.0, None, 2, 0]}

    response = infer(numeric_service, {"inputs": [tensor]})

    assert response.status_code == 200, response.text
    assert recorded_inputs(numeric_service) == [(3.5, 1.0, 4.0, True), (1.0, None, 2, False)]
    assert response.json()["outputs"][0] == {"name": "value", "datatype": "FP64", "shape": [2], "data": [0.0, 1.0]}


def test_a_single_row_is_a_single_prediction(service: RecordsService) -> None:
    """Its record equals that of `/predict`, so that the span has its prediction ID."""
    columns = {name: values[:1] for name, values in COLUMNS.items()}

    assert infer(service, {"inputs": inputs(columns)}).status_code == 200

    record = service.queue.requests[-1]
    assert (record.is_batch, record.rows, len(record.predictions)) == (False, 1, 1)
    assert (record.route, record.path) == ("/v2/models/{name}/infer", "/v2/models/mixed/infer")


def test_no_rows_are_answered_with_empty_outputs(service: RecordsService) -> None:
    """The model is not called."""
    response = infer(service, {"inputs": inputs({name: [] for name in COLUMNS})})

    assert [output["data"] for output in response.json()["outputs"]] == [[], [], []]


def test_nan_in_json_is_a_missing_value(service: RecordsService) -> None:
    """Clients write it, although JSON does not have it. No other constant is accepted."""
    described = inputs({**COLUMNS, "weight": [float("nan"), 1.0]})

    assert infer(service, {"inputs": described}).status_code == 200
    assert [values[1] for values in recorded_inputs(service)] == [None, 1.0]
    response = infer(service, {"inputs": inputs({**COLUMNS, "weight": [float("nan"), float("inf")]})})
    assert response.status_code == 400
    assert "the body is not JSON" in response.json()["error"]


def test_an_invalid_row_rejects_the_request(service: RecordsService) -> None:
    """The message names the row; no row is predicted; violations are counted."""
    response = infer(service, {"inputs": inputs({**COLUMNS, "size": [3.5, 11.0]})})

    assert response.status_code == 400
    assert response.json() == {
        "error": "row 1: size: outside the valid range 0 to 10",
        "trace_id": response.headers["x-trace-id"],
    }
    record = service.queue.requests[-1]
    assert (record.rows, record.rejected_rows, record.predictions) == (2, 2, ())
    assert [(violation.feature, violation.reason) for violation in record.violations] == [("size", "range")]


def test_a_feature_without_input_is_missing(service: RecordsService) -> None:
    """An input of another name is an unknown feature."""
    columns = {name: values for name, values in COLUMNS.items() if name != "rooms"}
    unknown = {"name": "floors", "datatype": "INT64", "shape": [2], "data": [1, 2]}

    response = infer(service, {"inputs": [*inputs(columns), unknown]})

    assert response.status_code == 400
    assert "row 0: the row does not have the features of this model: missing rooms; unknown floors" in response.text
    assert response.json()["error"].endswith("and 1 more invalid row")


CASES: list[tuple[Document, str]] = [
    ({}, '"inputs" must be an array with at least one input'),
    ({"inputs": []}, '"inputs" must be an array with at least one input'),
    ({"inputs": inputs(COLUMNS), "id": 7}, '"id" must be a string'),
    ({"inputs": inputs(COLUMNS), "parameters": [1]}, '"parameters" must be an object'),
    ({"inputs": inputs(COLUMNS), "outputs": "label"}, '"outputs" must be an array of objects'),
    ({"inputs": inputs(COLUMNS), "outputs": [{"name": "label"}] * 2}, 'output "label" is requested twice'),
    ({"inputs": inputs(COLUMNS), "outputs": [{"name": "value"}]}, "the model has no output 'value'; it has label, "),
    (
        {"inputs": inputs(COLUMNS), "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        'output "label": only the parameter "binary_data" is supported',
    ),
    ({"inputs": [*inputs(COLUMNS), inputs(COLUMNS)[0]]}, "two inputs have the same name"),
    ({"inputs": inputs({**COLUMNS, "city": ["Bonn"]})}, 'input "city" has 1 rows, input "size" has 2'),
    (
        {"inputs": [{"name": "all", "datatype": "FP64", "shape": [1, 6], "data": [0] * 6}]},
        'input "all" has the shape [1, 6]; it must be [n], [n, 1]',
    ),
    ({"inputs": [{"name": str(index)} for index in range(17)]}, "the request has 17 inputs, the model has 6"),
    (
        {"inputs": [{"name": "size", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}]},
        'input "size" needs 8 bytes after the JSON object, 0 are left',
    ),
]


@pytest.mark.parametrize(("document", "message"), CASES, ids=[message[:40] for _, message in CASES])
def test_a_request_of_another_form_is_rejected(service: RecordsService, document: Document, message: str) -> None:
    """The response is the error object of the protocol, with a message that says what is wrong."""
    response = infer(service, document)

    assert response.status_code == 400
    assert message in response.json()["error"]


def test_the_shape_of_one_tensor_is_named(numeric_service: RecordsService) -> None:
    """For a model with numeric features, the message names the number of columns."""
    tensor = {"name": "all", "datatype": "FP64", "shape": [1, 3], "data": [0] * 3}

    assert (
        "it must be [n], [n, 1] or, in a request with one input, [n, 4]"
        in infer(numeric_service, {"inputs": [tensor]}).json()["error"]
    )


@pytest.mark.parametrize("length", ["-1", "x", "10000", "²"])
def test_the_length_of_the_json_object_must_be_in_the_body(service: RecordsService, length: str) -> None:
    """Otherwise, the response is 400."""
    headers = {"Inference-Header-Content-Length": length.encode("latin-1")}
    response = service.client.post("/v2/models/mixed/infer", content=b"{}", headers=headers)

    assert response.status_code == 400
    assert "Inference-Header-Content-Length is" in response.json()["error"]


def test_bytes_after_the_inputs_are_rejected(service: RecordsService) -> None:
    """They belong to no input, so client and service disagree about the request."""
    response = infer(service, {"inputs": inputs(COLUMNS)}, b"12")

    assert response.json()["error"] == "2 bytes after the JSON object belong to no input"


def test_the_number_of_rows_is_limited_before_values_are_decoded(service: RecordsService) -> None:
    """A shape with too many rows is answered with 413, whatever its data is."""
    tensor = {"name": "size", "datatype": "BOOL", "shape": [2**40], "parameters": {"binary_data_size": 0}}

    response = infer(service, {"inputs": [tensor]})

    assert response.status_code == 413
    assert response.json()["error"].startswith(
        "the request has 1099511627776 rows, the limit is 5 (MODELTRACE_MAX_BATCH"
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/mixed/versions/9", "/v2/models/m%2Fx"])
def test_an_unknown_model_or_version_is_not_found(service: RecordsService, method: str, path: str) -> None:
    """The message names what the service has; a request for a prediction is recorded by the template of its path."""
    response = service.client.request(method, f"{path}/{'ready' if method == 'GET' else 'infer'}")

    assert response.status_code == 404
    assert isinstance(response.json()["error"], str)
    if method == "POST" and "%2F" not in path:
        assert service.queue.requests[-1].route.startswith("/v2/models/{name}/")
        assert "mixed" in response.json()["error"]


def test_the_server_and_the_model_describe_themselves(service: RecordsService, mixed: Model) -> None:
    """The metadata has one input per feature and the outputs of the task."""
    get = service.client.get
    assert get("/v2").json()["name"] == "modeltrace"
    assert get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    described = get("/v2/models/mixed").json()
    assert described == get(f"/v2/models/mixed/versions/{mixed.version}").json()
    assert (described["name"], described["versions"]) == ("mixed", [mixed.version])
    assert {tensor["name"]: tensor["datatype"] for tensor in described["inputs"]} == DATATYPES
    assert [tensor["name"] for tensor in described["outputs"]] == ["label", "confidence", "prediction_id"]
    assert {tuple(tensor["shape"]) for tensor in (*described["inputs"], *described["outputs"])} == {(-1,)}
    for path in ("/v2/models/mixed/ready", f"/v2/models/mixed/versions/{mixed.version}/ready"):
        assert get(path).json() == {"name": "mixed", "ready": True}


@pytest.mark.parametrize(
    ("classes", "datatype"),
    [
        (("a", "b"), "BYTES"), ((0, 1), "INT64"), ((False, True), "BOOL"), ((0.5, 1), "FP64"), ((1, "b"), "BYTES"),
        ((True, 2), "BYTES"), (None, "BYTES"),
    ],
)  # fmt: skip
def test_labels_have_the_type_of_the_classes(mixed: Model, classes: Any, datatype: str) -> None:
    """Classes of several types are texts."""
    assert output_datatypes(replace(mixed, classes=classes))["label"] == datatype


SCALARS = st.sampled_from([None, True, 0, 1, -1, 2**63, 0.5, "", "x", "size"])
JSON_VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(["name", "x"]), SCALARS)


@given(
    headers=st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from([*COLUMNS, "x"]) | JSON_VALUES,
                "datatype": st.sampled_from([*DATATYPES.values(), "UINT8", "BF16"]) | JSON_VALUES,
                "shape": st.lists(st.integers(0, 3), max_size=3) | JSON_VALUES,
            },
            optional={
                "data": st.lists(JSON_VALUES, max_size=4) | JSON_VALUES,
                "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 30)}) | JSON_VALUES,
            },
        ),
        max_size=3,
    ),
    more=st.dictionaries(st.sampled_from(["id", "parameters", "outputs"]), JSON_VALUES),
    binary=st.binary(max_size=60),
)
def test_any_request_is_parsed_or_rejected(
    mixed: Model, numeric: Model, headers: list[Document], more: Document, binary: bytes
) -> None:
    """No request fails in another way than with an error for the client."""
    for model in (mixed, numeric):
        try:
            request = parse_infer_request({"inputs": headers, **more}, binary, model, 3)
        except RequestError:
            continue
        assert len(list(request.rows)) == len(request.rows) <= 3
