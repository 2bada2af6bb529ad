"""`POST /predict/batch` with bodies in Arrow's IPC stream format and in Parquet, and responses in Arrow."""

import datetime as dt
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modeltrace.api.batch_formats import ARROW_TYPE, PARQUET_TYPE
from modeltrace.errors import RequestError
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.protocols.arrow_rows import Limits, rows_from_arrow, rows_from_parquet
from tests.helpers.in_process_services import RecordsService, SdkService, records_service
from tests.helpers.mixed_schema import MIXED_SCHEMA

Rows = list[dict[str, float]]
PATH = "/predict/batch"
LIMITS = Limits(max_rows=1000, max_bytes=2**20)
FRAME = pd.DataFrame(
    {
        "age": [1.5, None, 3.0],
        "rooms": [2, 3, -1],
        "vip": [True, False, True],
        "city": pd.Categorical(["Bonn", None, "Köln, am Rhein"]),
    }
)
INPUTS = [(1.5, 2, True, "Bonn"), (None, 3, False, None), (3.0, -1, True, "Köln, am Rhein")]


def stream(table: pa.Table, compression: str | None = None, rows: int | None = None) -> bytes:
    """Return a table as an Arrow IPC stream, in record batches of some rows."""
    sink = pa.BufferOutputStream()
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    with pyarrow.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return bytes(sink.getvalue())


