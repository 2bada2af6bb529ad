"""MLflow's scoring protocol and KServe's protocol V1 over HTTP, with the service in this process."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import RequestError
from modeltrace.inference.features import Matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import DEFAULT_MAX_LENGTH, Schema
from modeltrace.protocols.csv_rows import MISSING_CELLS, rows_from_csv
from modeltrace.protocols.mlflow_kserve import rows_from_kserve, rows_from_mlflow
from tests.helpers.in_process_services import RecordsService, records_service
from tests.helpers.mixed_schema import MIXED_SCHEMA

NAMES = list(MIXED_SCHEMA.names)
ROWS: list[list[Any]] = [[1.5, 2, True, "Bonn"], [None, 3, False, "Köln, am Rhein"]]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
COLUMNS = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
CSV = 'age,rooms,vip,city\n1.5,2,True,Bonn\n,3,false,"Köln, am Rhein"\n'
V1 = "/v1/models/scoring:predict"


def count_rows(matrix: Matrix) -> list[ModelOutput]:
    """Return the index of each row as its value."""
    return [ModelOutput(value=float(index)) for index in range(len(matrix))]


@pytest.fixture(scope="module")
def served(model: Model) -> Model:
    """A regressor with a feature of every type."""
    return replace(
        model,
        name="scoring",
        schema=MIXED_SCHEMA,
        as_frame=True,
        task="regressor",
        classes=None,
        predict_fn=count_rows,
        details_fn=None,
    )


@pytest.fixture(scope="module")
def service(served: Model) -> Iterator[RecordsService]:
    """Run the service with the regressor."""
    with records_service(served, max_batch_rows=5) as running:
        yield running


BODIES: dict[str, tuple[str, Any]] = {
    "dataframe_split": ("/invocations", {"dataframe_split": {"columns": NAMES, "index": [0, 1], "data": ROWS}}),
    "dataframe_split in another order": (
        "/invocations",
        {"dataframe_split": {"columns": NAMES[::-1], "data": [row[::-1] for row in ROWS]}},
    ),
    "dataframe_split without columns": ("/invocations", {"dataframe_split": {"data": ROWS}}),
    "dataframe_split with numbered columns": (
        "/invocations",
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}, "params": {}},
    ),
    "dataframe_records": ("/invocations", {"dataframe_records": RECORDS}),
    **{
        f"{key} of {form} to {path}": (path, {key: content})
        for path in ("/invocations", V1)
        for key in ("instances", "inputs")
        for form, content in (("records", RECORDS), ("arrays", ROWS), ("columns", COLUMNS))
    },
    "columns of shape [n, 1]": (
        "/invocations",
        {"inputs": {name: [[value] for value in values] for name, values in COLUMNS.items()}},
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_each_format_gives_the_same_rows(service: RecordsService, case: str) -> None:
    """The response has the predictions of all rows, in order, and the additions of this service."""
    path, body = BODIES[case]

    response = service.client.post(path, json=body)

    assert response.status_code == 200, response.text
    record = service.queue.requests[-1]
    assert [row.inputs for row in record.predictions] == [tuple(row) for row in ROWS]
    assert response.json() == {
        "predictions": [0.0, 1.0],
        "prediction_ids": [row.prediction_id for row in record.predictions],
        "model": {"name": "scoring", "version": service.model.version},
        "trace_id": response.headers["x-trace-id"],
    }
    assert record.route == ("/invocations" if path == "/invocations" else "/v1/models/{name}:predict")


@pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=utf-8", 'TEXT/CSV;charset="UTF-8"'])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_is_read_with_the_types_of_the_schema(service: RecordsService, content_type: str, line_end: str) -> None:
    """An empty cell is a missing value."""
    body = CSV.replace("\n", line_end).encode()

    response = service.client.post("/invocations", content=body, headers={"Content-Type": content_type})

    assert response.status_code == 200, response.text
    assert [row.inputs for row in service.queue.requests[-1].predictions] == [tuple(row) for row in ROWS]


def test_csv_in_the_form_of_pandas_and_with_a_byte_order_mark() -> None:
    """Spreadsheets write the mark; blank lines are ignored."""
    assert rows_from_csv(b"\xef\xbb\xbf" + CSV.replace("\n", "\n\n").encode(), MIXED_SCHEMA, 5) == RECORDS


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("7", 7), ("-7", -7), ("7.0", 7.0), ("1e3", 1000.0), ("1_000", "1_000"), ("seven", "seven"), ("²", "²"),
        ("--7", "--7"), ("9" * 30, float("9" * 30)),
    ],
)  # fmt: skip
def test_numbers_of_csv(cell: str, value: object) -> None:
    """What is no number stays a text, which the validation reports as a wrong type."""
    (row,) = rows_from_csv(f"rooms\n{cell}\n".encode(), MIXED_SCHEMA, 1)

    assert row == {"rooms": value}
    assert type(row["rooms"]) is type(value)


def test_missing_cells_are_those_of_pandas() -> None:
    """`modeltrace pack` reads training data with pandas, so that the same texts are missing values in both."""
    pandas_names = pytest.importorskip("pandas._libs.parsers").STR_NA_VALUES

    assert pandas_names == MISSING_CELLS


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the CSV is empty; its first line must contain the feature names"),
        (b"age,age\n1,2\n", "the header of the CSV contains a name twice"),
        (b"age,rooms\n1\n", "line 2 of the CSV has 1 cells, the header has 2"),
        (b'age,city\n1,"Bonn\n', "the body is not CSV: line 2: unexpected end of data"),
        (b"age\n\xff\n", "the CSV is not UTF-8: invalid byte at position 4"),
    ],
)
def test_other_csv_is_rejected(service: RecordsService, body: bytes, message: str) -> None:
    """The message names the line."""
    response = service.client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})

    assert (response.status_code, response.json()["error_code"]) == (400, "BAD_REQUEST")
    assert response.json()["message"] == message


def test_a_wrong_type_in_csv_is_a_violation(service: RecordsService) -> None:
    """It is reported and counted like that of any other request; a column without feature, too."""
    response = service.client.post(
        "/invocations", content=b"age,rooms,vip,city,x\nold,2,maybe,Bonn,1\n", headers={"Content-Type": "text/csv"}
    )

    assert response.status_code == 400
    assert response.json()["message"] == (
        "age: expected a number, got a string; vip: expected true or false, got a string; "
        "x: the model has no such feature (GET /model lists them)"
    )
    violations = {(violation.feature, violation.reason) for violation in service.queue.requests[-1].violations}
    assert violations == {("age", "type"), ("vip", "type"), ("", "unknown")}


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain", "text/csv; charset=latin-1"])
def test_another_content_type_is_not_supported(service: RecordsService, content_type: str) -> None:
    """The response is 415 in MLflow's form."""
    response = service.client.post("/invocations", content=CSV.encode(), headers={"Content-Type": content_type})

    assert (response.status_code, response.json()["error_code"]) == (415, "BAD_REQUEST")
    assert "/invocations accepts" in response.json()["message"]


