"""`modeltrace.Client` and `AsyncClient`: typed answers, values of a request, the caller's trace."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import modeltrace
from modeltrace.client import batches
from modeltrace.client.client import AsyncClient, Client
from modeltrace.client.messages import FeedbackResult, Prediction, ServiceError
from modeltrace.client.service import UnreachableError
from modeltrace.errors import InvalidFeaturesError, MalformedRequestError
from modeltrace.inference.model import Model
from tests.helpers.client_calls import PREDICTED, Call, Respond, Responses, predicted
from tests.helpers.in_process_services import RecordsService, records_service
from tests.helpers.processes import free_port

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736


@pytest.fixture
def live(model: Model) -> Iterator[RecordsService]:
    """A service in this process."""
    with records_service(model) as service:
        yield service


def through(service: RecordsService) -> Respond:
    """Return a function that passes requests to a service."""

    def respond(request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name in ("content-type", "traceparent")}
        answer = service.client.request(
            request.method, str(request.url.raw_path, "ascii"), content=request.content, headers=headers
        )
        return httpx.Response(answer.status_code, content=answer.content)

    return respond


def test_predictions_of_the_service(call: Call, live: RecordsService, rows: list[dict[str, float]]) -> None:
    """A single prediction and a batch have the values that the service answers."""
    respond = through(live)
    answer = live.client.post("/predict", json={"features": rows[0]}).json()

    single = call("predict", (rows[0],), respond)
    batch = call("predict_batch", (rows[:3],), respond)

    assert isinstance(single, Prediction)
    assert (single.label, single.confidence, single.value) == (answer["label"], answer["confidence"], None)
    assert (single.model_name, single.model_version) == (answer["model"]["name"], answer["model"]["version"])
    assert single.trace_id is not None
    assert single.prediction_id != answer["prediction_id"]
    assert [type(prediction) for prediction in batch] == [Prediction] * 3
    assert (batch[0].label, batch[0].confidence) == (single.label, single.confidence)
    assert len({prediction.trace_id for prediction in batch}) == 1
    assert call("model", (), respond).name == answer["model"]["name"]


def test_data_frame_and_its_rows(call: Call, live: RecordsService, rows: list[dict[str, float]]) -> None:
    """A pandas data frame is a batch, and one of its rows is a row."""
    respond, frame = through(live), pd.DataFrame(rows[:3])

    batch = call("predict_batch", (frame,), respond)
    single = call("predict", (frame.iloc[1],), respond)

    assert batch[1].label == single.label
    assert [p.confidence for p in batch] == [p.confidence for p in call("predict_batch", (rows[:3],), respond)]


def test_rows_that_violate_the_schema(call: Call, live: RecordsService, rows: list[dict[str, float]]) -> None:
    """A single row raises the error with all violations; in a batch it has the error in its place."""
    name = next(iter(rows[0]))
    bad = {**rows[0], name: "text"}

    with pytest.raises(InvalidFeaturesError, match=f"{name}: expected a number, got a string") as raised:
        call("predict", (bad,), through(live))
    good, rejected = call("predict_batch", ([rows[0], bad],), through(live))

    assert isinstance(good, Prediction)
    assert isinstance(rejected, InvalidFeaturesError)
    assert rejected.violations == raised.value.violations
    assert [(violation.feature, violation.reason) for violation in rejected.violations] == [(name, "type")]


def test_feedback(call: Call, rows: list[dict[str, float]], model: Model, tmp_path: Any) -> None:
    """A true label is new, then the same; another label of the prediction, and an unknown ID, are errors."""
    with records_service(model, store=str(tmp_path / "s.db")) as live:
        respond = through(live)
        prediction = call("predict", (rows[0],), respond)
        others = [label for label in model.classes or () if label != prediction.label]

        first = call("feedback", (prediction.prediction_id, prediction.label), respond)
        again, conflict, unknown = call(
            "feedback_batch",
            (
                [(prediction.prediction_id, label) for label in (prediction.label, others[0])]
                + [("unknown", others[0])],
            ),
            respond,
        )

        assert first == FeedbackResult(prediction.prediction_id, "new", prediction.trace_id)
        assert again == FeedbackResult(prediction.prediction_id, "same", prediction.trace_id)
        assert (conflict.error_type, unknown.error_type) == ("label_conflict", "unknown_prediction")
        with pytest.raises(ServiceError, match="another label"):
            call("feedback", (prediction.prediction_id, others[0]), respond)


def test_request_carries_the_trace_of_the_caller(
    call: Call, live: RecordsService, rows: list[dict[str, float]]
) -> None:
    """The prediction belongs to the caller's trace; without a span, the request has no trace context."""
    span = NonRecordingSpan(SpanContext(TRACE_ID, 0x00F067AA0BA902B7, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(span):
        prediction = call("predict", (rows[0],), through(live))
    other = call("predict", (rows[0],), through(live))
    responses = Responses(predicted())
    call("predict", ({"a": 1},), responses)

    assert prediction.trace_id == f"{TRACE_ID:032x}"
    assert other.trace_id != prediction.trace_id
    assert "traceparent" not in responses.requests[0].headers


def test_probabilities(call: Call, live: RecordsService, rows: list[dict[str, float]]) -> None:
    """On request, a prediction has the probability of each class, which the service returns only then."""
    respond = through(live)
    plain = call("predict", (rows[0],), respond)
    single = call("predict", (rows[0],), respond, probabilities=True)
    (batch,) = call("predict_batch", (rows[:1],), respond, probabilities=True)
    (off,) = call("predict_batch", (rows[:1],), respond, probabilities=False)

    assert plain.probabilities is off.probabilities is None
    assert single.probabilities == batch.probabilities
    assert single.probabilities[single.label] == single.confidence
    assert sum(single.probabilities.values()) == pytest.approx(1.0)


def test_external_ids(call: Call, rows: list[dict[str, float]]) -> None:
    """The caller's IDs are sent with the rows, in each request those of its rows, and are in the predictions."""
    model, bodies = PREDICTED["model"], []

    def respond(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        bodies.append(body)
        if "items" in body:
            results = [{"prediction_id": "p", "status": "new", "trace_id": None} for _ in body["items"]]
            return httpx.Response(200, json={"results": results, "trace_id": None})
        if "features" in body:
            return httpx.Response(200, json={**PREDICTED, "id": body["id"]})
        predictions = [{"prediction_id": "p", "value": 1.0, "id": name} for name in body["ids"]]
        return httpx.Response(200, json={"predictions": predictions, "model": model, "trace_id": None})

    ids = [f"order {number}" for number in range(2500)]

    assert call("predict", (rows[0],), respond, external_id="order").external_id == "order"
    batch = call("predict_batch", ([rows[0]] * 2500,), respond, external_ids=ids)
    assert [prediction.external_id for prediction in batch] == ids
    assert [len(body["ids"]) for body in bodies[1:]] == [1000, 1000, 500]
    assert not [body for body in bodies if "tags" in body]
    call("feedback", ("order", "yes"), respond, by_external_id=True)
    assert bodies[-1] == {"items": [{"id": "order", "label": "yes"}]}
    with pytest.raises(MalformedRequestError, match="there are 1 rows and 2 external IDs"):
        call("predict_batch", (rows[:1],), respond, external_ids=["a", "b"])


def test_tags(call: Call, rows: list[dict[str, float]], model: Model) -> None:
    """Tags that the service declares are accepted with a row and with a batch; others are the service's error."""
    with records_service(model, tags="channel") as live:
        respond = through(live)
        call("predict", (rows[0],), respond, tags={"channel": "web"})
        call("predict_batch", (rows[:2],), respond, tags={"channel": "shop"})
        with pytest.raises(ServiceError, match="answers 4"):
            call("predict", (rows[0],), respond, tags={"unknown": "x"})
        recorded = [request.tags for request in live.queue.requests if request.predictions]

    assert [dict(tags) for tags in recorded] == [{"channel": "web"}, {"channel": "shop"}]


def as_polars(frame: pd.DataFrame) -> Any:
    """Return an object that converts itself to Arrow, as a data frame of polars does."""
    return type("Frame", (), {"to_arrow": lambda _: pa.Table.from_pandas(frame, preserve_index=False)})()


@pytest.mark.parametrize("convert", [pd.DataFrame, as_polars, pa.Table.from_pandas], ids=["pandas", "polars", "arrow"])
def test_tables_are_sent_as_arrow(
    call: Call, rows: list[dict[str, float]], model: Model, convert: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions, IDs and tags of each row are those of JSON, also in several requests."""
    monkeypatch.setattr(batches, "BATCH_ROWS", 2)
    frame = pd.DataFrame(rows[:3])
    frame.loc[1, "mean_area"] = np.nan
    options = {"external_ids": ["a", None, "c"], "tags": [{"channel": "web"}, None, {"channel": "shop"}]}
    types = []

    with records_service(model, tags="channel") as live:

        def respond(request: httpx.Request) -> httpx.Response:
            types.append(request.headers["content-type"])
            return through(live)(request)

        json_batch = call("predict_batch", (frame,), respond, **options)
        arrow_batch = call("predict_batch", (convert(frame),), respond, arrow=True, **options)
        tags = [request.row_tags for request in live.queue.requests]

    assert types == ["application/json"] * 2 + ["application/vnd.apache.arrow.stream"] * 2
    assert tags[:2] == tags[2:] == [((("channel", "web"),), ()), ((("channel", "shop"),),)]
    for expected, prediction in zip(json_batch, arrow_batch, strict=True):
        if isinstance(expected, InvalidFeaturesError):
            assert prediction.violations == expected.violations
        else:
            assert (prediction.label, prediction.confidence) == (expected.label, expected.confidence)
            assert prediction.external_id == expected.external_id
    assert isinstance(arrow_batch[1], InvalidFeaturesError)


@pytest.mark.parametrize("rows", [[{"a": 1}], pd.DataFrame({"a": [1, "x"]}), 7], ids=["rows", "mixed", "a number"])
def test_other_rows_cannot_be_sent_as_arrow(call: Call, rows: Any) -> None:
    """Only tables whose columns have one type can."""
    with pytest.raises(MalformedRequestError, match="cannot be sent as Arrow"):
        call("predict_batch", (rows,), predicted(), arrow=True)
    with pytest.raises(MalformedRequestError, match="there are 1 rows and 2 tags"):
        call("predict_batch", ([{"a": 1}],), predicted(), tags=[None, None])


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_key_that_no_header_can_carry_is_not_in_the_error(client: Callable[..., object]) -> None:
    """The error comes before any request. White space around a key is removed."""
    for key in ("sekret\n0123456789", "sekret-\u00fc\u00fc"):
        with pytest.raises(ValueError, match="api_key") as caught:
            client(api_key=key)
        assert "sekret" not in str(caught.value)
    client(api_key="sekret-0123456789\n")


def test_large_batches_are_divided(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has a limited number of rows, and the predictions stay in order."""
    monkeypatch.setattr(batches, "BATCH_ROWS", 4)
    sizes = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content)["rows"]
        sizes.append(len(sent))
        predictions = [{"prediction_id": str(row["a"]), "value": float(row["a"])} for row in sent]
        return httpx.Response(200, json={"predictions": predictions, "model": PREDICTED["model"], "trace_id": None})

    predictions = call("predict_batch", (({"a": number} for number in range(10)),), respond)

    assert sizes == [4, 4, 2]
    assert [prediction.value for prediction in predictions] == [float(number) for number in range(10)]


def test_values_of_a_request(call: Call) -> None:
    """NumPy's and pandas' values are sent as JSON has them: missing values as null, the key as a header."""
    row = {
        "int": np.int64(3), "float": np.float32(0.5), "bool": np.bool_(1), "text": np.str_("x"), "nan": float("nan"),
        "na": pd.NA, "nat": pd.NaT, "none": None, "decimal": Decimal("1.5"), 5: 1,
    }  # fmt: skip
    responses = Responses(predicted())

    call("predict", (row,), responses)

    (request,) = responses.requests
    assert json.loads(request.content)["features"] == {
        "int": 3, "float": 0.5, "bool": True, "text": "x", "nan": None, "na": None, "nat": None, "none": None,
        "decimal": 1.5, "5": 1,
    }  # fmt: skip
    assert request.headers["authorization"] == "Bearer a key of the tests"
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("value", "message"), [(float("inf"), "a: a number must be finite"), (object(), "as JSON")])
def test_values_that_json_does_not_have(call: Call, value: object, message: str) -> None:
    """Nothing is sent."""
    with pytest.raises(MalformedRequestError, match=message):
        call("predict", ({"a": value},), Responses())


def test_service_that_does_not_exist() -> None:
    """The error names the address and how to start a service."""
    url = f"http://127.0.0.1:{free_port()}"
    with modeltrace.Client(url, retries=0) as client, pytest.raises(UnreachableError, match="modeltrace serve"):
        client.predict({"a": 1})
    with pytest.raises(UnreachableError, match="is not an address"):
        modeltrace.Client("ftp://x")