def parquet(table: pa.Table, **options: Any) -> bytes:
    """Return a table as Parquet."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


FORMATS: dict[str, tuple[str, Callable[..., bytes]]] = {
    "arrow": (ARROW_TYPE, stream),
    "parquet": (PARQUET_TYPE, parquet),
}
READERS: dict[str, Callable[..., Any]] = {"arrow": rows_from_arrow, "parquet": rows_from_parquet}


def table_of(frame: pd.DataFrame) -> pa.Table:
    """Return a data frame as an Arrow table."""
    return pa.Table.from_pandas(frame, preserve_index=False)


@pytest.fixture(scope="module")
def service(model: Model) -> Iterator[RecordsService]:
    """Run the service with the example, which declares a tag."""
    with records_service(model, tags="country", max_batch_rows=50, max_body_bytes=2**20) as running:
        yield running


def post(service: RecordsService | SdkService, content: bytes, media_type: str, accept: str = "*/*") -> Any:
    """Send a batch."""
    return service.client.post(PATH, content=content, headers={"Content-Type": media_type, "Accept": accept})


@pytest.mark.parametrize("format_name", FORMATS)
def test_predictions_are_those_of_json(service: RecordsService, rows: Rows, format_name: str) -> None:
    """Responses and records equal those of the same rows in JSON, also for rejected rows."""
    media_type, encode = FORMATS[format_name]
    frame = pd.DataFrame(rows[:5])
    frame.loc[2, "mean_area"] = np.nan
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")

    expected = service.client.post(PATH, json={"rows": records}).json()
    answered = post(service, encode(table_of(frame)), media_type).json()

    for body in (expected, answered):
        body["trace_id"] = ""
        for prediction in body["predictions"]:
            prediction.pop("prediction_id", None)
    assert answered == expected
    assert "error" in answered["predictions"][2]
    in_json, in_arrow = service.queue.requests[-2:]
    assert [row.inputs for row in in_arrow.predictions] == [row.inputs for row in in_json.predictions]
    assert in_arrow.violations == in_json.violations


@pytest.mark.parametrize("format_name", FORMATS)
def test_types_become_those_of_features(format_name: str) -> None:
    """Categories, missing values and booleans arrive as JSON has them, in any integer or float type of Arrow."""
    table = table_of(FRAME)
    variants = [
        table,
        table.set_column(0, "age", table["age"].cast(pa.float32())),
        table.set_column(1, "rooms", table["rooms"].cast(pa.int8())),
        table.set_column(2, "vip", pa.array([1, 0, 1], pa.int8())),
        table.set_column(3, "city", table["city"].cast(pa.large_string())),
        table.set_column(0, "age", pa.array([Decimal("1.5"), None, Decimal(3)])),
    ]
    for variant in variants:
        batch = READERS[format_name](FORMATS[format_name][1](variant), MIXED_SCHEMA, LIMITS)
        assert [tuple(row.values()) for row in batch.rows] == INPUTS


def test_batches_of_a_stream_are_joined() -> None:
    """Each record batch is read, also if its dictionary differs."""
    batch = rows_from_arrow(stream(table_of(FRAME), rows=1), MIXED_SCHEMA, LIMITS)

    assert [tuple(row.values()) for row in batch.rows] == INPUTS


@pytest.mark.parametrize("format_name", FORMATS)
def test_ids_and_tags_are_in_the_metadata(service: RecordsService, rows: Rows, format_name: str) -> None:
    """The metadata of the schema have the members that a JSON body has besides the rows."""
    media_type, encode = FORMATS[format_name]
    members = {"ids": ["order-1", None], "tags": [{"country": "DE"}, None]}
    table = table_of(pd.DataFrame(rows[:2]))

    response = post(service, encode(table.replace_schema_metadata({"modeltrace": json.dumps(members)})), media_type)
    assert [prediction.get("id") for prediction in response.json()["predictions"]] == ["order-1", None]
    request = service.queue.requests[-1]
    assert (request.external_ids, request.row_tags) == (("order-1", None), ((("country", "DE"),), ()))
    for metadata, message in (('{"ids": ["a"]}', "each of the 2 rows"), ('{"x": 1}', 'not "x"'), ("{", "not JSON")):
        content = encode(table.replace_schema_metadata({"modeltrace": metadata}))
        rejected = post(service, content, media_type)
        assert (rejected.status_code, message in rejected.json()["error"]["message"]) == (400, True), rejected.text


@pytest.mark.parametrize("path", ["sidecar", "sdk"])
def test_a_response_in_arrow(
    record: Callable[..., SdkService], model: Model, rows: Rows, service: RecordsService, path: str
) -> None:
    """`Accept` selects it, for any format of the request, with both instrumentations; errors are JSON."""
    served: RecordsService | SdkService = service if path == "sidecar" else record(model)
    body = {"rows": [rows[0], {}, rows[1]]}
    accept = {"Accept": f"{ARROW_TYPE}, application/json;q=0.5"}
    expected = served.client.post(f"{PATH}?probabilities=true", json=body).json()["predictions"]
    response = served.client.post(f"{PATH}?probabilities=true", json=body, headers=accept)

    assert response.headers["content-type"] == ARROW_TYPE
    with pyarrow.ipc.open_stream(response.content) as reader:
        table = reader.read_all()
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata == {
        "model_name": model.name, "model_version": model.version, "trace_id": response.headers["x-trace-id"],
    }  # fmt: skip
    results = table.to_pylist()
    for index in (0, 2):
        assert results[index]["label"] == expected[index]["label"]
        assert results[index]["confidence"] == expected[index]["confidence"]
        probabilities = {name: results[index][f"probability_{name}"] for name in model.class_names}
        assert probabilities == expected[index]["probabilities"]
        assert len(results[index]["prediction_id"]) > 20
        assert results[index]["error"] is None
    assert results[1]["error"] == expected[1]["error"]["message"]
    assert (results[1]["error_column"], results[1]["error_reason"]) == (model.features[0].name, "missing")
    assert {results[1][name] for name in ("prediction_id", "label", "confidence")} == {None}
    failed = served.client.post(PATH, content=b"{", headers=accept)
    assert (failed.status_code, failed.json()["error"]["type"]) == (400, "malformed_request")


def test_results_of_a_regressor_have_values_and_ids(model: Model) -> None:
    """External IDs are a column if the request has them."""
    regressor = replace(
        model, schema=MIXED_SCHEMA, as_frame=True, task="regressor", classes=None, details_fn=None,
        predict_fn=lambda matrix: [ModelOutput(value=float(rooms)) for rooms in matrix["rooms"]],
    )  # fmt: skip
    table = table_of(FRAME.head(2)).replace_schema_metadata({"modeltrace": '{"ids": ["a", null]}'})
    with records_service(regressor) as service:
        response = post(service, stream(table), ARROW_TYPE, ARROW_TYPE)

    with pyarrow.ipc.open_stream(response.content) as reader:
        results = reader.read_all()
    assert results.column("value").to_pylist() == [2.0, 3.0]
    assert results.column("id").to_pylist() == ["a", None]
    assert results.schema.field("value").type == pa.float64()


WIDE = pa.table({f"f{index}": [1.0] for index in range(100)})
ONE = pa.table({"age": [1.0]})
BOMB = pa.table({"city": pa.array(["x" * 2**16] * 900).dictionary_encode()})
INVALID: dict[str, tuple[str, bytes, str]] = {
    "not Arrow": ("arrow", b"not a stream", "the body is not an Arrow IPC stream"),
    "empty": ("arrow", b"", "the body is not an Arrow IPC stream"),
    "JSON": ("arrow", b'{"rows": []}', "the body is not an Arrow IPC stream"),
    "an Arrow file": ("arrow", b"ARROW1\0\0", "in Arrow's file format"),
    "cut off": ("arrow", stream(ONE)[:-60], "the body is not an Arrow IPC stream"),
    "compressed buffers": ("arrow", stream(pa.table({"age": [1.0] * 99}), "zstd"), "compressed buffers"),
    "not Parquet": ("parquet", b"not a file", "the body is not Parquet"),
    "cut-off Parquet": ("parquet", parquet(ONE)[:-9], "the body is not Parquet"),
    **{
        f"{name}, {format_name}": (format_name, FORMATS[format_name][1](table), message)
        for format_name in FORMATS
        for name, table, message in (
            ("a list", pa.table({"age": [[1.0]]}), 'the column "age" has the type list<'),
            ("a struct", pa.table({"age": [{"a": 1}]}), 'the column "age" has the type struct<'),
            ("bytes", pa.table({"age": [b"a"]}), 'the column "age" has the type binary'),
            ("many columns", WIDE, "the body has 100 columns, the model has 4"),
        )
    },
    "a view": ("arrow", stream(pa.table({"age": pa.array(["a"], pa.string_view())})), "has the type string_view"),
    "runs": ("arrow", stream(pa.table({"age": pa.RunEndEncodedArray.from_arrays([3], ["a"])})), "run_end_encoded"),
    "names twice": ("arrow", stream(pa.table([[1.0], [2.0]], names=["age", "age"])), "two columns have the same name"),
    "an unknown time zone": (
        "arrow", stream(pa.table({"age": pa.array([0], pa.timestamp("s", "Mars/Olympus"))})),
        'the column "age" has the unknown time zone \'Mars/Olympus\'; send a name of the IANA database',
    ),
    "a year after 9999": (
        "arrow", stream(pa.table({"age": pa.array([2**60], pa.timestamp("s"))})), "the body is not an Arrow IPC stream",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_invalid_bodies_are_rejected(case: str) -> None:
    """The message says what is wrong."""
    format_name, body, message = INVALID[case]

    with pytest.raises(RequestError) as caught:
        READERS[format_name](body, MIXED_SCHEMA, LIMITS)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_invalid_offsets_are_rejected() -> None:
    """Values are read only after the offsets of texts have been checked."""
    body = stream(pa.table({"city": ["Bonn", "Trier"]}))
    offsets = np.array([0, 4, 9], "<i4").tobytes()
    assert offsets in body
    for changed in ([0, 4, 2**30], [0, 9, 4], [-5, 4, 9]):
        with pytest.raises(RequestError, match="the body is not an Arrow IPC stream"):
            rows_from_arrow(body.replace(offsets, np.array(changed, "<i4").tobytes()), MIXED_SCHEMA, LIMITS)


@pytest.mark.parametrize("format_name", FORMATS)
def test_limits_apply_before_values_are_converted(service: RecordsService, format_name: str) -> None:
    """Too many rows, and columns that are much larger than the body, are answered with 413."""
    media_type, encode = FORMATS[format_name]
    nulls = pa.table({"age": pa.nulls(51)})
    large = pa.table({"city": ["x" * 2**16] * 40})
    content = {
        "rows": encode(nulls),
        "bytes": encode(large) if format_name == "arrow" else parquet(large, compression="zstd", use_dictionary=False),
    }
    for name, setting in (("rows", "MODELTRACE_MAX_BATCH_ROWS"), ("bytes", "MODELTRACE_MAX_BODY_BYTES")):
        response = post(service, content[name], media_type)
        assert (response.status_code, setting in response.json()["error"]["message"]) == (413, True), response.text
    if format_name == "parquet":
        assert len(content["bytes"]) < 10_000


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_text_that_is_repeated_exists_once(format_name: str) -> None:
    """A dictionary of one large text and many rows does not become as many texts."""
    bodies = {"arrow": stream(BOMB), "parquet": parquet(BOMB, store_schema=False)}

    batch = READERS[format_name](bodies[format_name], MIXED_SCHEMA, LIMITS)

    assert len({id(row["city"]) for row in batch.rows}) == 1
    assert len(batch.rows) == 900


@example(position=532, value=42, format_name="parquet")  # the size statistics of a column contradict its type
@example(position=790, value=9, format_name="parquet")
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), format_name=st.sampled_from([*FORMATS]))
def test_a_changed_byte_is_read_or_rejected(position: int, value: int, format_name: str) -> None:
    """No body fails in another way than with an error for the client."""
    body = bytearray(FORMATS[format_name][1](table_of(FRAME)))
    body[position % len(body)] = value
    try:
        batch = READERS[format_name](bytes(body), MIXED_SCHEMA, LIMITS)
    except RequestError:
        return
    assert all(isinstance(row, dict) for row in batch.rows)


def test_times_become_text() -> None:
    """A date for a text feature is its ISO form."""
    table = pa.table({"city": pa.array([dt.date(2026, 1, 2)])})

    assert [*rows_from_arrow(stream(table), MIXED_SCHEMA, LIMITS).rows] == [{"city": "2026-01-02"}]