WRONG: list[tuple[Any, str]] = [
    ([], "the body must be a JSON object"),
    ({}, 'exactly one of "dataframe_split", "dataframe_records", "instances", "inputs"; it has none of them'),
    ({"instances": [], "inputs": []}, 'it has "instances" and "inputs"'),
    ({"instances": [], "params": {"alpha": 1}}, "the model takes no parameters"),
    ({"dataframe_split": []}, '"dataframe_split" must be an object with "data"'),
    ({"dataframe_split": {"columns": NAMES}}, '"dataframe_split" must be an object with "data"'),
    ({"dataframe_split": {"data": [], "rows": []}}, '"dataframe_split" must be an object with "data"'),
    ({"dataframe_split": {"columns": [1], "data": []}}, '"dataframe_split.columns" must be an array of feature names'),
    ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, '"dataframe_split.columns" contains a name twice'),
    ({"dataframe_split": {"columns": NAMES, "data": {}}}, '"dataframe_split.data" must be an array of rows'),
    ({"dataframe_split": {"columns": NAMES, "data": [[1]]}}, '"dataframe_split.data[0]" must be an array of 4 values'),
    ({"dataframe_split": {"columns": NAMES, "data": [1]}}, '"dataframe_split.data[0]" must be an array of 4 values'),
    ({"dataframe_records": {}}, '"dataframe_records" must be an array of objects'),
    ({"instances": 1}, '"instances" must be an array of rows'),
    ({"instances": [[1, 2]]}, "instances[0] has 2 values, the model has 4 features (GET /model lists them in order)"),
    ({"instances": [1]}, "instances[0] has 1 value, the model has 4 features"),
    ({"inputs": {"age": [1], "rooms": 2}}, '"inputs.rooms" must be an array, as the other columns are'),
    ({"inputs": {"age": [1], "rooms": [2, 3]}}, '"inputs.rooms" has 2 values, the first column has 1'),
]


@pytest.mark.parametrize(("body", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_a_body_of_another_form_is_rejected(service: RecordsService, body: Any, message: str) -> None:
    """The response has MLflow's form; what V1 knows too is rejected in the form of V1."""
    response = service.client.post("/invocations", json=body)

    assert (response.status_code, response.json()["error_code"]) == (400, "BAD_REQUEST")
    assert message in response.json()["message"]
    if isinstance(body, dict) and body.keys() == {"inputs"} | body.keys() & {"instances"}:
        assert message in service.client.post(V1, json=body).json()["error"]


@pytest.mark.parametrize("path", ["/invocations", V1])
@pytest.mark.parametrize("form", ["records", "csv"])
def test_the_number_of_rows_is_limited(service: RecordsService, path: str, form: str) -> None:
    """More rows than MODELTRACE_MAX_BATCH_ROWS are answered with 413."""
    if form == "csv":
        lines = CSV + "1,2,True,Bonn\n" * 4
        response = service.client.post(path, content=lines.encode(), headers={"Content-Type": "text/csv"})
    else:
        response = service.client.post(path, json={"instances": RECORDS * 3})

    expected = 400 if (path, form) == (V1, "csv") else 413  # V1 has no CSV
    assert response.status_code == expected
    assert expected == 400 or "MODELTRACE_MAX_BATCH_ROWS" in response.text


@pytest.mark.parametrize("form", ["records", "csv", "tensor"])
def test_the_length_of_texts_is_limited(service: RecordsService, form: str) -> None:
    """A text above the limit of its feature is a violation in each protocol, and is never part of the message."""
    text = "x" * (DEFAULT_MAX_LENGTH + 1)
    if form == "csv":
        content = f"age,rooms,vip,city\n1,2,true,{text}\n"
        response = service.client.post("/invocations", content=content, headers={"Content-Type": "text/csv"})
    elif form == "records":
        response = service.client.post(V1, json={"instances": [{**RECORDS[0], "city": text}]})
    else:
        datatypes = {"age": "FP64", "rooms": "INT64", "vip": "BOOL", "city": "BYTES"}
        values = {**RECORDS[0], "city": text}
        inputs = [
            {"name": name, "datatype": datatype, "shape": [1], "data": [values[name]]}
            for name, datatype in datatypes.items()
        ]
        response = service.client.post("/v2/models/scoring/infer", json={"inputs": inputs})

    assert response.status_code == 400
    assert "city: longer than 65,536 characters, the limit for this text" in response.text
    assert "xxx" not in response.text


def test_single_values_are_one_row(service: RecordsService) -> None:
    """Such a request is a single prediction."""
    response = service.client.post("/invocations", json={"inputs": RECORDS[0]})

    assert response.json()["predictions"] == [0.0]
    assert not service.queue.requests[-1].is_batch


def test_values_of_a_model_with_one_feature(served: Model) -> None:
    """Each value is a row."""
    single = replace(served, schema=Schema(features=MIXED_SCHEMA.features[:1]))
    with records_service(single) as service:
        response = service.client.post(V1, json={"instances": [1.5, [2.5], {"age": 3.5}]})

    assert response.status_code == 200
    assert [row.inputs for row in service.queue.requests[-1].predictions] == [(1.5,), (2.5,), (3.5,)]


def test_nan_is_a_missing_value(service: RecordsService) -> None:
    """MLflow's client writes it for missing values of a frame."""
    content = json.dumps({"dataframe_split": {"columns": NAMES, "data": [[float("nan"), 2, True, "Bonn"]]}})

    response = service.client.post("/invocations", content=content, headers={"Content-Type": "application/json"})

    assert response.status_code == 200
    assert service.queue.requests[-1].predictions[0].inputs == (None, 2, True, "Bonn")


@pytest.mark.parametrize(
    "content", ['{"instances": [NaN', '{"instances": [[NaN, "\\ud800"]]}', '{"instances": [[NaN, Infinity]]}']
)
def test_other_json_with_nan_is_rejected(service: RecordsService, content: str) -> None:
    """A document must be valid apart from NaN."""
    response = service.client.post(V1, content=content)

    assert response.status_code == 400
    assert "the body is not JSON: NaN at" in response.json()["error"]


def test_probes_and_versions(service: RecordsService) -> None:
    """The other calls of both protocols; an unknown model is not found."""
    get = service.client.get
    assert (get("/ping").status_code, get("/ping").text) == (200, "\n")
    assert (get("/health").status_code, get("/health").text) == (200, "\n")
    assert get("/version").text == get("/v2").json()["version"]
    assert get("/v1/models").json() == {"models": ["scoring"]}
    assert get("/v1/models/scoring").json() == {"name": "scoring", "ready": True}
    for response in (get("/v1/models/other"), service.client.post("/v1/models/other:predict", json={})):
        assert response.status_code == 404
        assert response.json()["error"] == "this service has no model 'other'; it has scoring"
    assert get("/invocations").json()["message"] == "/invocations does not take GET"
    explain = service.client.post("/v1/models/scoring:explain")
    assert (explain.status_code, explain.json()["error"]) == (405, "/v1/models/scoring:explain does not take POST")
    assert service.client.get("/v1/explain").json()["error"].startswith("there is nothing at /v1/explain")


CONTENTS = st.recursive(
    st.sampled_from([None, True, 1, 0.5, "", "age", "columns"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*NAMES, "columns", "data"]), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("parse", [rows_from_mlflow, rows_from_kserve])
@given(content=CONTENTS, key=st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs"]))
def test_any_document_is_parsed_or_rejected(parse: Callable[..., Any], content: object, key: str) -> None:
    """No document fails in another way than with an error for the client."""
    try:
        rows = parse({key: content}, NAMES)
    except RequestError:
        return
    assert len(list(rows)) == len(rows)


@given(st.text(st.sampled_from('a,"\n\r1 '), max_size=20) | st.text(max_size=20))
def test_any_csv_is_parsed_or_rejected(text: str) -> None:
    """No text fails in another way than with an error for the client."""
    try:
        rows = rows_from_csv(text.encode(errors="surrogatepass"), MIXED_SCHEMA, 5)
    except RequestError:
        return
    assert len(rows) <= 5
